"""The assets called as functions, without a Dagster run, which takes longer than they do.

What Dagster makes of them is the business of the tests that run the job.
"""

import inspect
import traceback
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, Final

import dagster as dg

from leadscrub_pipeline.definitions import defs

ASSETS: Final = ("raw_leads", "enriched_contacts", "litigator_flags", "dnc_flags", "master_processed_db")

Say = Callable[[str], object]


class BrokenClaim(Exception):  # noqa: N818 - what Dagster says then is no error of ours either
    """A claim that does not hold, and would keep back what comes after its asset."""


class _Log:
    def __init__(self, say: Say) -> None:
        self._say = say

    def info(self, text: str) -> None:
        self._say(text)

    def warning(self, text: str) -> None:
        self._say(f"warning: {text}")

    error = debug = info


class _Run:
    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.job_name = "scrub_job"
        self.tags: dict[str, str] = {}
        self.run_config: dict[str, object] = {}


class _NoHistory:
    """An instance that knows of no earlier run, and keeps nothing."""

    def fetch_materializations(self, _filter: object, *, limit: int) -> Any:
        return SimpleNamespace(records=[])

    fetch_observations = fetch_materializations


class _Context:
    """As much of Dagster's context as the assets use."""

    def __init__(self, partition_key: str, run_id: str, say: Say) -> None:
        self.partition_key = partition_key
        self.run = _Run(run_id)
        self.run_id = run_id
        self.log = _Log(say)
        self.instance = _NoHistory()
        self.asset_key = dg.AssetKey("leads")

    def log_event(self, event: object) -> None:
        self.log.info(repr(event))


def call_asset(
    name: str,
    partition_key: str,
    run_id: str,
    *,
    config: Mapping[str, object] = {},
    say: Say,
    tries_again: bool = False,
) -> dict[str, Any]:
    """The metadata that an asset reports; ``config`` is that of raw_leads.

    Raises:
        dagster.Failure: the asset failed, as often as its retry policy allows when it ``tries_again``.
        BrokenClaim: the asset ended and one of its blocking checks does not hold.
    """
    asset = defs.resolve_assets_def(name)
    function = asset.op.compute_fn.decorated_fn
    resources = defs.resources or {}
    wanted = {key: resources[key] for key in asset.op.required_resource_keys}
    if "config" in inspect.signature(function).parameters:
        wanted["config"] = inspect.get_annotations(function, eval_str=True)["config"](
            **(config if name == "raw_leads" else {})
        )
    context = _Context(partition_key, run_id, say)
    tries = asset.op.retry_policy.max_retries if tries_again and asset.op.retry_policy is not None else 0
    while True:
        try:
            result = function(context, **wanted)
            break
        except dg.Failure as failure:
            if not failure.allow_retries or tries == 0:
                raise
            tries -= 1
            say("".join(traceback.format_exception(failure)))
    say(repr(result.check_results))
    for claim in _broken_claims(asset, result):
        raise BrokenClaim(f"{claim.check_name} does not hold: {claim.description}")
    return {key: getattr(value, "value", value) for key, value in result.metadata.items()}


def sentence_of(error: Exception) -> str:
    """What an error of ours, or the failure that Dagster is given for it, says to a person."""
    return (error.description if isinstance(error, dg.Failure) else None) or str(error)


def _broken_claims(asset: dg.AssetsDefinition, result: Any) -> list[dg.AssetCheckResult]:
    blocking = {spec.name for spec in asset.check_specs if spec.blocking}
    return [
        one
        for one in result.check_results
        if not one.passed and one.check_name in blocking and one.severity is dg.AssetCheckSeverity.ERROR
    ]
