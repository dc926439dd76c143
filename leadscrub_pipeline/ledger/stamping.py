"""What a ledger is: made once, stamped demo or live, with the schema's version and the key it was made with.

The tables themselves are in tables.py. An answer of a simulator must not reach real leads,
so a ledger of the other kind is refused before anything is read from it.
"""

from collections.abc import Sequence
from typing import Any, Final, Literal

from sqlalchemy import Connection, Row, insert, inspect, select, update
from sqlalchemy.schema import CreateTable

from leadscrub_pipeline import failpoints
from leadscrub_pipeline.errors import RefusedError, UnavailableError
from leadscrub_pipeline.ledger.controls import key_version, note_key_version
from leadscrub_pipeline.ledger.database import Database, database_errors
from leadscrub_pipeline.ledger.sealing import Sealer, key_file_of, make_or_read_key_file
from leadscrub_pipeline.ledger.tables import SCHEMA_VERSION, metadata, stamp

Kind = Literal["demo", "live"]
_STAMP_ID: Final = 1


def read_stamp(database: Database) -> Row[Any] | None:
    """The stamp, or None when no ledger was made here yet."""
    with database_errors("opening it"), database.reading() as connection:
        return _read(connection)


def _read(connection: Connection) -> Row[Any] | None:
    if not inspect(connection).has_table(stamp.name):
        return None
    return connection.execute(select(stamp).where(stamp.c.stamp_id == _STAMP_ID)).one_or_none()


def make(database: Database, *, kind: Kind, sealer: Sealer, code_key_version: int, now: int) -> Row[Any]:
    """Make the tables and the stamp, unless another process was faster; return the stamp there is."""
    with database_errors("making its tables"), database.writing() as connection:
        metadata.create_all(connection)
        if _read(connection) is None:
            connection.execute(
                insert(stamp).values(
                    stamp_id=_STAMP_ID,
                    kind=kind,
                    schema_version=SCHEMA_VERSION,
                    created_at=now,
                    key_check=sealer.check_token(),
                )
            )
            note_key_version(connection, code=code_key_version, now=now)
        made = _read(connection)
        failpoints.reached("ledger.before_commit")
    failpoints.reached("ledger.after_commit")
    if made is None:
        raise UnavailableError("The ledger's stamp cannot be read back. See that its disk or server is sound.")
    return made


def touch(connection: Connection) -> None:
    """A change that changes nothing."""
    connection.execute(update(stamp).values(schema_version=stamp.c.schema_version))


def upgrade(database: Database, found: Row[Any], *, code_key_version: int, now: int) -> Row[Any]:
    """Bring an older ledger up to this release, in one transaction; return its stamp.

    Every release so far only added tables, so what is missing is made and nothing is changed.
    """
    with database_errors("opening it"), database.reading() as connection:
        if found.schema_version >= SCHEMA_VERSION and key_version(connection) is not None:
            return found
    with database_errors("upgrading its tables"), database.writing() as connection:
        metadata.create_all(connection)
        connection.execute(update(stamp).values(schema_version=SCHEMA_VERSION))
        note_key_version(connection, code=code_key_version, now=now)
        upgraded = _read(connection)
    return found if upgraded is None else upgraded


def stand_in(database: Database) -> None:
    """Let an older ledger be read as if the tables that it lacks were there and empty; nothing of it is written.

    Each connection gets them as temporary tables of its own: who may only read can make those.
    """
    with database_errors("opening it"), database.reading() as connection:
        there = set(inspect(connection).get_table_names())
    missing = [
        str(CreateTable(table).compile(database.engine)).replace("CREATE TABLE", "CREATE TEMPORARY TABLE", 1)
        for table in metadata.sorted_tables
        if table.name not in there
    ]
    if missing:
        database.on_connecting(missing)


def check(found: Row[Any], *, kind: Kind | None, sealer: Sealer | None) -> Kind:
    """Refuse a ledger of the other kind, of a newer version, or that the keys do not fit; return its kind."""
    if found.schema_version > SCHEMA_VERSION:
        raise RefusedError(
            f"The ledger has schema version {found.schema_version}, this release reads {SCHEMA_VERSION}. "
            "Use the release that wrote it."
        )
    own: Kind = "live" if found.kind == "live" else "demo"
    if kind is not None and kind != own:
        raise RefusedError(
            f"The ledger is stamped {own}, and the vendors of this run are {kind}. "
            "Answers of one never serve the other: set LEADSCRUB_HOME or LEADSCRUB_LEDGER_URL to a ledger of its own."
        )
    if sealer is not None:
        sealer.require_fits(found.key_check)
    return own


def find_keys(database: Database, *, kind: Kind, configured: Sequence[str], is_made: bool) -> Sequence[str]:
    """The keys to seal with: those configured, or the demo's own from the file beside its ledger."""
    if configured:
        return configured
    if kind == "live":
        raise RefusedError(
            "A live ledger needs LEADSCRUB_ANSWER_KEY: stored answers hold personal data and are sealed with it. "
            "Make one: python -c 'from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())'"
        )
    if database.path is None:
        raise RefusedError("A demo ledger on PostgreSQL needs LEADSCRUB_ANSWER_KEY; only one in a file makes its own.")
    key_file = key_file_of(database.path)
    if is_made and not key_file.exists():
        raise RefusedError(
            f"The demo ledger's key file {key_file} is gone, so its answers cannot be read. "
            "Put it back, or start over with make reset-demo."
        )
    try:
        return [make_or_read_key_file(key_file)]
    except (OSError, ValueError) as error:
        raise UnavailableError(
            f"The demo ledger's key file {key_file} cannot be made or read ({type(error).__name__})."
        ) from None
