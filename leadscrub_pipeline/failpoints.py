"""Named points around everything that is stored or sent, so that a test can end the process right there.

A point does nothing and costs one comparison unless a test armed it in the same process. What
happens at a point is the test's business; nothing here can be reached from a setting.
"""

from collections.abc import Callable
from typing import Final

POINTS: Final = (
    # raw_leads
    "leads.before_commit",
    "leads.after_commit",
    # the ledger
    "claim.before_commit",
    "claim.after_commit",
    "mark.before_commit",
    "mark.after_commit",
    "settle.before_commit",
    "settle.after_commit",
    "release.before_commit",
    # idiCORE on the wire
    "idicore.before_request",
    "idicore.after_answer",
    # enriched_contacts
    "contacts.staged",
    "contacts.before_commit",
    "contacts.after_commit",
    # CCC on the wire
    "ccc.before_request",
    "ccc.after_answer",
    # verdicts with their evidence
    "chain.opened",
    "answers.staged",
    "answers.before_commit",
    "answers.after_commit",
    "seal.before_commit",
    "seal.after_commit",
    "flags.before_commit",
    "flags.after_commit",
    # master_processed_db
    "master.gathered",
    "master.merged_range",
    "master.before_commit",
    "master.after_commit",
)

_armed: Callable[[str], None] | None = None


def reached(point: str) -> None:
    """Say that a point of ``POINTS`` was reached."""
    if _armed is not None:
        _armed(point)


def arm(action: Callable[[str], None] | None) -> None:
    """For tests: call ``action`` with the name of every point that is reached from now on; None disarms."""
    global _armed  # noqa: PLW0603 - one switch a process, as the points are
    _armed = action
