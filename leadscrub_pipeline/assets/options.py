"""What can be chosen in the launchpad, and the bounds of it, which are looked at before anything is paid.

What is the same for every run is a setting and does not belong here.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Any, Final, Literal, cast

import dagster as dg
from pydantic import Field, ValidationError

from leadscrub_pipeline.errors import RefusedError
from leadscrub_pipeline.settings import Settings


class AlreadyProcessed(Enum):
    """What to do with people who are in the master table and need no second visit."""

    skip = "skip"
    include = "include"


class OnStaleList(Enum):
    """What a list past its age does to the step."""

    setting = "setting"
    fail = "fail"
    null = "null"


class SelectionConfig(dg.Config):
    """How leads are selected in this run."""

    row_limit: int | None = Field(
        default=None, ge=0, description="Keep at most so many leads. For a first try of a new script."
    )
    already_processed: AlreadyProcessed = Field(
        default=AlreadyProcessed.skip,
        description="skip leaves out who is published already; include sends all through again with cached contacts.",
    )


class FlagConfig(dg.Config):
    """How phones are checked in this run."""

    renew: bool = Field(
        default=False,
        description="Ask about every phone again, also those with an unexpired verdict. Costs no lookup.",
    )
    max_unknown_share: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="Publish nothing when a greater share of the phones is unknown. 1: publish, with NULL flags.",
    )


class RegistryConfig(FlagConfig):
    """How phones are looked up in the registry in this run."""

    on_stale_list: OnStaleList = Field(
        default=OnStaleList.setting,
        description="A list past its age or of unknown age: fail the step, leave absent numbers unknown (null), "
        "or do what DNC_ON_STALE_LIST says (setting).",
    )


_CONFIGS: Final[Mapping[str, type[dg.Config]]] = {
    "raw_leads": SelectionConfig,
    "litigator_flags": FlagConfig,
    "dnc_flags": RegistryConfig,
}


def require_valid_options(run: dg.DagsterRun) -> None:
    """Look at the bounds of every step's options; Dagster does that only when the step begins.

    Raises:
        RefusedError: a value is out of its bounds; the message names step and option.
    """
    for step, config in _CONFIGS.items():
        try:
            config(**_given(run, step))
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            option = ".".join(str(part) for part in first["loc"])
            raise RefusedError(
                f"Option {option} of {step}: {first['msg']}. Nothing was asked and nothing was paid; launch again."
            ) from None


def stale_list_policy(chosen: OnStaleList, settings: Settings) -> Literal["fail", "null"]:
    """What the run's option says, or else the setting."""
    if chosen is OnStaleList.setting:
        return settings.dnc_on_stale_list
    return cast("Literal['fail', 'null']", chosen.value)


def stale_list_policy_of(run: dg.DagsterRun, settings: Settings) -> Literal["fail", "null"]:
    """The same for a step that has not the option itself."""
    chosen = OnStaleList(_given(run, "dnc_flags").get("on_stale_list", OnStaleList.setting.value))
    return stale_list_policy(chosen, settings)


def _given(run: dg.DagsterRun, step: str) -> dict[str, Any]:
    steps = cast("Mapping[str, Any]", run.run_config.get("ops") or {})
    return dict((steps.get(step) or {}).get("config") or {})
