"""Settings of a real account, kept aside for ``pytest -m live``: every other test runs without them."""

from typing import Final

SETTINGS: Final[dict[str, str]] = {}
"""What SNOWFLAKE_* was in the environment when the tests began."""
