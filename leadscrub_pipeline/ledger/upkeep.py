"""What an operator does to the ledger as a whole: adopt, rekey, erase a person, and read it for a rebuild.

Each decision has its own module; this is their one door. Lookups of a run do not pass here.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection

from leadscrub_pipeline.errors import RefusedError
from leadscrub_pipeline.ledger import adoption, answers, erasure, rekeying
from leadscrub_pipeline.ledger.adoption import CacheLife, OldLookup
from leadscrub_pipeline.ledger.answers import Answer, Tombstone
from leadscrub_pipeline.ledger.controls import key_version
from leadscrub_pipeline.ledger.database import Database, database_errors
from leadscrub_pipeline.ledger.owners import Owner
from leadscrub_pipeline.ledger.rekeying import Keys, Moved
from leadscrub_pipeline.ledger.sealing import Sealer

OfPerson = TypeVar("OfPerson", Answer, Tombstone)


class _ReadPage(Protocol[OfPerson]):
    def __call__(self, connection: Connection, *, after: str) -> list[OfPerson]: ...


class Upkeep:
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

    # --- adoption ----------------------------------------------------------------------

    def adoption_state(self) -> adoption.State:
        """Whether lookups were made or adopted here, or an operator said that there is nothing to adopt."""
        with self._reading() as connection:
            return adoption.state(connection)

    def adopt(self, found: Sequence[OldLookup], *, key_version: int, life: CacheLife) -> None:
        with self._writing("adopting lookups") as connection:
            adoption.adopt(connection, found, key_version=key_version, life=life, now=self._now())

    def note_adoption(self, value: str) -> None:
        with self._writing("noting the adoption") as connection:
            adoption.note_adoption(connection, value, now=self._now())

    # --- rebuild -----------------------------------------------------------------------

    def answers(self) -> Iterator[list[Answer]]:
        """The answer that counts for each person, in pages."""
        return self._pages(answers.answers_page)

    def tombstones(self) -> Iterator[list[Tombstone]]:
        return self._pages(answers.tombstones_page)

    def _pages(self, read_page: "_ReadPage[OfPerson]") -> Iterator[list[OfPerson]]:
        """Pages in the order of person keys, each read in a transaction of its own."""
        after = ""
        while True:
            with self._reading() as connection:
                page = read_page(connection, after=after)
            if not page:
                return
            after = page[-1].person_key
            yield page

    # --- rekey -------------------------------------------------------------------------

    def key_version(self) -> int | None:
        with self._reading() as connection:
            return key_version(connection)

    def require_key_version(self, version: int) -> None:
        """Raises RefusedError when the ledger's person keys are of another version."""
        if self.key_version() != version:
            raise RefusedError(
                "The ledger's person keys are of another version than this release makes, or a rekey was not finished. "
                "Run leadscrub ledger rekey first."
            )

    def begin_rekey(self, version: int) -> bool:
        with self._writing("beginning to rekey") as connection:
            return rekeying.begin(connection, version=version, owner=self._owner, now=self._now())

    def move_keys(self, keys: Keys, *, version: int) -> Moved:
        with self._writing("rekeying") as connection:
            return rekeying.move(connection, keys, version=version, now=self._now())

    def would_move(self, keys: Keys, *, version: int) -> set[str]:
        """The old keys that ``move_keys`` would move; writes nothing."""
        with self._reading() as connection:
            return rekeying.would_move(connection, keys, version=version)

    def people_left(self, version: int) -> int:
        with self._reading() as connection:
            return rekeying.people_left(connection, version=version)

    def end_rekey(self, version: int) -> None:
        with self._writing("ending the rekey") as connection:
            rekeying.end(connection, version=version, now=self._now())

    # --- people ------------------------------------------------------------------------

    def erase(self, keys: Mapping[str, int]) -> int:
        """Blank the answers under these keys, given with their versions, and bar new lookups; how many answers."""
        with self._writing("erasing a person") as connection:
            blanked = erasure.erase(connection, keys, owner=self._owner, now=self._now())
        self._overwrite()
        return blanked

    def tombstones_of(self, keys: Collection[str]) -> list[Tombstone]:
        with self._reading() as connection:
            return erasure.tombstones_of(connection, keys)

    def history(self, keys: Collection[str]) -> Sequence[dict[str, Any]]:
        """Everything the ledger holds about a person, answers opened."""
        with self._reading() as connection:
            return erasure.history(connection, keys, self._require_sealer())

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with database_errors("reading"), self._database.reading() as connection:
            yield connection

    def _require_sealer(self) -> Sealer:
        if self._sealer is None:
            raise RefusedError("The ledger was opened for reading only.")
        return self._sealer

    def _overwrite(self) -> None:
        """Have SQLite move what was blanked from its write-ahead log to the file, and empty the log."""
        if self._database.path is None:
            return
        with database_errors("emptying its log"), closing(self._database.engine.raw_connection()) as connection:
            connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
