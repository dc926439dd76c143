"""Deleting evidence after the time it must be kept: whole sealed chains, each with its trace left in the ledger.

The ledger marks first and the warehouse deletes after, so that a crash between the two leaves
rows too many and never a loss without a record; the next pruning deletes them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import pyarrow as pa

from leadscrub_pipeline.errors import FailedError, RefusedError, UsageError
from leadscrub_pipeline.ledger import Ledger
from leadscrub_pipeline.ledger.evidence_roots import Chain
from leadscrub_pipeline.ledger.pruning import Pruning
from leadscrub_pipeline.warehouse.protocol import Warehouse
from leadscrub_pipeline.warehouse.schema import SCRUB_EVIDENCE

RETENTION_YEARS: Final = 5
"""Records of the process and of the registry version used (16 CFR 310.5 as amended 2024, 89 FR 26760)."""

_LONGEST_REASON: Final = 500

# An answer that still counts is what a published FALSE stands on.
_PAST: Final = f"""
SELECT run_id, asset, COUNT(*), MIN(checked_at), MAX(checked_at)
FROM {SCRUB_EVIDENCE.full_name}
GROUP BY run_id, asset
HAVING MAX(checked_at) < ? AND MAX(valid_until) <= ?
ORDER BY 4, 1, 2
"""

_CHAINS: Final = pa.schema([("run_id", pa.string()), ("asset", pa.string())])

_DELETE: Final = f"""
DELETE FROM {SCRUB_EVIDENCE.full_name}
WHERE run_id || '|' || asset IN (SELECT run_id || '|' || asset FROM {{stage}})
"""


@dataclass(frozen=True, slots=True)
class PastChain:
    """A sealed chain whose last check was made before the date. Times as tables hold them."""

    run_id: str
    asset: str
    script: str
    rows: int
    first_checked_at: datetime
    last_checked_at: datetime
    is_marked: bool
    """An earlier pruning marked it and did not come to delete its rows."""


def require_allowed(before: datetime, *, now: datetime, less_than_five_years: bool, reason: str | None) -> None:
    """Whether evidence made before this date may be deleted at all.

    Raises:
        RefusedError: some of it would be younger than five years, and this was not ordered with a reason.
        UsageError: the date is in the future, or the reason is no line of text.
    """
    if before > now:
        raise UsageError("--before lies in the future. Give a date that is over.")
    if reason is not None and (not reason.strip() or len(reason) > _LONGEST_REASON or not reason.isprintable()):
        raise UsageError(f"--reason is one line of at most {_LONGEST_REASON} characters.")
    kept_until = years_before(now, RETENTION_YEARS)
    if before > kept_until and not (less_than_five_years and reason is not None):
        raise RefusedError(
            f"Evidence made since {kept_until:%Y-%m-%d} must be kept: five years (16 CFR 310.5). Give an earlier date; "
            "or, where counsel has decided otherwise, give --less-than-five-years and --reason TEXT together."
        )


def years_before(moment: datetime, years: int) -> datetime:
    """The same day so many years earlier; the last of February for a 29th that there was not."""
    try:
        return moment.replace(year=moment.year - years)
    except ValueError:
        return moment.replace(year=moment.year - years, day=28)


def past_chains(warehouse: Warehouse, ledger: Ledger, *, before: datetime, now: datetime) -> list[PastChain]:
    """Chains that may go: closed, sealed to their last row, checked before the date, and backing no answer any more."""
    with warehouse.session() as session:
        found = session.rows(_PAST, [before, now])
    chains = {(chain.run_id, chain.asset): chain for chain in ledger.chains()}
    past = []
    for run_id, asset, rows, first, last in found:
        chain = chains.get((run_id, asset))
        if chain is not None and _is_whole(chain, rows):
            past.append(PastChain(run_id, asset, chain.partition_key, rows, first, last, chain.pruned_at is not None))
    return past


def _is_whole(chain: Chain, rows: int) -> bool:
    return not chain.is_open and chain.row_count == rows


def prune(
    warehouse: Warehouse, ledger: Ledger, past: Sequence[PastChain], *, before: datetime, reason: str | None
) -> Pruning | None:
    """Delete the chains' rows, for good; None when all were marked before and only the rows were left.

    Raises:
        FailedError: a chain changed since it was found.
    """
    new = [(chain.run_id, chain.asset, chain.rows) for chain in past if not chain.is_marked]
    pruning = ledger.mark_pruned(new, before=before.isoformat(), reason=reason) if new else None
    with warehouse.session() as session:
        stage = session.create_stage("past_chains", _CHAINS)
        names = [{"run_id": chain.run_id, "asset": chain.asset} for chain in past]
        session.load(stage, pa.Table.from_pylist(names, schema=_CHAINS))
        with session.transaction():
            deleted = session.execute(_DELETE.format(stage=stage))
            expected = sum(chain.rows for chain in past)
            if deleted != expected:
                raise FailedError(
                    f"{deleted:,} rows would have been deleted and {expected:,} are sealed, so none was. "
                    "Run leadscrub evidence verify."
                )
        session.drop_stage(stage)
    return pruning
