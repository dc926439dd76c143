"""What the assets claim of each of their runs: the checks that Dagster shows, evaluated by the step itself.

A blocking claim that fails as an error keeps what comes after its asset from running. Claims
about all scripts together, which a run need not wait for, stand in checks.py.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal

import dagster as dg

from leadscrub_pipeline.domain.usual import RUNS_NEEDED, usual_bounds

UNKNOWN_WARNED_OF: Final = 0.05
BUDGET_WARNED_OF: Final = 0.8
ENOUGH: Final = 20
"""Of fewer leads or phones a rate says nothing."""
HISTORY: Final = 30
"""Past runs of the partition that rates are compared with."""
USUAL_HIT_RATE: Final = (0.3, 0.99)
USUAL_LITIGATOR_RATE: Final = (0.0, 0.1)

Severity = Literal["error", "warning"]
_SEVERITIES: Final = {"error": dg.AssetCheckSeverity.ERROR, "warning": dg.AssetCheckSeverity.WARN}

_UNKNOWN: Final = (
    f"At most {UNKNOWN_WARNED_OF:.0%} of the phones are unknown; more is a warning. Above the run's max_unknown_share "
    "nothing is published."
)
_EVIDENCE: Final = "Each phone that is clear has a row of evidence of that very answer."


def raw_leads_checks() -> list[dg.AssetCheckSpec]:
    return [
        dg.AssetCheckSpec(
            "no_lead_is_lost",
            asset="raw_leads",
            blocking=True,
            description="selected = rejected + duplicate + already processed + kept, and the kept are in the table.",
        )
    ]


def enriched_contacts_checks() -> list[dg.AssetCheckSpec]:
    return [
        dg.AssetCheckSpec(
            "every_lead_has_one_outcome",
            asset="enriched_contacts",
            blocking=True,
            description="Each kept lead is a hit, a miss, deferred or held, once.",
        ),
        dg.AssetCheckSpec(
            "phones_are_valid",
            asset="enriched_contacts",
            blocking=True,
            description="Every phone has ten digits, and area code and exchange begin with 2 to 9.",
        ),
        dg.AssetCheckSpec(
            "hit_rate_is_usual",
            asset="enriched_contacts",
            description=f"Hits among the answered leads, compared with this script's last {HISTORY} runs, or with "
            f"{USUAL_HIT_RATE[0]:.0%} to {USUAL_HIT_RATE[1]:.0%} before there are {RUNS_NEEDED} of them.",
        ),
        dg.AssetCheckSpec(
            "spend_is_within_budget",
            asset="enriched_contacts",
            description=f"What the UTC day cost stays below {BUDGET_WARNED_OF:.0%} of IDICORE_DAILY_BUDGET, and no "
            "cap kept a lead from being asked about.",
        ),
    ]


def litigator_flags_checks() -> list[dg.AssetCheckSpec]:
    return [
        dg.AssetCheckSpec(
            "every_clear_phone_has_evidence", asset="litigator_flags", blocking=True, description=_EVIDENCE
        ),
        dg.AssetCheckSpec("few_phones_are_unknown", asset="litigator_flags", blocking=True, description=_UNKNOWN),
        dg.AssetCheckSpec(
            "positive_controls_are_found",
            asset="litigator_flags",
            description="The known litigators that ride in every request came back as litigators.",
        ),
        dg.AssetCheckSpec(
            "litigator_rate_is_usual",
            asset="litigator_flags",
            description=f"Litigators among the phones, compared with this script's last {HISTORY} runs, or with at "
            f"most {USUAL_LITIGATOR_RATE[1]:.0%} before there are {RUNS_NEEDED} of them.",
        ),
    ]


def dnc_flags_checks() -> list[dg.AssetCheckSpec]:
    return [
        dg.AssetCheckSpec("every_clear_phone_has_evidence", asset="dnc_flags", blocking=True, description=_EVIDENCE),
        dg.AssetCheckSpec("few_phones_are_unknown", asset="dnc_flags", blocking=True, description=_UNKNOWN),
    ]


def master_processed_db_checks() -> list[dg.AssetCheckSpec]:
    return [
        dg.AssetCheckSpec(
            "every_kept_lead_is_accounted_for",
            asset="master_processed_db",
            blocking=True,
            description="kept = published + deferred + held + taken.",
        ),
        dg.AssetCheckSpec(
            "no_row_stands_twice",
            asset="master_processed_db",
            blocking=True,
            description="A person has one row a script: no record_id that the run wrote comes twice.",
        ),
    ]


def claim(
    name: str, *, holds: bool, text: str, severity: Severity = "error", figures: Mapping[str, Any] | None = None
) -> dg.AssetCheckResult:
    """The result of a check: what was found, in one sentence, and the figures it rests on."""
    return dg.AssetCheckResult(
        check_name=name, passed=holds, severity=_SEVERITIES[severity], description=text, metadata=dict(figures or {})
    )


def sums(name: str, whole: int, parts: Mapping[str, int], *, of: str) -> dg.AssetCheckResult:
    """That a number of leads is the sum of what became of them."""
    together = sum(parts.values())
    added = " + ".join(f"{value:,} {part.replace('_', ' ')}" for part, value in parts.items())
    sign = "=" if whole == together else "and not"
    return claim(name, holds=whole == together, text=f"{whole:,} {of} {sign} {added}.", figures={of: whole, **parts})


def few_unknown(phones: int, unknown: int, *, max_share: float) -> dg.AssetCheckResult:
    share = unknown / phones if phones else 0.0
    figures = {"unknown_share": round(share, 4), "max_unknown_share": max_share, "phones": phones, "unknown": unknown}
    text = f"{unknown:,} of {phones:,} phones are unknown ({share:.1%})."
    if share > max_share:
        return claim(
            "few_phones_are_unknown",
            holds=False,
            text=f"{text} The run's max_unknown_share is {max_share:.1%}, so nothing is published.",
            figures=figures,
        )
    return claim(
        "few_phones_are_unknown",
        holds=share <= UNKNOWN_WARNED_OF,
        severity="warning",
        text=text,
        figures=figures,
    )


def clear_phones_have_evidence(clear: int, without: int) -> dg.AssetCheckResult:
    return claim(
        "every_clear_phone_has_evidence",
        holds=without == 0,
        text=f"{without:,} of {clear:,} clear phones have no evidence."
        if without
        else f"All {clear:,} clear phones have their evidence.",
        figures={"clear": clear, "without_evidence": without},
    )


def usual_rate(
    name: str, *, part: int, whole: int, past: list[float], fixed: tuple[float, float], noun: str
) -> dg.AssetCheckResult:
    """That a rate is as it used to be; a warning when it is not, and nothing is said of a few leads or phones."""
    bounds = usual_bounds(past, fixed=fixed)
    rate = part / whole if whole else 0.0
    enough = whole >= ENOUGH
    text = f"{part:,} of {whole:,} {noun} ({rate:.1%}); usual is {bounds.low:.1%} to {bounds.high:.1%}"
    text += f", from {bounds.runs} past runs." if bounds.basis == "history" else "."
    return claim(
        name,
        holds=not enough or bounds.holds(rate),
        severity="warning",
        text=text if enough else f"{part:,} of {whole:,} {noun}: too few to tell.",
        figures={
            "rate": round(rate, 4),
            "usual_low": round(bounds.low, 4),
            "usual_high": round(bounds.high, 4),
            "past_runs": bounds.runs,
        },
    )


def past_rates(context: dg.AssetExecutionContext, *, part: str, whole: tuple[str, ...]) -> list[float]:
    """The rate in past runs of this partition, the newest first, from what the asset reported then.

    Args:
        context: of the step.
        part: the metadata's key of what is counted.
        whole: the keys whose sum it is a part of.
    """
    records = context.instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=context.asset_key, asset_partitions=[context.partition_key]), limit=HISTORY
    ).records
    rates = []
    for record in records:
        found = record.event_log_entry.asset_materialization
        if found is None:
            continue
        numbers = {
            name: value.value for name, value in found.metadata.items() if isinstance(value, dg.IntMetadataValue)
        }
        counted = sum(numbers.get(name) or 0 for name in whole)
        if counted >= ENOUGH:
            rates.append((numbers.get(part) or 0) / counted)
    return rates
