"""Preview: what scripts would select and what their lookups would cost. Pays for nothing and writes no table."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

import pyarrow as pa

from leadscrub_pipeline.deployment import lookup_terms, purpose_of
from leadscrub_pipeline.domain.scripts import LeadScript, find_script, read_scripts
from leadscrub_pipeline.domain.verdicts import utc_now
from leadscrub_pipeline.ledger import Busy, Cached, Held, Ledger, LookupTerms, ToAsk
from leadscrub_pipeline.settings import Settings
from leadscrub_pipeline.vendors.idicore import endpoint_of
from leadscrub_pipeline.warehouse.leads import LeadSelection, Selection
from leadscrub_pipeline.warehouse.protocol import Session, Warehouse

PAGE_ROWS: Final = 10_000

_PEOPLE: Final = pa.schema([("script", pa.string()), ("person", pa.string()), ("standing", pa.string())])
_STANDINGS: Final[dict[type, str]] = {Cached: "in_cache", ToAsk: "to_pay", Held: "held", Busy: "busy"}


@dataclass(frozen=True, slots=True)
class Forecast:
    """What one script, or several in turn, would do. ``overlap`` are people whom an earlier one keeps as well."""

    script: str
    selected: int
    rejected: int
    rejected_by_reason: dict[str, int]
    duplicate: int
    already_processed: int
    kept: int
    in_cache: int
    to_pay: int
    held: int
    busy: int
    cost: Decimal | None
    overlap: int = 0

    def as_dict(self) -> dict[str, object]:
        """Plain values for JSON; the cost is text, to the cent and beyond."""
        return {
            **{name: getattr(self, name) for name in _COLUMNS},
            "rejected_by_reason": self.rejected_by_reason,
            "estimated_cost": None if self.cost is None else str(self.cost),
        }

    def sentence(self) -> str:
        cost = "at an unknown price (IDICORE_PRICE_PER_LOOKUP)" if self.cost is None else f"for {self.cost} dollars"
        return (
            f"{self.script}: {self.selected:,} selected, {self.rejected:,} rejected, {self.duplicate:,} duplicate, "
            f"{self.already_processed:,} already processed, {self.kept:,} kept; {self.in_cache:,} in cache, "
            f"{self.to_pay:,} to be paid {cost}."
        )


_COLUMNS: Final = (
    "script",
    "selected",
    "rejected",
    "duplicate",
    "already_processed",
    "overlap",
    "kept",
    "in_cache",
    "to_pay",
    "held",
    "busy",
)


@dataclass(frozen=True, slots=True)
class Preview:
    scripts: list[Forecast]
    union: Forecast

    @property
    def rows(self) -> list[Forecast]:
        return [*self.scripts, self.union]

    def markdown(self) -> str:
        header = (*_COLUMNS, "estimated_cost")
        lines = [" | ".join(header), " | ".join("---" for _ in header)]
        lines += [" | ".join(str(row.as_dict()[name]) for name in header) for row in self.rows]
        return "\n".join(f"| {line} |" for line in lines)


def preview_scripts(keys: Sequence[str], settings: Settings, warehouse: Warehouse, ledger: Ledger | None) -> Preview:
    """Preview the named scripts, or all of the folder, each alone and all in turn.

    Raises:
        UsageError: there is no such script.
        RefusedError: the guard or the purposes refuse one of them.
    """
    folder = settings.leadscrub_scripts
    scripts = [find_script(folder, key) for key in keys] if keys else read_scripts(folder)
    forecasts: list[Forecast] = []
    with warehouse.session(scripts=True) as session:
        people = session.create_stage("preview_people", _PEOPLE)
        for script in scripts:
            leads = LeadSelection(
                session,
                warehouse.dialect,
                script,
                now=utc_now(),
                filter_in_sql=settings.etl_use_database_filtering,
            )
            selection = leads.run()
            terms = lookup_terms(
                settings,
                endpoint=endpoint_of(settings),
                purpose=purpose_of(settings, script),
                run_id="preview",
                partition_key=script.key,
            )
            _stand(session, ledger, terms, script, leads.kept, people)
            forecasts.append(_forecast(session, settings, script, selection, people))
        union = _union(session, settings, forecasts, people)
    return Preview(forecasts, union)


def _stand(
    session: Session, ledger: Ledger | None, terms: LookupTerms, script: LeadScript, kept: str, people: str
) -> None:
    """Ask the ledger where each kept person stands, in pages; without one everybody is to be paid for."""
    last = 0
    while True:
        page = session.table(
            f"SELECT lead_number, person_key FROM {kept} WHERE lead_number > ? ORDER BY lead_number LIMIT {PAGE_ROWS}",
            [last],
        )
        if not page.num_rows:
            return
        last = page.column("lead_number")[-1].as_py()
        keys = page.column("person_key").to_pylist()
        standings = ledger.peek(keys, terms) if ledger is not None else dict.fromkeys(keys, ToAsk(1))
        rows = pa.table(
            [
                pa.array([script.key] * len(keys)),
                # Under another purpose a person is another lookup, unless answers are shared.
                pa.array([f"{terms.scope}:{key}" for key in keys]),
                pa.array([_STANDINGS[type(standings[key])] for key in keys]),
            ],
            schema=_PEOPLE,
        )
        session.load(people, rows)


def _forecast(session: Session, settings: Settings, script: LeadScript, selection: Selection, people: str) -> Forecast:
    standings = dict(
        session.rows(f"SELECT standing, COUNT(*) FROM {people} WHERE script = ? GROUP BY standing", [script.key])
    )
    return Forecast(
        script=script.key,
        rejected_by_reason=selection.rejected,
        cost=_cost(settings, standings.get("to_pay", 0)),
        **selection.counts,
        **{name: standings.get(name, 0) for name in _STANDINGS.values()},
    )


def _union(session: Session, settings: Settings, forecasts: list[Forecast], people: str) -> Forecast:
    standings = dict(session.rows(f"SELECT standing, COUNT(DISTINCT person) FROM {people} GROUP BY standing"))
    kept = int(session.rows(f"SELECT COUNT(DISTINCT person) FROM {people}")[0][0])
    reasons: dict[str, int] = {}
    for forecast in forecasts:
        for reason, count in forecast.rejected_by_reason.items():
            reasons[reason] = reasons.get(reason, 0) + count
    return Forecast(
        script="union",
        selected=sum(each.selected for each in forecasts),
        rejected=sum(each.rejected for each in forecasts),
        rejected_by_reason=reasons,
        duplicate=sum(each.duplicate for each in forecasts),
        already_processed=sum(each.already_processed for each in forecasts),
        overlap=sum(each.kept for each in forecasts) - kept,
        kept=kept,
        cost=_cost(settings, standings.get("to_pay", 0)),
        **{name: standings.get(name, 0) for name in _STANDINGS.values()},
    )


def _cost(settings: Settings, lookups: int) -> Decimal | None:
    price = settings.idicore_price_per_lookup
    return None if price is None else price * lookups
