"""rescrub_job: checks again what is in the master table, at no lookup cost. Who starts it does not belong here."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

import dagster as dg
from pydantic import Field

from leadscrub_pipeline.assets import master_processed_db
from leadscrub_pipeline.assets.common import TRY_AGAIN, counts_metadata, named_failures, reasons_metadata
from leadscrub_pipeline.assets.dnc_registry import list_version, observation
from leadscrub_pipeline.assets.options import OnStaleList, stale_list_policy
from leadscrub_pipeline.assets.versions import saw
from leadscrub_pipeline.domain.verdicts import CCC, DNC
from leadscrub_pipeline.resources import LedgerResource, RegistryResource, SettingsResource, WarehouseResource
from leadscrub_pipeline.run_tags import MODE

if TYPE_CHECKING:
    from leadscrub_pipeline.dnc import DncRegistry
    from leadscrub_pipeline.steps.rescrub_report import RescrubReport


class Sources(Enum):
    """Which sources are asked again."""

    all = "all"
    dnc = "dnc"
    ccc = "ccc"


_ASKED: Final = {Sources.all: (DNC, CCC), Sources.dnc: (DNC,), Sources.ccc: (CCC,)}


class RescrubConfig(dg.Config):
    """What is checked again in this run."""

    sources: Sources = Field(
        default=Sources.all,
        description="all asks the Do-Not-Call registry and CCC, dnc or ccc one; flags are set by what both said last.",
    )
    renew: bool = Field(
        default=False,
        description="Ask about every published phone, also where an answer still counts. Else only about answers of an "
        "older list, expired ones, and phones without one.",
    )
    on_stale_list: OnStaleList = Field(
        default=OnStaleList.setting,
        description="A list past its age: fail does not ask it and fails the run, null makes absence from it unknown, "
        "setting does as DNC_ON_STALE_LIST says.",
    )


@dg.op(
    out=dg.Out(dg.Nothing),
    pool="ccc",
    retry_policy=TRY_AGAIN,
    description=(
        "Asks both sources again about published phones whose answers are expired, unknown or of an older list, and "
        "sets the flags of rows in PUBLIC.MASTER_PROCESSED_DB that are other ones now. Looks nobody up."
    ),
)
def rescrub(
    context: dg.OpExecutionContext,
    config: RescrubConfig,
    settings: SettingsResource,
    warehouse: WarehouseResource,
    ledger: LedgerResource,
    registry: RegistryResource,
) -> Iterator[dg.AssetObservation | dg.Output[None]]:
    from leadscrub_pipeline.steps.rescrub import Rescrub
    from leadscrub_pipeline.steps.rescrub import rescrub as check_again

    @contextmanager
    def opened() -> Iterator["DncRegistry"]:
        with registry.open() as found:
            saw(context, list_version(found))
            context.log_event(observation(found))
            yield found

    with named_failures():
        current = settings.load()
        wanted = Rescrub(
            context.run_id,
            _ASKED[config.sources],
            renew=config.renew,
            on_stale_list=stale_list_policy(config.on_stale_list, current),
        )
        with ledger.open() as book:
            result = check_again(warehouse.get(), book, current, wanted, opened, report=context.log.info)
    context.log.info(result.sentence())
    if result.rows.changed_meanwhile:
        context.log.warning(
            f"{result.rows.changed_meanwhile:,} rows were published anew or erased meanwhile and were left alone."
        )
    metadata = rescrub_metadata(result)
    # Yielded before an error, it is kept; what a failed op says by log_event or of its output is lost.
    yield dg.AssetObservation(asset_key=master_processed_db.key, metadata=metadata)
    with named_failures():
        result.raise_problems()
    yield dg.Output(None, metadata=metadata)


def rescrub_metadata(result: "RescrubReport") -> dict[str, Any]:
    """The numbers of a rescrub, under names that no materialization of the table has."""
    numbers = {f"rescrub_{name}": value for name, value in result.numbers().items()}
    vendor = {f"rescrub_ccc_{name}": value for name, value in result.sources[CCC].vendor.items()}
    return {
        **counts_metadata(numbers | vendor),
        "rescrub_unknown_by_reason": reasons_metadata(result.unknown_by_reason()),
        "rescrub_evidence": dg.MetadataValue.json(result.seals()),
        "rescrub_seconds": dg.MetadataValue.float(round(result.seconds, 3)),
    }


@dg.job(
    name="rescrub_job",
    tags={MODE: "rescrub"},
    description="Checks published phones again, sets flags that are other ones now, and reports them both ways. Free.",
)
def rescrub_job() -> None:
    rescrub()
