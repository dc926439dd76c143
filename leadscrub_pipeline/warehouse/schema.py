"""The tables of PROCESSED_DATA_DB: names, columns, types and what each column means.

Both engines take their DDL, arrow.py the schemas of bulk loads, and Dagster its column schemas
from here. Statements that fill the tables do not belong here.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal

DATABASE: Final = "PROCESSED_DATA_DB"
SCHEMA_VERSION: Final = 4
"""Releases only add tables and columns; what an older warehouse lacks is added when it is opened."""

ColumnType = Literal["text", "bool", "int", "number", "timestamp", "json"]
"""A number is a whole one of up to 37 digits; an int has 64 bits where the engine has such."""


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    type: ColumnType
    description: str
    personal: bool = False


@dataclass(frozen=True)
class Table:
    """One table; ``key`` is what a MERGE matches on (engines do not enforce it)."""

    schema: str
    name: str
    description: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()

    @property
    def full_name(self) -> str:
        return f"{DATABASE}.{self.schema}.{self.name}"

    @cached_property
    def column_names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)


def _text(name: str, description: str, *, personal: bool = False) -> Column:
    return Column(name, "text", description, personal)


_PARTITION = _text("partition_key", "The lead script: the partition's key.")
_RUN = _text("run_id", "Dagster run that wrote the row.")
_LEAD_NUMBER = Column("lead_number", "int", "Position of the lead in this run's selection, from 1.")
_PERSON_KEY = _text("person_key", "Hash of the normalised person; the same for every spelling.")
_IDENTITY: Final = (
    _text("first_name", "As the script gave it.", personal=True),
    _text("last_name", "As the script gave it.", personal=True),
    _text("address", "As the script gave it.", personal=True),
    _text("city", "As the script gave it.", personal=True),
    _text("state", "As the script gave it.", personal=True),
    _text("zip_code", "As the script gave it.", personal=True),
)
IDENTITY_COLUMNS: Final = tuple(column.name for column in _IDENTITY)
_CONTACTS: Final = (
    *(_text(f"phone_{i}", "Ten digits, best first.", personal=True) for i in (1, 2, 3)),
    *(_text(f"email_{i}", "Best first.", personal=True) for i in (1, 2, 3)),
)
_VERDICT: Final = (
    _text("verdict", "listed, clear or unknown."),
    _text("reason", "Why the verdict is unknown; else NULL."),
    _text("list_version", "Version of the registry list, or the vendor's endpoint."),
    Column("obtained_at", "timestamp", "UTC; when the list was obtained, or the vendor answered."),
    Column("checked_at", "timestamp", "UTC; when the phone was checked."),
    Column("valid_until", "timestamp", "UTC; a clear verdict counts until then."),
)

RAW_LEADS: Final = Table(
    "LEADSCRUB",
    "RAW_LEADS",
    "Leads kept by the partition's latest run: usable, no duplicate, not yet processed.",
    (
        _PARTITION,
        _RUN,
        _LEAD_NUMBER,
        _PERSON_KEY,
        Column("key_version", "int", "Version of the rule that made the person key."),
        _text("identity_hash", "Exact hash of the six raw identity values, computed by the warehouse."),
        *_IDENTITY,
        _text("additional", "Further columns of the script, as the text of a JSON object.", personal=True),
    ),
)

REJECTED_LEADS: Final = Table(
    "LEADSCRUB",
    "REJECTED_LEADS",
    "Leads of the partition's latest run that cannot be looked up, with the reason.",
    (_PARTITION, _RUN, _LEAD_NUMBER, _text("reason", "Why the lead was rejected."), *_IDENTITY),
)

ENRICHED_CONTACTS: Final = Table(
    "LEADSCRUB",
    "ENRICHED_CONTACTS",
    "What became of each kept lead at idiCORE in the partition's latest run.",
    (
        _PARTITION,
        _RUN,
        _LEAD_NUMBER,
        _PERSON_KEY,
        _text("outcome", "hit, miss, deferred or held."),
        _text("reason", "Why there is no contact, or which rule chose it."),
        _text("lookup_id", "The ledger's row, which is the request's referenceId."),
        Column("reused", "bool", "The answer was paid for earlier."),
        Column("looked_up_at", "timestamp", "UTC; when idiCORE answered."),
        Column("expires_at", "timestamp", "UTC; until then the answer is served again."),
        *_CONTACTS,
        _text("contact", "Details of the contact, as the text of a JSON object.", personal=True),
    ),
)

_FLAG_COLUMNS: Final = (_PARTITION, _RUN, _text("phone", "Ten digits.", personal=True), *_VERDICT)

LITIGATOR_FLAGS: Final = Table(
    "LEADSCRUB", "LITIGATOR_FLAGS", "The litigator verdict of each phone of the partition's latest run.", _FLAG_COLUMNS
)

DNC_FLAGS: Final = Table(
    "LEADSCRUB", "DNC_FLAGS", "The Do-Not-Call verdict of each phone of the partition's latest run.", _FLAG_COLUMNS
)

SLICES: Final = Table(
    "LEADSCRUB",
    "SLICES",
    "Which run last replaced a partition's slice of a work table, and its counts.",
    (
        _text("table_name", "The work table."),
        _PARTITION,
        _RUN,
        Column("replaced_at", "timestamp", "UTC."),
        Column("row_count", "int", "Rows in the slice."),
        _text("details", "Counts and facts that the next step needs, as the text of a JSON object."),
    ),
    key=("table_name", "partition_key"),
)

PERSON_CACHE: Final = Table(
    "LEADSCRUB",
    "PERSON_CACHE",
    "Who was looked up, until when that holds, and which row of the master table owns the person.",
    (
        _PERSON_KEY,
        Column("key_version", "int", "Version of the rule that made the person key."),
        _text("outcome", "hit or miss; erased for a person who must not be looked up again."),
        Column("looked_up_at", "timestamp", "UTC; when idiCORE answered."),
        Column("expires_at", "timestamp", "UTC; until then nobody pays for this person again."),
        _text("record_id", "The master table's row that owns the person, once published."),
        _text("partition_key", "The script that published the person."),
        Column("published_at", "timestamp", "UTC; when the person was last published."),
    ),
    key=("person_key",),
)

PUBLISHED_IDENTITIES: Final = Table(
    "LEADSCRUB",
    "PUBLISHED_IDENTITIES",
    "Exact hashes of raw identity values of published people: what the filter in SQL leaves out.",
    (
        _text("identity_hash", "Exact hash of the six raw identity values, computed by the warehouse."),
        _PERSON_KEY,
        _PARTITION,
        Column("settled", "bool", "No second visit is needed; only then the filter leaves the lead out."),
        _text("record_id", "The master table's row under which this script published the person; it never changes."),
        Column("identity_number", "number", "The identity hash as a number of 37 digits: what the filter looks for."),
        Column(
            "owned_until",
            "timestamp",
            "UTC; the person is this script's and paid for at least until then. NULL: nobody noted it, and the filter "
            "leaves nobody out for this row.",
        ),
    ),
    key=("identity_hash", "person_key", "partition_key"),
)

PHONE_VERDICTS: Final = Table(
    "LEADSCRUB",
    "PHONE_VERDICTS",
    "The latest verdict of each source about each phone.",
    (_text("phone", "Ten digits.", personal=True), _text("source", "ccc or dnc."), *_VERDICT),
    key=("phone", "source"),
)

SCRUB_EVIDENCE: Final = Table(
    "LEADSCRUB",
    "SCRUB_EVIDENCE",
    "Every check of every phone, as it was answered. Rows are only ever added.",
    (
        _RUN,
        _text("asset", "The asset that checked."),
        Column("sequence", "int", "Position within the run and asset, from 1."),
        _PARTITION,
        _text("script_hash", "Hash of the lead script as it was run."),
        _text("purpose", "Permissible purpose under which the person was looked up."),
        _text("phone", "Ten digits.", personal=True),
        _text("source", "ccc or dnc; company and consent for entries of INTERNAL_DNC and CONSENTS."),
        *_VERDICT,
        _text("canonical", "All of the above in one line: what the hash covers.", personal=True),
        _text("row_hash", "SHA-256 of the hash before and the canonical text: the chain of the run and asset."),
    ),
)

INTERNAL_DNC: Final = Table(
    "LEADSCRUB",
    "INTERNAL_DNC",
    "The company's own list: requests not to be called that were made to us. Rows are only ever added.",
    (
        _text("phone", "Ten digits.", personal=True),
        Column("requested_at", "timestamp", "UTC; when the request was made."),
        _text("source", "How it reached us, or which file has it."),
        Column("added_at", "timestamp", "UTC; since then it is honoured."),
        _text("run_id", "Run or command that added it."),
        Column("withdrawn_at", "timestamp", "UTC; when the number asked to be called again. NULL: it stands."),
        _text("withdrawal", "Why it was withdrawn."),
    ),
    key=("phone", "requested_at", "source"),
)

CONSENTS: Final = Table(
    "LEADSCRUB",
    "CONSENTS",
    "Who may be called although the registry lists the number, by what proof, until when. Rows are only ever added.",
    (
        _text("phone", "Ten digits.", personal=True),
        _text("kind", "written_consent, transaction or inquiry."),
        Column("given_at", "timestamp", "UTC; of the consent, transaction or inquiry."),
        _text("proof", "Where the proof is kept."),
        Column("expires_at", "timestamp", "UTC; a written consent without an end has none."),
        _text("source", "How it reached us, or which file has it."),
        Column("added_at", "timestamp", "UTC; since then it counts."),
        _text("run_id", "Run or command that added it."),
        Column("revoked_at", "timestamp", "UTC; when it was taken back. NULL: it stands."),
        _text("revocation", "Why it was revoked."),
    ),
    key=("phone", "kind", "given_at", "proof"),
)

WITHDRAWALS: Final = Table(
    "LEADSCRUB",
    "WITHDRAWALS",
    "Published rows that must no longer be called; a later publication lifts it.",
    (
        _text("record_id", "Row of the master table."),
        Column("withdrawn_at", "timestamp", "UTC."),
        _text("reason", "The script or run that was withdrawn."),
    ),
    key=("record_id",),
)

STAMP: Final = Table(
    "LEADSCRUB",
    "STAMP",
    "Facts about this warehouse: demo or live, when it was made, checksums of the views.",
    (_text("name", "The fact."), _text("value", "Its value.")),
    key=("name",),
)

SCHEMA_CHANGES: Final = Table(
    "LEADSCRUB",
    "SCHEMA_CHANGES",
    "Statements by which the program made or changed tables and views here. Rows are only ever added.",
    (
        Column("applied_at", "timestamp", "UTC."),
        Column("schema_version", "int", "Of the release that applied it."),
        _text("target", "The schema, table or view."),
        _text("statement", "As it was run."),
        _text("checksum", "SHA-256 of the statement, in hex."),
    ),
)

ERASED: Final = "erased"
"""Outcome and record id in PERSON_CACHE of a person whose data was erased."""

MASTER: Final = Table(
    "PUBLIC",
    "MASTER_PROCESSED_DB",
    "One row a person and script, with contacts and flags, merged by every run.",
    (
        _text("record_id", "First 32 hex digits of the SHA-256 of partition key and person key."),
        _text("job_id", "Dagster run that last wrote the row."),
        _text("job_name", "Dagster job of that run."),
        _text("table_id", "The lead script: the partition's key."),
        _text("table_title", "The lead script's title."),
        Column("processed_at", "timestamp", "UTC; when the row was last written."),
        *_IDENTITY,
        *_CONTACTS,
        Column(
            "in_litigator_list", "bool", "TRUE: any phone is listed. FALSE: all were answered clear. NULL: unknown."
        ),
        *(
            Column(
                f"phone_{i}_in_dnc",
                "bool",
                "TRUE on the registry or the company's list, FALSE checked and absent, NULL unknown or no phone.",
            )
            for i in (1, 2, 3)
        ),
        Column(
            "additional_data",
            "json",
            "Further columns of the script, details of the contact, and provenance: script hash, lookup, "
            "list version, times, a reason for each NULL flag.",
            personal=True,
        ),
    ),
    key=("record_id",),
)

TABLES: Final = (
    SCHEMA_CHANGES,
    RAW_LEADS,
    REJECTED_LEADS,
    ENRICHED_CONTACTS,
    LITIGATOR_FLAGS,
    DNC_FLAGS,
    SLICES,
    PERSON_CACHE,
    PUBLISHED_IDENTITIES,
    PHONE_VERDICTS,
    SCRUB_EVIDENCE,
    INTERNAL_DNC,
    CONSENTS,
    WITHDRAWALS,
    STAMP,
    MASTER,
)

CALLABLE_PHONES: Final = f"{DATABASE}.PUBLIC.CALLABLE_PHONES"
