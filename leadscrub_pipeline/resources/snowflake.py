"""Connections to Snowflake made by Dagster's own resource.

Imported only when Snowflake is chosen: dagster_snowflake takes seconds to load.
"""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it writes its fields in a form that pydantic gives up
    from dagster_snowflake import SnowflakeResource


@contextmanager
def by_dagster(arguments: Mapping[str, Any]) -> Iterator[Any]:
    """A connection of the connector with these arguments; it is closed when the block ends."""
    resource = SnowflakeResource(
        account=arguments["account"],
        user=arguments["user"],
        authenticator=arguments["authenticator"],
        additional_snowflake_connection_args=dict(arguments),
    )
    with resource.get_connection() as connection:
        try:
            yield connection
        finally:
            connection.close()
