"""Selecting leads: runs a script, leaves out who needs no visit, and keeps the rest by person.

What a lead must have to be usable and who is the same person stand in domain/people.py;
looking people up does not belong here.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal

import pyarrow as pa

from leadscrub_pipeline import failpoints
from leadscrub_pipeline.domain.columns import ColumnMap, recognise_columns
from leadscrub_pipeline.domain.people import KEY_RULES, KEY_VERSION, KeyRules, Person, unusable_reason
from leadscrub_pipeline.domain.scripts import LeadScript
from leadscrub_pipeline.errors import FailedError, RefusedError
from leadscrub_pipeline.progress import Progress
from leadscrub_pipeline.warehouse.identity_numbers import identity_number
from leadscrub_pipeline.warehouse.protocol import Dialect, OutputColumn, Session
from leadscrub_pipeline.warehouse.schema import (
    ERASED,
    IDENTITY_COLUMNS,
    PERSON_CACHE,
    PUBLISHED_IDENTITIES,
    RAW_LEADS,
    REJECTED_LEADS,
)
from leadscrub_pipeline.warehouse.slices import Slice, replace_slice

AlreadyProcessed = Literal["skip", "include"]

PAGE_ROWS: Final = 10_000
_FILTERED: Final = "left out by the filter"

_KEYED: Final = pa.schema([("lead_number", pa.int64()), ("person_key", pa.string()), ("reason", pa.string())])

# An identity counts only while its person is owned by the script that published it, so
# that the filter leaves out no one whom the check by key would let through. One narrow number is looked
# through, and no other table: among 50 million people the text of the hash takes ten times as long.
_LEFT_OUT: Final = f"""
SELECT s.lead_number
FROM {{selection}} AS s
JOIN {PUBLISHED_IDENTITIES.full_name} AS i ON i.identity_number = s.identity_number
GROUP BY s.lead_number
HAVING MAX(CASE WHEN i.settled THEN i.owned_until END) > ?
"""

_PROCESSED: Final = f"""
SELECT c.person_key
FROM (SELECT DISTINCT person_key FROM {{keyed}}) AS w
JOIN {PERSON_CACHE.full_name} AS c ON c.person_key = w.person_key
LEFT JOIN (
  SELECT DISTINCT i.person_key
  FROM {{keyed}} AS w
  JOIN {PUBLISHED_IDENTITIES.full_name} AS i ON i.person_key = w.person_key
  WHERE i.partition_key = ? AND i.settled
) AS ours ON ours.person_key = c.person_key
WHERE c.record_id IS NOT NULL AND c.expires_at > ?
  AND (c.partition_key <> ? OR (c.partition_key = ? AND ours.person_key IS NOT NULL))
"""

_DECIDED: Final = """
SELECT
  k.lead_number,
  k.person_key,
  k.reason,
  CASE
    WHEN k.reason IS NOT NULL THEN 'rejected'
    WHEN p.person_key IS NOT NULL THEN 'already_processed'
    WHEN ROW_NUMBER() OVER (PARTITION BY k.person_key ORDER BY k.lead_number) > 1 THEN 'duplicate'
    ELSE 'kept'
  END AS decision
FROM {keyed} AS k
LEFT JOIN ({processed}) AS p ON p.person_key = k.person_key
"""


@dataclass(frozen=True, slots=True)
class Selection:
    """What became of each lead a script selected; the leads themselves wait in the session's stage tables."""

    selected: int
    rejected: dict[str, int] = field(default_factory=dict)
    duplicate: int = 0
    already_processed: int = 0
    kept: int = 0

    @property
    def counts(self) -> dict[str, int]:
        return {
            "selected": self.selected,
            "rejected": sum(self.rejected.values()),
            "duplicate": self.duplicate,
            "already_processed": self.already_processed,
            "kept": self.kept,
        }


class LeadSelection:
    """One run of one script in one session. It writes stage tables only, until ``publish``."""

    def __init__(
        self,
        session: Session,
        dialect: Dialect,
        script: LeadScript,
        *,
        now: datetime,
        already_processed: AlreadyProcessed = "skip",
        filter_in_sql: bool = True,
        row_limit: int | None = None,
        key_rules: KeyRules = KEY_RULES,
        key_version: int = KEY_VERSION,
        report: Callable[[str], None] = lambda _text: None,
    ) -> None:
        self._session = session
        self._report = report
        self._dialect = dialect
        self._script = script
        self._now = now
        self._skip = already_processed == "skip"
        self._filter_in_sql = filter_in_sql
        self._row_limit = row_limit
        self._key_rules = key_rules
        self._key_version = key_version
        self._selection = ""
        self.query_id: str | None = None
        """Of the script itself, in the engine's own history."""
        self._keyed = ""
        self._left_out: tuple[str, list[object]] = "", []
        self.kept = ""
        """The kept leads' lead_number and person_key, as what stands after FROM."""

    def run(self) -> Selection:
        """Run the script and decide on each lead.

        Raises:
            RefusedError: the guard refuses the script, or its columns do not say who the person is.
            FailedError: the warehouse cannot run it.
        """
        statement, columns = self._session.select_leads(self._script)
        meaning = recognise_columns([column.name for column in columns], self._script)
        self._selection = self._select(selection_query(self._dialect, statement, columns, meaning, self._script.key))
        self.query_id = self._session.query_id
        self._keyed = self._session.create_stage("keyed", _KEYED)
        last_read = self._key_people()
        decided = self._session.create_stage_as("decided", *self._decided())
        cutoff = self._cutoff(decided, last_read)
        self.kept = (
            f"(SELECT lead_number, person_key FROM {decided} WHERE decision = 'kept' AND lead_number <= {cutoff})"
        )
        self._decided_table = decided
        self._last = cutoff
        return self._count(decided, cutoff)

    def publish(self, run_id: str, selection: Selection) -> int:
        """Replace the partition's slices of RAW_LEADS and REJECTED_LEADS in one transaction; return the leads kept."""
        identity = ", ".join(f"s.{name}" for name in IDENTITY_COLUMNS)
        key = self._script.key
        details = {
            **selection.counts,
            "rejected_by_reason": selection.rejected,
            "script_hash": self._script.script_hash,
        }
        with self._session.transaction():
            stored = replace_slice(
                self._session,
                RAW_LEADS,
                key,
                run_id,
                select=(
                    f"SELECT ?, ?, s.lead_number, k.person_key, {self._key_version}, s.identity_hash, {identity}, "
                    "s.additional "
                    f"FROM {self._selection} AS s JOIN {self.kept} AS k ON k.lead_number = s.lead_number"
                ),
                params=[key, run_id],
                details=details,
                now=self._now,
            )
            replace_slice(
                self._session,
                REJECTED_LEADS,
                key,
                run_id,
                select=(
                    f"SELECT ?, ?, s.lead_number, d.reason, {identity} FROM {self._selection} AS s "
                    f"JOIN {self._decided_table} AS d ON d.lead_number = s.lead_number "
                    "WHERE d.decision = 'rejected' AND d.lead_number <= ?"
                ),
                params=[key, run_id, self._last],
                details={},
                now=self._now,
            )
            failpoints.reached("leads.before_commit")
        failpoints.reached("leads.after_commit")
        return stored

    def _select(self, query: str) -> str:
        try:
            return self._session.create_stage_as("selection", query, script=True)
        except FailedError as error:
            raise FailedError(
                f"Script {self._script.key} broke off while it ran. {error} Look at casts and divisions, and "
                "use TRY_CAST or NULLIF where values vary; or a line of a source file is broken further down."
            ) from None

    def _leave_out(self) -> tuple[str, list[object]]:
        """Who the filter in SQL leaves out, as what stands after FROM."""
        if not (self._skip and self._filter_in_sql):
            return "(SELECT 0 AS lead_number WHERE FALSE)", []
        left_out = _LEFT_OUT.format(selection=self._selection)
        if self._session.leads_at_a_time is None:
            return f"({left_out})", [self._now]
        # Read once more for each batch of leads, so it is computed before.
        return self._session.create_stage_as("left_out", left_out, [self._now]), []

    def _key_people(self) -> int:
        """Stream the leads once through Python for person key and rejection; return the last lead number read."""
        left_out, params = self._left_out = self._leave_out()
        selected, erased = self._selected_and_erased()
        waiting: list[pa.Table] = []
        last = 0
        progress = Progress(self._report, noun="leads read", total=selected)
        for page in self._session.batches(
            f"SELECT s.lead_number, {', '.join('s.' + name for name in IDENTITY_COLUMNS)} FROM {self._selection} AS s "
            f"WHERE NOT EXISTS (SELECT 1 FROM {left_out} AS o WHERE o.lead_number = s.lead_number)",
            params,
            key="lead_number",
            last=selected,
            rows=PAGE_ROWS,
        ):
            last += PAGE_ROWS
            progress.add(min(PAGE_ROWS, selected - progress.done))
            waiting.append(self._keyed_page(page, erased))
            if sum(table.num_rows for table in waiting) >= self._session.load_rows:
                self._load_keyed(waiting)
                # An engine that gathers rows is asked once, when all are there.
                if self._row_limit is not None and self._session.load_rows == 1 and self._is_enough():
                    return min(last, selected)
        self._load_keyed(waiting)
        return selected

    def _load_keyed(self, waiting: list[pa.Table]) -> None:
        if waiting:
            self._session.load(self._keyed, pa.concat_tables(waiting))
            waiting.clear()

    def _selected_and_erased(self) -> tuple[int, Mapping[int, Collection[str]]]:
        """How many leads the script selected, and who was erased before the rule changed.

        Nothing is known of them but the old key, which still bars them.
        """
        erased: defaultdict[int, set[str]] = defaultdict(set)
        selected = 0
        for key, number in self._session.rows(
            f"SELECT NULL AS person_key, COUNT(*) AS number FROM {self._selection} UNION ALL "
            f"SELECT person_key, key_version FROM {PERSON_CACHE.full_name} WHERE outcome = ? AND key_version <> ?",
            [ERASED, self._key_version],
        ):
            if key is None:
                selected = number
            else:
                erased[number].add(key)
        return selected, {version: keys for version, keys in erased.items() if version in self._key_rules}

    def _keyed_page(self, page: pa.Table, erased: Mapping[int, Collection[str]]) -> pa.Table:
        rule = self._key_rules[self._key_version]
        keys: list[str | None] = []
        reasons: list[str | None] = []
        for person in people_of(page):
            reason = unusable_reason(person)
            reasons.append(reason)
            keys.append(None if reason else self._older_key(person, erased) or rule(person))
        return pa.table(
            [page.column("lead_number"), pa.array(keys, pa.string()), pa.array(reasons, pa.string())], schema=_KEYED
        )

    def _older_key(self, person: Person, erased: Mapping[int, Collection[str]]) -> str | None:
        return next(
            (key for version, keys in erased.items() if (key := self._key_rules[version](person)) in keys), None
        )

    def _decided(self) -> tuple[str, list[object]]:
        if not self._skip:
            nobody = "SELECT CAST(NULL AS VARCHAR) AS person_key WHERE FALSE"
            return _DECIDED.format(keyed=self._keyed, processed=nobody), []
        processed = _PROCESSED.format(keyed=self._keyed)
        key = self._script.key
        return _DECIDED.format(keyed=self._keyed, processed=processed), [key, self._now, key, key]

    def _is_enough(self) -> bool:
        select, params = self._decided()
        found = self._session.rows(f"SELECT COUNT(*) FROM ({select}) AS d WHERE decision = 'kept'", params)
        return int(found[0][0]) >= (self._row_limit or 0)

    def _cutoff(self, decided: str, last_read: int) -> int:
        """The last lead that counts: the one that fills the row limit, or the last one there is."""
        if self._row_limit is None:
            return last_read
        if self._row_limit == 0:
            return 0
        found = self._session.rows(
            f"SELECT lead_number FROM {decided} WHERE decision = 'kept' ORDER BY lead_number "
            f"LIMIT 1 OFFSET {self._row_limit - 1}"
        )
        return int(found[0][0]) if found else last_read

    def _count(self, decided: str, cutoff: int) -> Selection:
        left_out, params = self._left_out
        rejected: dict[str, int] = {}
        decisions: Counter[str] = Counter()
        for decision, reason, count in self._session.rows(
            f"SELECT decision, reason, COUNT(*) FROM {decided} WHERE lead_number <= ? GROUP BY decision, reason "
            f"UNION ALL SELECT '{_FILTERED}', NULL, COUNT(*) FROM {left_out} AS o WHERE o.lead_number <= ? "
            # Who was read counts as such, also when another run published them since.
            f"AND NOT EXISTS (SELECT 1 FROM {self._keyed} AS k WHERE k.lead_number = o.lead_number)",
            [cutoff, *params, cutoff],
        ):
            decisions[decision] += count
            if decision == "rejected":
                rejected[reason] = count
        # Leads are numbered from 1 without a gap. Each up to the cutoff was read or left out, which is counted and not
        # inferred: a lead that was neither must show as a sum that does not hold.
        return Selection(
            selected=cutoff,
            rejected=rejected,
            duplicate=decisions["duplicate"],
            already_processed=decisions["already_processed"] + decisions[_FILTERED],
            kept=decisions["kept"],
        )


def selection_query(
    dialect: Dialect, statement: str, columns: tuple[OutputColumn, ...], meaning: ColumnMap, script_key: str
) -> str:
    """The script's leads in our shape: number, six identity values as text, the rest as JSON, the hash, its number."""
    types = {column.name: column.type for column in columns}
    identity = []
    for name in IDENTITY_COLUMNS:
        source = getattr(meaning, name)
        if source is None:
            identity.append(f"CAST(NULL AS VARCHAR) AS {name}")
            continue
        if types[source] not in ("text", "int"):
            raise RefusedError(
                f"Script {script_key}: column {source!r} serves as {name} and is neither text nor a whole number. "
                f"Cast it in the script, for example CAST({source} AS INTEGER) AS {source} for whole numbers, "
                f"or AS VARCHAR."
            )
        quoted = source.replace('"', '""')
        identity.append(f'CAST(script."{quoted}" AS VARCHAR) AS {name}')
    extras = [column for column in columns if column.name in set(meaning.extras)]
    _check_names(extras, script_key)
    names = ", ".join(IDENTITY_COLUMNS)
    exact = identity_hash(dialect)
    return (
        f"SELECT {dialect.row_number()} AS lead_number, {names}, additional, {exact} AS identity_hash, "
        f"{identity_number(exact)} AS identity_number "
        f"FROM (SELECT {', '.join(identity)}, {dialect.json_object(extras)} AS additional "
        f"FROM ({statement}) AS script) AS lead"
    )


def require_current_keys(session: Session, leads: Slice, version: int = KEY_VERSION) -> None:
    """Leads that were selected before a rekey would be asked about, and published, as strangers.

    Raises:
        FailedError: the slice was made under another version of the person key.
    """
    if session.rows(
        f"SELECT 1 FROM {RAW_LEADS.full_name} WHERE {leads.where} AND key_version <> ? LIMIT 1",
        [*leads.params, version],
    ):
        raise FailedError(
            f"The leads of partition {leads.partition_key} were selected under another version of the person key. "
            "Materialize raw_leads and what comes after it again."
        )


def identity_hash(dialect: Dialect) -> str:
    """Exact hash of the six identity columns, as an expression of the warehouse."""
    # Lengths make the text unambiguous: no two different sets of values have the same one.
    raw = " || ".join(f"COALESCE(CAST(LENGTH({name}) AS VARCHAR) || ':' || {name}, '-')" for name in IDENTITY_COLUMNS)
    return dialect.sha256(raw)


def people_of(page: pa.Table) -> Iterator[Person]:
    """The people of a page that has the six identity columns."""
    yield from map(Person._make, zip(*(page.column(name).to_pylist() for name in IDENTITY_COLUMNS), strict=True))


def _check_names(extras: Sequence[OutputColumn], script_key: str) -> None:
    """In additional_data names are in lower case, and one of them is ours."""
    names = Counter(column.name.lower() for column in extras)
    for name, count in names.items():
        if name == "provenance" or count > 1:
            raise RefusedError(
                f"Script {script_key}: column {name!r} cannot go to additional_data, where names are in lower case "
                "and provenance is taken. Give it another name with AS."
            )
