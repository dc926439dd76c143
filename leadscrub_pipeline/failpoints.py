"""Named points around everything that is stored or sent, so that a test can end the process right there.

A point does nothing and costs one comparison unless a test armed it in the same process. What
happens at a point is the test's business; nothing here can be reached from a setting.
"""

from collections.abc import Callable
from typing import Final

POINTS: Final = (
    # opening: the demo's key, the ledger's tables, the warehouse's tables
    "key_file.drafted",
    "key_file.made",
    "ledger.before_commit",
    "ledger.after_commit",
    "prepare.before_commit",
    "prepare.after_commit",
    # the lease of a partition, and an owner that comes and goes
    "lease.before_commit",
    "lease.after_commit",
    "lease_end.before_commit",
    "lease_end.after_commit",
    "sign_off.before_commit",
    "sign_off.after_commit",
    # raw_leads
    "leads.before_commit",
    "leads.after_commit",
    # lookups in the ledger; budgets move within the same transactions
    "claim.before_commit",
    "claim.after_commit",
    "fanout.handed_over",
    "mark.before_commit",
    "mark.after_commit",
    "settle.before_commit",
    "settle.after_commit",
    "release.before_commit",
    "release.after_commit",
    "suspect.before_commit",
    "suspect.after_commit",
    # idiCORE on the wire
    "idicore.before_sign_in",
    "idicore.after_sign_in",
    "idicore.before_request",
    "idicore.after_answer",
    "breaker.opened",
    "breaker.closed",
    # enriched_contacts
    "contacts.stage_made",
    "contacts.staged",
    "contacts.before_commit",
    "contacts.after_commit",
    "contacts.stage_dropped",
    # CCC on the wire
    "ccc.before_request",
    "ccc.after_answer",
    # verdicts with their evidence
    "seal_of_old.before_commit",
    "seal_of_old.after_commit",
    "chain.before_commit",
    "chain.after_commit",
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
