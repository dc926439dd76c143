"""What an operator does with a ledger: pause it, decide unknown outcomes, check the vendor's invoice, back it up.

Each task has its own module; this is the door to them, as ``Ledger.desk``. What runs do stands
in the ledger itself.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager

from sqlalchemy import Connection

from leadscrub_pipeline.ledger import controls
from leadscrub_pipeline.ledger.controls import Pause
from leadscrub_pipeline.ledger.database import Database, database_errors
from leadscrub_pipeline.ledger.owners import Owner
from leadscrub_pipeline.ledger.sealing import Sealer
from leadscrub_pipeline.ledger.units import micros_to_time


class LedgerDesk:
    def __init__(
        self,
        database: Database,
        sealer: Sealer | None,
        owner: Owner,
        *,
        writing: Callable[[str], AbstractContextManager[Connection]],
        now: Callable[[], int],
    ) -> None:
        self._database = database
        self._sealer = sealer
        self._owner = owner
        self._writing = writing
        self._now = now

    # --- pausing -----------------------------------------------------------------------

    def pause(self, reason: str | None = None) -> Pause:
        """Grant no new lookup to any run, from the next claim on; what is in flight goes on."""
        now = self._now()
        with self._writing("pausing") as connection:
            controls.set_control(connection, controls.PAUSED, reason or "", now=now)
        return Pause(micros_to_time(now), reason or None)

    def resume(self) -> bool:
        """Grant lookups again; whether they were paused."""
        with self._writing("resuming") as connection:
            return controls.end_pause(connection)

    def paused(self) -> Pause | None:
        with database_errors("reading"), self._database.reading() as connection:
            return controls.read_pause(connection)
