"""Whether the ledger could be brought back: a backup is made, opened and compared, and thrown away.

Making and restoring backups is the ledger's business.
"""

import tempfile
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from leadscrub_pipeline.ledger import Ledger


@dataclass(frozen=True, slots=True)
class BackupCheck:
    """Requests and dollars settled: in the ledger just before, and in its backup as it is read back."""

    lookups: int
    cost: Decimal
    backed_up_lookups: int
    backed_up_cost: Decimal

    @property
    def is_whole(self) -> bool:
        """Runs at work may have added to the ledger in between, never taken away."""
        return self.backed_up_lookups >= self.lookups and self.backed_up_cost >= self.cost


def check_backup(ledger: Ledger, folder: Path) -> BackupCheck:
    """Back the ledger up into a folder of its own below ``folder``, and read it from there.

    Raises:
        UnavailableError: the backup cannot be written or read.
    """
    before = ledger.summary()
    with tempfile.TemporaryDirectory(prefix="backup-check-", dir=folder) as scratch:
        made = ledger.desk.back_up(Path(scratch) / "ledger.sqlite")
        backup = Ledger.open_existing(made.path)
        if backup is None:
            return BackupCheck(before.lookups, before.cost, 0, Decimal(0))
        with backup:
            after = backup.summary()
    return BackupCheck(before.lookups, before.cost, after.lookups, after.cost)
