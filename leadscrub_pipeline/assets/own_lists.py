"""internal_dnc and consents: what people told us themselves, beside what the lists say of their numbers.

Entries come by the command line or as CSV files in a folder; materializing one of the assets takes
the files in. What an entry decides is told in the warehouse's view CALLABLE_PHONES.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from leadscrub_pipeline.assets.claims import claim
from leadscrub_pipeline.assets.common import (
    GROUP,
    OWNERS,
    TRY_AGAIN,
    counts_metadata,
    named_failures,
    reasons_metadata,
    table_metadata,
)
from leadscrub_pipeline.domain.verdicts import utc_now
from leadscrub_pipeline.resources import LedgerResource, SettingsResource, WarehouseResource
from leadscrub_pipeline.warehouse.schema import CONSENTS, INTERNAL_DNC

if TYPE_CHECKING:
    from leadscrub_pipeline.steps.own_list_files import Entry, Rejected
    from leadscrub_pipeline.warehouse.own_lists import OwnList

_CHECK = "every_line_is_taken"
_CLAIM = "Every line of the files was taken in, or is there already."


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"table", "csv"},
    pool="warehouse",
    retry_policy=TRY_AGAIN,
    metadata=table_metadata(INTERNAL_DNC),
    check_specs=[dg.AssetCheckSpec(_CHECK, asset="internal_dnc", description=_CLAIM)],
)
def internal_dnc(
    context: dg.AssetExecutionContext, settings: SettingsResource, warehouse: WarehouseResource, ledger: LedgerResource
) -> dg.MaterializeResult:
    """The company's own list: who asked us not to call. It beats every consent and every clear answer.

    Takes in the CSV files of INTERNAL_DNC_IMPORTS and sets the flags of published rows. Single numbers are added by
    leadscrub internal-dnc add, and count at once.
    """
    from leadscrub_pipeline.steps.own_list_files import read_requests
    from leadscrub_pipeline.warehouse.own_lists import COMPANY_LIST_ENTRIES

    with named_failures():
        folder = settings.load().internal_dnc_imports
    return _take_in(context, COMPANY_LIST_ENTRIES, folder, read_requests, warehouse, ledger)


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"table", "csv"},
    pool="warehouse",
    retry_policy=TRY_AGAIN,
    metadata=table_metadata(CONSENTS),
    check_specs=[dg.AssetCheckSpec(_CHECK, asset="consents", description=_CLAIM)],
)
def consents(
    context: dg.AssetExecutionContext, settings: SettingsResource, warehouse: WarehouseResource, ledger: LedgerResource
) -> dg.MaterializeResult:
    """Who may be called although the registry lists the number: consents in writing, transactions, inquiries.

    Takes in the CSV files of CONSENTS_IMPORTS. No consent lifts a litigator hit, a request not to be called, or an
    answer that is unknown.
    """
    from leadscrub_pipeline.steps.own_list_files import read_consents
    from leadscrub_pipeline.warehouse.own_lists import CONSENTS_GIVEN

    with named_failures():
        folder = settings.load().consents_imports
    return _take_in(context, CONSENTS_GIVEN, folder, read_consents, warehouse, ledger)


def _take_in(
    context: dg.AssetExecutionContext,
    own: "OwnList",
    folder: Path | None,
    read: Callable[..., Iterator["Entry | Rejected"]],
    warehouse: WarehouseResource,
    ledger: LedgerResource,
) -> dg.MaterializeResult:
    from leadscrub_pipeline.steps.own_list_files import import_files
    from leadscrub_pipeline.steps.own_lists import take_in
    from leadscrub_pipeline.warehouse.own_lists import count_entries

    with named_failures():
        engine, files = warehouse.get(), import_files(folder)
        given = [(file.name, read(file, now=utc_now())) for file in files]
        with ledger.open() as book:
            result = take_in(engine, book, own, given, run_id=context.run.run_id, report=context.log.info)
        with engine.session() as session:
            counts = count_entries(session, own, utc_now())
    for name, line, reason in result.lines:
        context.log.warning(f"{name} line {line} was not taken in: {reason}.")
    numbers: dict[str, Any] = {
        "entries": counts.entries,
        "standing": counts.standing,
        "phones": counts.phones,
        "files": len(files),
        "lines": result.read,
        "added": result.added,
        "there_already": result.there_already,
        "rejected": result.rejected.total(),
        "published_rows_changed": result.rows_set,
    }
    return dg.MaterializeResult(
        metadata={**counts_metadata(numbers), "rejected_by_reason": reasons_metadata(result.rejected)},
        # Entries are only added, and end once: these two tell one state from every other.
        data_version=dg.DataVersion(f"{counts.entries}.{counts.ended}"),
        check_results=[
            claim(
                _CHECK,
                holds=not result.rejected,
                text=f"Of {result.read:,} lines in {len(files):,} files {result.rejected.total():,} were not taken in. "
                "The run's log names the first of them.",
                figures={"rejected": result.rejected.total(), "lines": result.read},
            )
        ],
    )
