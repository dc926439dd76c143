"""``leadscrub demo``: the whole scrub on demo data with simulated vendors, and the bill beside the ledger's sums."""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from leadscrub_pipeline.cli.demo_home import DEMO_HOME, DemoHome, demo_deployment
from leadscrub_pipeline.cli.output import FINDINGS, JsonOption, note, out, print_json, print_table
from leadscrub_pipeline.cli.run import exit_code, print_results, scrub
from leadscrub_pipeline.cli.script_arguments import chosen_scripts
from leadscrub_pipeline.deployment import open_ledger
from leadscrub_pipeline.settings import Settings, load_settings
from leadscrub_pipeline.simulators import BillEntry, read_bill
from leadscrub_pipeline.simulators.leads import CAMPAIGN, HOMEOWNERS, INQUIRIES

if TYPE_CHECKING:
    from leadscrub_pipeline.cli.scrub import Scrubbed

HomeOption = Annotated[Path, typer.Option("--home", metavar="FOLDER", help="The demo's own folder for its state.")]


@dataclass(frozen=True, slots=True)
class Account:
    """What the vendor billed and what the ledger settled, in all and by this invocation."""

    billed: int
    billed_dollars: Decimal
    billed_now: int
    billed_dollars_now: Decimal
    settled_dollars: Decimal
    settled_dollars_now: Decimal
    unknown_dollars: Decimal
    """Of requests whose outcome is unknown: they may have been billed on top of what is settled."""

    @property
    def agrees(self) -> bool:
        return self.settled_dollars <= self.billed_dollars <= self.settled_dollars + self.unknown_dollars


def demo(
    scripts: Annotated[
        list[str] | None, typer.Argument(metavar="SCRIPT...", help="Scripts to run. Default: the demo's three.")
    ] = None,
    *,
    home: HomeOption = DEMO_HOME,
    as_json: JsonOption = False,
) -> None:
    """The whole scrub on demo data with simulated vendors: no account, no network.

    Run it again, and nothing is paid for twice.
    """
    with demo_deployment(home) as deployment:
        settings = load_settings()
        keys = chosen_scripts(
            settings.leadscrub_scripts, scripts or [HOMEOWNERS, INQUIRIES, CAMPAIGN], everything=False
        )
        note(f"Scrubbing {', '.join(keys)} with simulated vendors.")
        before = len(_entries(deployment))
        results = list(scrub(keys, settings))
        account = _account(settings, _entries(deployment), before, results)
    code = exit_code(results) or (0 if account.agrees else FINDINGS)
    if as_json:
        print_json(
            {
                "scripts": [result.as_dict() for result in results],
                "account": asdict(account),
                "agrees": account.agrees,
            }
        )
        raise typer.Exit(code)
    print_results(results)
    _print_account(account)
    _print_next(deployment)
    raise typer.Exit(code)


def _entries(deployment: DemoHome) -> list[BillEntry]:
    return list(read_bill(deployment.bill)) if deployment.bill.exists() else []


def _account(settings: Settings, entries: Sequence[BillEntry], before: int, results: Sequence["Scrubbed"]) -> Account:
    with open_ledger(settings) as ledger:
        summary = ledger.summary()
    return Account(
        billed=len(entries),
        billed_dollars=_dollars(entry.cost for entry in entries),
        billed_now=len(entries) - before,
        billed_dollars_now=_dollars(entry.cost for entry in entries[before:]),
        settled_dollars=summary.cost,
        settled_dollars_now=_dollars(result.cost for result in results),
        unknown_dollars=summary.unknown_cost,
    )


def _dollars(amounts: Iterable[Decimal]) -> Decimal:
    return sum(amounts, Decimal("0.00"))


def _print_account(account: Account) -> None:
    print_table(
        "The vendor's bill and the ledger, in simulated dollars",
        [
            {
                "": "in all",
                "lookups_billed": account.billed,
                "billed": account.billed_dollars,
                "settled_in_the_ledger": account.settled_dollars,
            },
            {
                "": "this time",
                "lookups_billed": account.billed_now,
                "billed": account.billed_dollars_now,
                "settled_in_the_ledger": account.settled_dollars_now,
            },
        ],
    )
    if not account.agrees:
        out.print("The bill and the ledger do not agree. Please report this.")
    elif not account.billed_now:
        out.print("Nothing was paid for this time: whoever was looked up before is not paid for again.", soft_wrap=True)


def _print_next(deployment: DemoHome) -> None:
    program = _short(Path(sys.argv[0])) if sys.argv[0].endswith("leadscrub") else "leadscrub"
    steps = {
        "The same in Dagster's UI:": "make dev",
        "Or here, after:": f"export LEADSCRUB_ENV_FILE={_short(deployment.settings_file)}",
        "  what was published": f"{program} results list",
        "  what may be called": f"{program} results export --format csv --callable",
        "  what proves it": f"{program} evidence verify",
    }
    out.print()
    for what, how in steps.items():
        out.print(f"{what:<27}{how}", soft_wrap=True, markup=False)


def _short(path: Path) -> str:
    """Relative to here where that is shorter."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
