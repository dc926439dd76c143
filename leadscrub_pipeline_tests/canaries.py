"""Marked values that go through a deployment, and the channels in which none of them may be found.

A channel is read as an operator, a backup or an intruder would read it: rows of the databases
as text, files as bytes. What is done with the deployment stands in ``test_canaries.py``.
"""

import base64
import json
import re
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import dagster as dg
import httpx

from leadscrub_pipeline.domain.people import Person
from leadscrub_pipeline.settings import load_settings
from leadscrub_pipeline.simulators.contacts import contact_of
from leadscrub_pipeline.vendors.ntfy import NtfyClient
from leadscrub_pipeline_tests.cli_deployment import Deployment

FIRST, LAST, STREET, CITY, NOTE = "Quillomena", "Brackenthwaite", "Zanzivar", "Xylophia", "Vandersnoot"
ANSWER_KEY: Final = base64.urlsafe_b64encode(b"canary-key-of-thirty-two-bytes-1").decode()
Lead = tuple[object, ...]
MEANT: Final = ("warehouse.duckdb",)
"""The only file of the home that may hold a person: it is the tables."""


def marked_people(count: int, *, start: int) -> list[Lead]:
    return [
        (FIRST, LAST, f"{number} {STREET} Court", CITY, "IL", f"{62701 + number % 90}", f"{NOTE} {number}")
        for number in range(start, start + count)
    ]


@dataclass
class World:
    """A deployment, what its people and secrets are, and all that was seen of it from outside."""

    deployment: Deployment
    temp: Path
    people: list[Lead] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    """What commands wrote, standard output and standard error."""
    statements: list[str] = field(default_factory=list)
    """Text of every statement that went through a session of the warehouse."""

    @property
    def home(self) -> Path:
        return self.deployment.home

    def phones(self) -> set[str]:
        return {phone.digits for contact in self._contacts() for phone in contact.phones}

    def canaries(self) -> dict[str, set[str]]:
        """All marked values, by what they are."""
        environment = self.deployment.environment
        client, secret = environment["IDICORE_CLIENT_ID"], environment["IDICORE_CLIENT_SECRET"]
        return {
            "names": {FIRST, LAST},
            "addresses": {STREET, CITY},
            "further columns": {NOTE},
            "phones": self.phones(),
            "e-mails": {email for contact in self._contacts() for email in contact.emails},
            "keys": {
                secret,
                environment["CCC_API_KEY"],
                environment["NTFY_TOKEN"],
                environment["NTFY_TOPIC_ERRORS"],
                ANSWER_KEY,
                base64.b64encode(f"{client}:{secret}".encode()).decode(),
            },
            "tokens": set(self.deployment.simulators.idicore._tokens),
        }

    def _contacts(self) -> Iterator[Any]:
        simulator = self.deployment.simulators.idicore
        return (
            contact_of(Person(*map(str, row[:6])), seed=simulator.seed, space=simulator.space) for row in self.people
        )

    def detector(self) -> "Detector":
        return Detector(self.canaries())


_PHONE: Final = re.compile(r"(?<!\d)1?\(?(\d{3})\)?[-. ]?555[-. ]?(01\d\d)(?!\d)")


class Detector:
    """Finds marked values in text and bytes, phones in the forms in which people and programs write them."""

    def __init__(self, canaries: dict[str, set[str]]) -> None:
        self._phones = canaries["phones"]
        self._words = {word.lower() for kind, values in canaries.items() if kind != "phones" for word in values}

    def find(self, piece: str | bytes) -> str | None:
        """The first marked value with what stands around it."""
        text = piece.decode("latin-1") if isinstance(piece, bytes) else piece
        lower = text.lower()
        places = [lower.find(word) for word in self._words if word in lower]
        places += [
            found.start()
            for found in (_PHONE.finditer(text) if "555" in text else ())
            if f"{found[1]}555{found[2]}" in self._phones
        ]
        return repr(text[max(0, min(places) - 60) : min(places) + 60]) if places else None


@dataclass(frozen=True)
class Channel:
    """Somewhere a value may get out: how it is read, and how a test puts a marked value there."""

    name: str
    read: Callable[[World], Iterable[str | bytes]]
    plant: Callable[[World], object]

    def findings(self, world: World, detector: Detector) -> list[str]:
        return [found for piece in self.read(world) if (found := detector.find(piece)) is not None]


# --- reading ----------------------------------------------------------------------------


def _rows(path: Path) -> Iterator[str]:
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        for (table,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall():
            for row in connection.execute(f'SELECT * FROM "{table}"'):
                yield " ".join(value.decode("latin-1") if isinstance(value, bytes) else str(value) for value in row)


def _dagster_rows(folder: str) -> Callable[[World], Iterator[str]]:
    def read(world: World) -> Iterator[str]:
        files = sorted((world.home / "dagster" / folder).rglob("*.db"))
        assert files, folder
        for path in files:
            yield from _rows(path)

    return read


def _run_records(world: World) -> Iterator[str]:
    with world.deployment.instance() as instance:
        for run in instance.get_runs():
            yield repr((run.tags, run.run_config, run.job_name))


def _events(world: World) -> Iterator[dg.EventLogEntry]:
    with world.deployment.instance() as instance:
        for run in instance.get_runs():
            yield from instance.all_logs(run.run_id)


def _metadata(world: World) -> Iterator[str]:
    with world.deployment.instance() as instance:
        for key in instance.all_asset_keys():
            for record in instance.fetch_materializations(key, limit=1000).records:
                yield repr(record.asset_materialization)
            for record in instance.fetch_observations(key, limit=1000).records:
                yield repr(record.event_log_entry)


def _errors(world: World) -> Iterator[str]:
    """Every error that Dagster keeps, with its causes and tracebacks, as the UI shows them."""
    for event in _events(world):
        data = getattr(event.dagster_event, "event_specific_data", None)
        error = getattr(data, "error", None)
        while error is not None:
            yield error.to_string()
            error = error.cause or error.context


def _compute_logs(world: World) -> Iterator[bytes]:
    for path in sorted((world.home / "dagster" / "storage").rglob("*")):
        if path.is_file():
            yield path.read_bytes()


def _ledger(world: World) -> Iterator[str | bytes]:
    yield from _rows(world.home / "ledger.sqlite")
    for path in world.home.glob("ledger.sqlite*"):
        yield path.read_bytes()


def _other_files(world: World) -> Iterator[str | bytes]:
    """All of the home but the tables' own file; names of files and folders too."""
    for path in sorted(world.home.rglob("*")):
        yield str(path.relative_to(world.home))
        if path.is_file() and not path.name.startswith(MEANT):
            yield path.read_bytes()


def _temporary(world: World) -> Iterator[str | bytes]:
    for path in sorted(world.temp.rglob("*")):
        yield path.name
        if path.is_file():
            yield path.read_bytes()


def _alerts(world: World) -> Iterator[str]:
    yield from (json.dumps({**each, "topic": ""}) for each in world.deployment.simulators.ntfy.messages)


def _addresses(world: World) -> Iterator[str]:
    simulators = world.deployment.simulators
    for vendor in (simulators.idicore, simulators.ccc, simulators.ntfy):
        yield from vendor.line.targets


# --- planting -----------------------------------------------------------------------------


def _plant_event(world: World) -> None:
    with world.deployment.instance() as instance:
        run = instance.get_runs()[0]
        instance.report_engine_event(f"Looking up {FIRST}", run)


def _plant_tag(world: World) -> None:
    with world.deployment.instance() as instance:
        instance.add_run_tags(instance.get_runs()[0].run_id, {"lead": LAST})


def _plant_metadata(world: World) -> None:
    with world.deployment.instance() as instance:
        (phone, *_) = sorted(world.phones())
        sample = f"({phone[:3]}) {phone[3:6]}-{phone[6:]}"
        instance.report_runless_asset_event(dg.AssetMaterialization("raw_leads", metadata={"sample": sample}))


def _plant_error(world: World) -> None:
    @dg.op
    def quoting() -> None:
        try:
            raise ValueError(f"Duplicate key: {FIRST} {LAST}")
        except ValueError as error:
            raise RuntimeError("the step failed") from error

    @dg.job
    def quoting_job() -> None:
        quoting()

    with world.deployment.instance() as instance:
        quoting_job.execute_in_process(instance=instance, raise_on_error=False)


def _plant_file(*parts: str) -> Callable[[World], object]:
    def plant(world: World) -> None:
        path = world.home.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"stored for {CITY}", encoding="utf-8")

    return plant


def _plant_in_ledger(world: World) -> None:
    (email, *_) = sorted(world.canaries()["e-mails"])
    with closing(sqlite3.connect(world.home / "ledger.sqlite")) as connection, connection:
        connection.execute("UPDATE ledger_lookups SET reason = ?", (email,))


def _plant_statement(world: World) -> None:
    world.statements.append(f"/* {NOTE} */ SELECT 1")


def _plant_temporary(world: World) -> None:
    with tempfile.NamedTemporaryFile("w", dir=world.temp, delete=False) as file:
        file.write(STREET)


def _plant_alert(world: World) -> None:
    assert NtfyClient(load_settings()).send("errors", "A run failed", f"at {LAST}")


def _plant_address(world: World) -> None:
    url, key = (world.deployment.environment[name] for name in ("CCC_API_URL", "CCC_API_KEY"))
    httpx.get(url, params={"loginId": key}, trust_env=False)


CHANNELS: Final = (
    Channel("event log", _dagster_rows("history/runs"), _plant_event),
    Channel("events as the UI reads them", lambda world: map(repr, _events(world)), _plant_event),
    Channel("run storage", _dagster_rows("history"), _plant_tag),
    Channel("run config and tags", _run_records, _plant_tag),
    Channel("materialization metadata", _metadata, _plant_metadata),
    Channel("tracebacks and causes", _errors, _plant_error),
    Channel("compute logs", _compute_logs, _plant_file("dagster", "storage", "run", "compute_logs", "step.err")),
    Channel("command-line output", lambda world: world.outputs, lambda world: world.outputs.append(f"{FIRST} done")),
    Channel("alerts", _alerts, _plant_alert),
    Channel("text of statements", lambda world: world.statements, _plant_statement),
    Channel("temporary files", _temporary, _plant_temporary),
    Channel("ledger", _ledger, _plant_in_ledger),
    Channel("other files of the home", _other_files, _plant_file("spill", "block.tmp")),
    Channel("addresses asked for", _addresses, _plant_address),
)


def readable_by_others(world: World) -> list[str]:
    """Files and folders under the home that somebody else may read: there must be none."""
    return [
        str(path.relative_to(world.home))
        for path in [world.home, *world.home.rglob("*")]
        if path.exists() and path.stat().st_mode & 0o077
    ]
