"""The ledger's tables, the same on SQLite and PostgreSQL. One row of ``ledger_lookups`` is one request on the wire.

Times are microseconds since 1970 UTC and money is millionths of a dollar (units.py). The
statements that work on the tables stand with the decisions they serve.
"""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    bindparam,
    text,
)

SCHEMA_VERSION: Final = 2

CLAIMED: Final = "claimed"
SENT: Final = "sent"
HIT: Final = "hit"
MISS: Final = "miss"
FAILED: Final = "failed"
UNKNOWN: Final = "unknown"

ADOPTED: Final = "adopted"
"""Provider and endpoint of lookups that an older system made; their answers are not kept."""

SUSPECT: Final = "suspect"
BELIEVED: Final = "believed"
DISCARDED: Final = "discarded"

metadata: Final = MetaData()

stamp: Final = Table(
    "ledger_stamp",
    metadata,
    Column("stamp_id", Integer, primary_key=True, autoincrement=False),  # always 1
    Column("kind", String(8), nullable=False),
    Column("schema_version", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("key_check", LargeBinary, nullable=False),  # a known text, sealed: a wrong key is noticed when opening
)

lookups: Final = Table(
    "ledger_lookups",
    metadata,
    Column("lookup_id", String(32), primary_key=True),  # travels to the vendor as referenceId
    Column("person_key", String(64), nullable=False),
    Column("key_version", Integer, nullable=False),
    Column("provider", String(32), nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("glba", Text, nullable=False),
    Column("dppa", Text, nullable=False),
    Column("scope", Text, nullable=False),  # whose requests it keeps out: '*' or the purpose
    Column("state", String(8), nullable=False),
    Column("is_current", Boolean, nullable=False),  # bars another request for the person
    Column("suspicion", String(9)),
    Column("owner", String(32), nullable=False),
    Column("request_number", Integer, nullable=False),
    Column("run_id", Text, nullable=False),
    Column("partition_key", Text, nullable=False),
    Column("hit_days", Integer, nullable=False),
    Column("miss_days", Integer, nullable=False),
    Column("price_micros", BigInteger, nullable=False),  # reserved when claimed
    Column("cost_micros", BigInteger),  # empty until the outcome is known
    Column("claimed_at", BigInteger, nullable=False),
    Column("sent_at", BigInteger),
    Column("settled_at", BigInteger),
    Column("expires_at", BigInteger),
    Column("reason", Text),
    Column("http_status", Integer),
    Column("parser_version", Integer),
    Column("answer", LargeBinary),  # the vendor's body, sealed
)

Index("ledger_lookups_person", lookups.c.person_key, lookups.c.provider, lookups.c.endpoint)
Index(
    "ledger_lookups_one_current",
    lookups.c.person_key,
    lookups.c.provider,
    lookups.c.endpoint,
    lookups.c.scope,
    unique=True,
    sqlite_where=text("is_current"),
    postgresql_where=text("is_current"),
)
Index(
    "ledger_lookups_in_flight",
    lookups.c.owner,
    sqlite_where=text("state IN ('claimed', 'sent')"),
    postgresql_where=text("state IN ('claimed', 'sent')"),
)
Index("ledger_lookups_run", lookups.c.run_id)
Index("ledger_lookups_claimed_at", lookups.c.claimed_at)
Index(
    "ledger_lookups_outcomes",
    lookups.c.provider,
    lookups.c.endpoint,
    lookups.c.settled_at,
    sqlite_where=text("state IN ('hit', 'miss')"),
    postgresql_where=text("state IN ('hit', 'miss')"),
)


def _is_one_of(*states: str) -> ColumnElement[bool]:
    """Written out in the statement: SQLite takes an index of some rows only when it sees that no other row is meant."""
    return lookups.c.state.in_(bindparam(None, states, expanding=True, literal_execute=True))


IS_IN_FLIGHT: Final = _is_one_of(CLAIMED, SENT)
IS_ANSWERED: Final = _is_one_of(HIT, MISS)

owners: Final = Table(
    "ledger_owners",
    metadata,
    Column("owner", String(32), primary_key=True),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("lease_until", BigInteger, nullable=False),
)

budgets: Final = Table(
    "ledger_budgets",
    metadata,
    Column("scope", String(255), primary_key=True),  # run:<id> or day:<date>
    Column("lookups", Integer, nullable=False),
    Column("micros", BigInteger, nullable=False),
)

partition_leases: Final = Table(
    "ledger_partition_leases",
    metadata,
    Column("partition_key", Text, primary_key=True),
    Column("owner", String(32), primary_key=True),
    Column("holder", Text, nullable=False),  # the run
)

reuses: Final = Table(
    "ledger_reuses",
    metadata,
    # Answers that served a lead without being paid for again, by who had paid and who was served.
    Column("run_id", Text, primary_key=True),
    Column("partition_key", Text, primary_key=True),
    Column("paid_by", Text, primary_key=True),  # partition of the lookup that was paid
    Column("day", Integer, primary_key=True),  # days since 1970, UTC
    Column("lookups", Integer, nullable=False),
    Column("micros", BigInteger, nullable=False),  # what asking again would have cost
)

controls: Final = Table(
    "ledger_controls",
    metadata,
    # What an operator set for all runs: paused, adopted, and the version of the person keys in the ledger.
    Column("name", String(32), primary_key=True),
    Column("value", Text, nullable=False),
    Column("set_at", BigInteger, nullable=False),
)

tombstones: Final = Table(
    "ledger_tombstones",
    metadata,
    # People whose data was erased at their request: never looked up again.
    Column("person_key", String(64), primary_key=True),
    Column("key_version", Integer, nullable=False),
    Column("erased_at", BigInteger, nullable=False),
)

chains: Final = Table(
    "ledger_chains",
    metadata,
    # Chains of evidence that were begun: one a run and asset. Sealed rows that the warehouse lacks are a loss.
    Column("run_id", Text, primary_key=True),
    Column("asset", String(64), primary_key=True),
    Column("partition_key", Text, nullable=False),
    Column("opened_at", BigInteger, nullable=False),
    Column("row_count", BigInteger, nullable=False),  # sealed so far
    Column("root", String(64), nullable=False),  # hash of the last sealed row, or the chain's beginning
    Column("is_open", Boolean, nullable=False),  # rows may stand behind the sealed ones
    Column("pruned_at", BigInteger),  # its rows were deleted after the time they must be kept
)

roots: Final = Table(
    "ledger_roots",
    metadata,
    # The seals in the order they were set: each holds the one before.
    Column("entry", BigInteger, primary_key=True, autoincrement=False),
    Column("run_id", Text, nullable=False),
    Column("asset", String(64), nullable=False),
    Column("row_count", BigInteger, nullable=False),
    Column("root", String(64), nullable=False),
    Column("sealed_at", BigInteger, nullable=False),
    Column("previous", String(64), nullable=False),
    Column("entry_hash", String(64), nullable=False),
)

Index("ledger_roots_chain", roots.c.run_id, roots.c.asset)
