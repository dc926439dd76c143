"""Times as users give them: a date or an ISO time, in UTC unless it names its zone."""

from datetime import UTC, datetime
from typing import Final

import typer

METAVAR: Final = "DATE|TIME"


def utc_time(text: str | datetime) -> datetime:
    """``2026-11-01``, ``2026-11-01T12:30`` or ``2026-11-01T12:30:00-05:00``, as aware UTC; a date starts its day."""
    if isinstance(text, datetime):  # a default goes through the parser as well
        return text
    try:
        moment = datetime.fromisoformat(text.strip())
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            "give a date such as 2026-11-01 or an ISO time such as 2026-11-01T12:30, in UTC"
        ) from None
