"""What the assets share: owners, groups, column schemas, and how an error of ours becomes Dagster's failure."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import dagster as dg

from leadscrub_pipeline.domain.alerts import CHECK_STOPPED
from leadscrub_pipeline.errors import LeadscrubError
from leadscrub_pipeline.interrupts import deferred
from leadscrub_pipeline.warehouse.schema import Table

OWNERS: Final = ["team:data-engineering"]
GROUP: Final = "lead_scrub"

TRY_AGAIN: Final = dg.RetryPolicy(max_retries=2, delay=2, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)
"""For steps that cost nothing to repeat. enriched_contacts has none: the ledger decides what is asked again."""

EXIT_CODE: Final = "leadscrub/exit_code"

_TYPES: Final = {
    "text": "VARCHAR",
    "bool": "BOOLEAN",
    "int": "BIGINT",
    "number": "NUMBER",
    "timestamp": "TIMESTAMP",
    "json": "VARIANT",
}


def table_metadata(table: Table) -> dict[str, Any]:
    """Name and column schema of the table an asset fills, as Dagster's UI shows them."""
    columns = [
        dg.TableColumn(
            name=column.name,
            type=_TYPES[column.type],
            description=column.description,
            tags={"personal_data": ""} if column.personal else None,
        )
        for column in table.columns
    ]
    return {"dagster/table_name": table.full_name, "dagster/column_schema": dg.TableSchema(columns=columns)}


def counts_metadata(counts: Mapping[str, int | float]) -> dict[str, Any]:
    """Numbers under stable keys, zeros included, so that Dagster plots them over time."""
    return {
        key: dg.MetadataValue.int(value) if isinstance(value, int) else dg.MetadataValue.float(round(float(value), 3))
        for key, value in counts.items()
    }


def reasons_metadata(reasons: Mapping[str, int]) -> dg.JsonMetadataValue:
    return dg.MetadataValue.json(dict(sorted(reasons.items())))


def query_metadata(query_id: str | None) -> dict[str, str]:
    """Under which id the engine's own history has the statement; nothing for an engine that keeps none."""
    return {} if query_id is None else {"snowflake_query_id": query_id}


@contextmanager
def named_failures() -> Iterator[None]:
    """An error of ours as a failure with its sentence only; repeated only where another try can help.

    The cause is dropped on purpose: Dagster stores its text, and engines quote values in theirs.
    An interrupt waits for a safe place in the step.
    """
    try:
        with deferred():
            yield
    except LeadscrubError as error:
        raise dg.Failure(
            description=str(error),
            metadata={EXIT_CODE: error.exit_code, "error": type(error).__name__},
            allow_retries=error.may_pass,
        ) from None


def was_interrupted(event: dg.DagsterEvent) -> bool:
    """Whether a step failed by an interrupt: within a step Dagster turns one into a failure of the step."""
    error = event.step_failure_data.error
    return error is not None and error.cls_name in (
        dg.DagsterExecutionInterruptedError.__name__,
        KeyboardInterrupt.__name__,
    )


def was_stopped_by_check(event: dg.DagsterEvent) -> bool:
    """Whether a step failed only because a blocking check of its own did not hold."""
    error = event.step_failure_data.error
    return error is not None and error.cls_name == CHECK_STOPPED


def failed_claims(events: Iterable[dg.DagsterEvent], step_key: str) -> list[str]:
    """What the blocking checks of a step found that did not hold, a sentence each."""
    checks = [
        event.asset_check_evaluation_data
        for event in events
        if event.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION and event.step_key == step_key
    ]
    return [
        f"{check.check_name} does not hold: {check.description}"
        for check in checks
        if not check.passed and check.severity is dg.AssetCheckSeverity.ERROR
    ]


def own_failure(event: dg.DagsterEvent) -> tuple[int, str] | None:
    """Exit code and sentence of a step that failed by an error of ours; the text of others may hold anything."""
    failure = event.step_failure_data.user_failure_data
    if failure is None or failure.description is None or EXIT_CODE not in failure.metadata:
        return None
    code = failure.metadata[EXIT_CODE].value
    return code if isinstance(code, int) else 1, failure.description
