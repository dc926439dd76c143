"""scrub_report: one page that tells what became of a script's leads."""

import dagster as dg

from leadscrub_pipeline.assets.common import GROUP, OWNERS, TRY_AGAIN, counts_metadata, named_failures
from leadscrub_pipeline.assets.master_processed_db import master_processed_db
from leadscrub_pipeline.deployment import deployment_kind
from leadscrub_pipeline.domain.verdicts import utc_now
from leadscrub_pipeline.errors import FailedError
from leadscrub_pipeline.partitions import LEAD_SCRIPTS
from leadscrub_pipeline.resources import LedgerResource, ScriptsResource, SettingsResource, WarehouseResource


@dg.asset(
    partitions_def=LEAD_SCRIPTS,
    deps=[master_processed_db],
    group_name=GROUP,
    owners=OWNERS,
    kinds={"python", "report"},
    pool="warehouse",
    retry_policy=TRY_AGAIN,
)
def scrub_report(
    context: dg.AssetExecutionContext,
    settings: SettingsResource,
    scripts: ScriptsResource,
    warehouse: WarehouseResource,
    ledger: LedgerResource,
) -> dg.MaterializeResult[None]:
    """One page a script: from selected leads to callable phones, phones by verdict, spend, unknowns and the trend.

    Written to LEADSCRUB_HOME/reports as HTML that loads nothing from elsewhere; the metadata holds the
    same as Markdown. Counts only, no personal data. `leadscrub report` makes the page anew at any time.
    """
    from leadscrub_pipeline.assets.past_runs import past_runs
    from leadscrub_pipeline.steps import scrub_report_markdown, scrub_report_page
    from leadscrub_pipeline.steps.report_page import save
    from leadscrub_pipeline.steps.scrub_report import gather
    from leadscrub_pipeline.warehouse.report_figures import read_figures

    with named_failures():
        script = scripts.find(context.partition_key)
        current = settings.load()
        now = utc_now()
        with warehouse.get().session() as session:
            figures = read_figures(session, script.key, now=now)
        if figures is None:
            raise FailedError(f"raw_leads has no rows for partition {script.key}. Materialize raw_leads for it first.")
        runs = past_runs(context.instance, script.key)
        with ledger.read() as book:
            report = gather(
                figures,
                book,
                runs,
                title=script.title,
                kind=deployment_kind(current),
                price=current.idicore_price_per_lookup,
                made_at=now,
            )
        path = current.reports_folder.absolute() / f"{script.key}.html"
        save(path, scrub_report_page.render(report))
    numbers = report.numbers()
    context.log.info(
        f"{numbers['selected']:,} leads selected, {numbers['published']:,} people published; "
        f"{numbers['callable_phones']:,} of {numbers['script_phones']:,} phones of this script are callable now."
    )
    return dg.MaterializeResult(
        metadata={
            "report": dg.MetadataValue.md(scrub_report_markdown.render(report)),
            "report_file": dg.MetadataValue.path(path),
            **counts_metadata(numbers),
            **counts_metadata(
                {
                    "cost_dollars": float(report.run_spend.cost),
                    "unknown_cost_dollars": float(report.run_spend.unknown_cost),
                    "script_cost_dollars": float(report.script_spend.cost),
                }
            ),
        }
    )
