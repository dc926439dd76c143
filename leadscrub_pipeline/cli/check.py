"""``leadscrub check``: ask all lists about single numbers, now, and say plainly what that means.

It stores nothing. What a run publishes is checked by the run, with its evidence.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Annotated, Final, Literal

import orjson
import typer

from leadscrub_pipeline.cli.output import DONE, FINDINGS, JsonOption, note, out, print_table, progress
from leadscrub_pipeline.deployment import deployment_kind, has_warehouse, open_registry, open_warehouse
from leadscrub_pipeline.domain.phones import parse_phone
from leadscrub_pipeline.domain.verdicts import Answer, Reason, Verdict, utc_now
from leadscrub_pipeline.errors import LeadscrubError, UnavailableError, UsageError
from leadscrub_pipeline.settings import Settings, load_settings
from leadscrub_pipeline.vendors.ccc import CccClient

Conclusion = Literal["may be called", "must not be called", "unknown"]

SOURCE_UNAVAILABLE: Final = "source_unavailable"
_NO_ANSWER: Final = frozenset({Reason.TIMEOUT, Reason.VENDOR_ERROR, Reason.NOT_JSON, Reason.WRONG_SHAPE})
"""Reasons that are about the vendor as a whole when every number has one of them."""


@dataclass(frozen=True, slots=True)
class CheckedNumber:
    """What both lists say of one number. Without ``phone`` it was not asked about, and ``problem`` says why."""

    number: str
    phone: str | None
    problem: str | None = None
    dnc: Verdict = Verdict.UNKNOWN
    dnc_reason: str | None = None
    list_version: str | None = None
    list_age_days: int | None = None
    litigator: Verdict = Verdict.UNKNOWN
    litigator_reason: str | None = None
    asked_not_to_call: bool | None = None
    """On the company's own list; None when that could not be read."""
    consent: str | None = None
    """Kind of a consent that stands."""

    @property
    def conclusion(self) -> Conclusion:
        if self.asked_not_to_call or self.litigator is Verdict.LISTED:
            return "must not be called"
        if self.dnc is Verdict.LISTED and self.consent is None:
            return "must not be called"
        if self.asked_not_to_call is None or Verdict.UNKNOWN in (self.dnc, self.litigator):
            return "unknown"
        return "may be called"


@dataclass(slots=True)
class Source:
    """What one source answered, and the error that kept it from answering in full."""

    answers: dict[str, Answer] = field(default_factory=dict)
    error: LeadscrubError | None = None
    warning: str | None = None
    list_version: str | None = None
    list_age_days: int | None = None

    def said(self, phone: str) -> tuple[Verdict, str | None]:
        answer = self.answers.get(phone)
        if answer is None:
            return Verdict.UNKNOWN, SOURCE_UNAVAILABLE
        return answer.verdict, answer.reason


@dataclass(slots=True)
class OwnSource:
    """What the company's own list and the consents say, and the error that kept them from being read."""

    asked_not_to_call: frozenset[str] = frozenset()
    consents: dict[str, str] = field(default_factory=dict)
    error: LeadscrubError | None = None


def check(
    numbers: Annotated[
        list[str],
        typer.Argument(
            metavar="NUMBER...",
            help="Phone numbers in any usual spelling; - reads them from standard input, one a line.",
        ),
    ],
    *,
    as_json: JsonOption = False,
) -> None:
    """Ask the Do-Not-Call registry, the litigator list and the company's own list about phone numbers, now.

    A number may be called only when all lists answered and it is on none, or on the registry alone and a consent
    stands. Nothing is stored, no evidence and no verdict, and what is known from earlier runs is not looked at:
    CALLABLE_PHONES also leaves out withdrawn rows, lines out of service and the dead. CCC is asked as a run asks it,
    control numbers included. With --json one object a line and number.

    Exit codes: 0 all may be called, 1 a number is listed or unknown, 2 a text is no number of the North American
    plan, 3 a source is unavailable (the other's answer is still shown), 4 refused by policy. The highest counts.
    """
    settings = load_settings()
    deployment_kind(settings)
    asked = _numbers(numbers)
    parsed = [(text, parse_phone(text)) for text in asked]
    phones = list(dict.fromkeys(phone.digits for _, phone in parsed if phone.digits is not None))
    with progress("Asking all lists"):
        registry = ask_registry(phones, settings) if phones else Source()
        litigators = ask_ccc(phones, settings) if phones else Source()
        own = ask_own_lists(phones, settings) if phones else OwnSource()
    checked = [
        CheckedNumber(text, None, problem=phone.reason)
        if phone.digits is None
        else _checked(text, phone.digits, registry, litigators, own)
        for text, phone in parsed
    ]
    if as_json:
        for number in checked:
            typer.echo(orjson.dumps({**asdict(number), "conclusion": number.conclusion}).decode())
    else:
        _show(checked, registry)
    for error in (registry.error, litigators.error, own.error):
        if error is not None:
            note(f"error: {error}")
    for source in (registry, litigators):
        if source.warning is not None:
            note(f"warning: {source.warning}")
    code = _exit_code(checked, registry.error, litigators.error, own.error)
    if code != DONE:
        raise typer.Exit(code)


def ask_registry(phones: Sequence[str], settings: Settings) -> Source:
    """The registry's answers; with ``DNC_ON_STALE_LIST=fail`` a list past its age counts as unavailable.

    A number found on a stale list is listed all the same.
    """
    source = Source()
    try:
        with open_registry(settings) as registry:
            source.list_version, source.list_age_days = registry.version.name, registry.age_days
            source.answers = registry.look_up(phones, batched=settings.dnc_use_batched_query)
            if settings.dnc_on_stale_list == "fail":
                registry.require_fresh()
    except LeadscrubError as error:
        source.error = error
    return source


def ask_own_lists(phones: Sequence[str], settings: Settings) -> OwnSource:
    """Who of them asked us not to call, and which consents stand."""
    from leadscrub_pipeline.warehouse.own_lists import consents_of, who_asked_not_to_call  # noqa: PLC0415 - help does without it

    source = OwnSource()
    if not has_warehouse(settings):
        return source
    try:
        with open_warehouse(settings).session() as session:
            source.asked_not_to_call = who_asked_not_to_call(session, phones)
            source.consents = consents_of(session, phones, utc_now())
    except LeadscrubError as error:
        source.error = error
    return source


def ask_ccc(phones: Sequence[str], settings: Settings) -> Source:
    """CCC's answers. When no number got one that is about itself, the vendor counts as unavailable."""
    source = Source()
    try:
        asyncio.run(_ask_ccc(phones, settings, source))
    except LeadscrubError as error:
        source.error = error
    else:
        reasons = {answer.reason for answer in source.answers.values()}
        if reasons and reasons <= _NO_ANSWER:
            source.error = UnavailableError(
                f"CCC did not answer ({', '.join(sorted(reason for reason in reasons if reason))}). "
                "Try again later; leadscrub doctor tells more."
            )
    return source


async def _ask_ccc(phones: Sequence[str], settings: Settings, source: Source) -> None:
    client = CccClient(settings)
    if not client.has_controls and not client.is_loopback:
        source.warning = "No control numbers are set (CCC_CONTROL_NUMBERS): an expired plan would not be noticed."
    async with client:
        for batch in client.batches(phones):
            result = await client.check(batch)
            source.answers |= result.answers
            if result.controls == "failed":
                source.warning = (
                    "CCC knew none of the control numbers: no number that it answered clear counts as clear."
                )
            elif result.controls == "some":
                source.warning = "CCC did not know all of the control numbers. See CCC_CONTROL_NUMBERS and the plan."


def _numbers(texts: Sequence[str]) -> list[str]:
    """The numbers of the command line in their order, each once; ``-`` stands for those of standard input."""
    numbers: list[str] = []
    for text in texts:
        if text == "-":
            lines = typer.get_binary_stream("stdin").read().decode("utf-8-sig", "replace").splitlines()
            numbers += [line.strip() for line in lines if line.strip()]
        else:
            numbers.append(text)
    if not numbers:
        raise UsageError("Standard input holds no number. Give one a line.")
    return list(dict.fromkeys(numbers))


def _checked(text: str, phone: str, registry: Source, litigators: Source, own: OwnSource) -> CheckedNumber:
    dnc, dnc_reason = registry.said(phone)
    litigator, litigator_reason = litigators.said(phone)
    return CheckedNumber(
        number=text,
        phone=phone,
        dnc=dnc,
        dnc_reason=dnc_reason,
        list_version=registry.list_version,
        list_age_days=registry.list_age_days,
        litigator=litigator,
        litigator_reason=litigator_reason,
        asked_not_to_call=None if own.error is not None else phone in own.asked_not_to_call,
        consent=own.consents.get(phone),
    )


def _exit_code(checked: Sequence[CheckedNumber], *errors: LeadscrubError | None) -> int:
    codes = [error.exit_code for error in errors if error is not None]
    codes += [UsageError.exit_code for number in checked if number.phone is None]
    codes += [FINDINGS for number in checked if number.conclusion != "may be called"]
    return max(codes, default=DONE)


def _show(checked: Sequence[CheckedNumber], registry: Source) -> None:
    rows: list[dict[str, object]] = [
        {
            "phone": number.phone or number.number,
            "registry": _said(number.dnc, number.dnc_reason, number),
            "litigator": _said(number.litigator, number.litigator_reason, number),
            "asked us not to": number.asked_not_to_call,
            "consent": number.consent,
            "conclusion": f"no number: {number.problem}" if number.phone is None else number.conclusion,
        }
        for number in checked
    ]
    print_table("Checked now, nothing stored", rows)
    if registry.list_version is not None:
        age = "of unknown age" if registry.list_age_days is None else f"{registry.list_age_days} days old"
        out.print(f"Do-Not-Call list {registry.list_version}, {age}", soft_wrap=True, markup=False)


def _said(verdict: Verdict, reason: str | None, number: CheckedNumber) -> str | None:
    if number.phone is None:
        return None
    return str(verdict) if reason is None else f"{verdict} ({reason})"
