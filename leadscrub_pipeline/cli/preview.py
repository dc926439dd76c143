"""``leadscrub preview``: what scripts would select and what their lookups would cost."""

from leadscrub_pipeline.cli.output import JsonOption, note, print_json, print_table, progress
from leadscrub_pipeline.cli.script_arguments import AllOption, ScriptsArgument, chosen_scripts
from leadscrub_pipeline.deployment import open_warehouse, read_ledger
from leadscrub_pipeline.settings import load_settings
from leadscrub_pipeline.steps.preview import preview_scripts


def preview(scripts: ScriptsArgument = None, *, everything: AllOption = False, as_json: JsonOption = False) -> None:
    """What scripts would select and cost, each alone and all together.

    Pays for nothing and publishes nothing. The union counts a person once whom several scripts
    select; overlap says how many those are.
    """
    settings = load_settings()
    keys = chosen_scripts(settings.leadscrub_scripts, scripts, everything=everything)
    with progress("Selecting leads"), read_ledger(settings) as ledger:
        result = preview_scripts(keys, settings, open_warehouse(settings), ledger)
    rows = [forecast.as_dict() for forecast in result.scripts]
    union = result.union.as_dict()
    if as_json:
        print_json({"scripts": rows, "union": union})
        return
    shown = [*rows, union] if len(rows) > 1 else rows
    print_table("Preview", shown, [name for name in shown[0] if name != "rejected_by_reason"])
    for row in rows:
        reasons = row["rejected_by_reason"]
        if isinstance(reasons, dict) and reasons:
            note(f"{row['script']}: rejected by reason: " + ", ".join(f"{k} {n}" for k, n in sorted(reasons.items())))
    if union["estimated_cost"] is None:
        note("Set IDICORE_PRICE_PER_LOOKUP to see what the lookups would cost.")
