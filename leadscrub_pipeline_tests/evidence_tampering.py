"""Somebody who changes evidence, a verdict or the ledger's seals by hand: one thing at a time, at random.

Each kind of tampering is a method of ``Tamperer``. Whether it is noticed is asked by test_evidence_tampering.py.
"""

import random
import sqlite3
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa

from leadscrub_pipeline.domain.chains import beginning
from leadscrub_pipeline.steps.evidence import EARLIER_RUN
from leadscrub_pipeline.warehouse.arrow import to_table
from leadscrub_pipeline.warehouse.evidence import PLAIN_COLUMNS, SCHEMA, ChainEnd
from leadscrub_pipeline.warehouse.protocol import Session
from leadscrub_pipeline.warehouse.schema import PHONE_VERDICTS, SCRUB_EVIDENCE

TABLE = SCRUB_EVIDENCE.full_name
COLUMNS = SCRUB_EVIDENCE.column_names
Row = dict[str, Any]

_MATCH = " AND ".join(f"{name} IS NOT DISTINCT FROM ?" for name in COLUMNS)


class Tamperer:
    """Works on a session within a transaction that is rolled back, and on the ledger's file."""

    def __init__(self, session: Session, ledger: sqlite3.Connection) -> None:
        self.session = session
        self.ledger = ledger
        self.dice = random.Random()
        self.rows = [dict(zip(COLUMNS, row, strict=True)) for row in session.rows(_ALL)]
        self.chains: dict[tuple[str, str], list[Row]] = {}
        for row in self.rows:
            if row["row_hash"] is not None:
                self.chains.setdefault((row["run_id"], row["asset"]), []).append(row)

    def kinds(self) -> Sequence[tuple[str, Callable[[], str]]]:
        """Every kind with a weight of one, and each column of each table as a kind of its own."""
        edits = [(f"edit {name}", lambda name=name: self.edit(name)) for name in COLUMNS]
        root_edits = [(f"edit root {name}", lambda name=name: self.edit_root(name)) for name in _ROOT_COLUMNS]
        chain_edits = [(f"edit chain {name}", lambda name=name: self.edit_chain(name)) for name in _CHAIN_COLUMNS]
        others = (
            self.edit_and_write_text, self.edit_and_chain_anew, self.delete_row, self.delete_some, self.insert_copy,
            self.insert_in_the_middle, self.append_well_made, self.insert_unchained, self.insert_new_chain,
            self.duplicate, self.swap_contents, self.swap_whole_rows, self.swap_sequences, self.cut_tail,
            self.cut_tail_to_one, self.delete_chain, self.move_to_other_chain, self.shift_sequences,
            self.delete_root, self.delete_last_root, self.delete_chain_in_ledger, self.forge_root,
            self.listed_to_clear, self.longer_verdict, self.invented_verdict,
        )  # fmt: skip
        return [*edits, *root_edits, *chain_edits, *((how.__name__, how) for how in others)]

    # --- one row ------------------------------------------------------------------------

    def edit(self, column: str) -> str:
        row = self.dice.choice(self.rows)
        value = self._other_value(column, row)
        self._update(row, {column: value})
        return f"{column} of row {row['sequence']} of {row['run_id']}"

    def edit_and_write_text(self) -> str:
        """The text is made to fit the columns, and the hash is not."""
        row = self._chained()
        changed = self._edited(row)
        text = self._linked([changed], beginning("x", "y"))[0]["canonical"]
        self._update(row, changed | {"canonical": text})
        return f"row {row['sequence']} of {row['run_id']} with its text"

    def edit_and_chain_anew(self) -> str:
        """Somebody who knows how texts and hashes are made, and makes all of them anew to the chain's end."""
        chain = self.dice.choice(list(self.chains.values()))
        at = self.dice.randrange(len(chain))
        before = beginning(chain[0]["run_id"], chain[0]["asset"]) if at == 0 else chain[at - 1]["row_hash"]
        forged = self._linked([self._edited(chain[at]), *chain[at + 1 :]], before)
        self._delete_range(chain[at:])
        self._insert(forged)
        return f"row {at + 1} of {chain[0]['run_id']} and all hashes after it"

    def delete_row(self) -> str:
        row = self.dice.choice(self.rows)
        self._delete(row)
        return f"row {row['sequence']} of {row['run_id']}"

    def delete_some(self) -> str:
        chain = self.dice.choice([rows for rows in self.chains.values() if len(rows) > 3])
        first = self.dice.randrange(len(chain) - 2)
        gone = chain[first : first + self.dice.randint(2, len(chain) - first)]
        self._delete_range(gone)
        return f"{len(gone)} rows of {chain[0]['run_id']}"

    def duplicate(self) -> str:
        row = self.dice.choice(self.rows)
        self._insert([row])
        return f"row {row['sequence']} of {row['run_id']}"

    def insert_copy(self) -> str:
        """A row for another phone, with the text and hash of one that is there."""
        row = self._chained()
        self._insert([row | {"phone": "2125550123"}])
        return f"beside row {row['sequence']} of {row['run_id']}"

    def insert_in_the_middle(self) -> str:
        """A well-made row, and the sequence of all behind it is moved."""
        chain = self.dice.choice([rows for rows in self.chains.values() if len(rows) > 3])
        at = self.dice.randrange(1, len(chain))
        made = self._linked([chain[at] | {"phone": "2125550123"}], chain[at - 1]["row_hash"])
        self.session.execute(
            f"UPDATE {TABLE} SET sequence = sequence + 1 WHERE run_id = ? AND asset = ? AND sequence > ?",
            [chain[at]["run_id"], chain[at]["asset"], at],
        )
        self._insert(made)
        return f"at row {at + 1} of {chain[0]['run_id']}"

    def append_well_made(self) -> str:
        """A row behind the last with the hash that would follow."""
        chain = self.dice.choice(list(self.chains.values()))
        made = chain[-1] | {"phone": "2125550123", "sequence": len(chain) + 1}
        self._insert(self._linked([made], chain[-1]["row_hash"]))
        return f"behind the end of {chain[0]['run_id']}"

    def insert_unchained(self) -> str:
        """A row that looks as if an older release had written it."""
        row = self._chained()
        run_id = self.dice.choice(["run-of-old", *(row["run_id"] for row in self.rows if row["row_hash"] is None)])
        self._insert([row | {"run_id": run_id, "canonical": None, "row_hash": None}])
        return f"under {run_id}"

    def insert_new_chain(self) -> str:
        """A whole chain, well made, of a run that never was."""
        rows = [self._chained() | {"run_id": "run-that-never-was", "sequence": n} for n in range(1, 4)]
        asset = rows[0]["asset"]
        rows = [row | {"asset": asset} for row in rows]
        self._insert(self._linked(rows, beginning("run-that-never-was", asset)))
        return "three rows"

    # --- several rows -------------------------------------------------------------------

    def swap_contents(self) -> str:
        """What two rows say changes places, and the rest stays; their text goes with it, or not."""
        one, other = self._two_of_a_chain()
        names = ["phone", "verdict", "reason", "checked_at", "valid_until"]
        names += self.dice.choice([[], ["canonical"]])
        return self._swap(one, other, names)

    def swap_whole_rows(self) -> str:
        """All but the sequence changes places, hashes included."""
        return self._swap(*self._two_of_a_chain(), [name for name in COLUMNS if name != "sequence"])

    def swap_sequences(self) -> str:
        return self._swap(*self._two_of_a_chain(), ["sequence"])

    def shift_sequences(self) -> str:
        row = self._chained()
        self.session.execute(
            f"UPDATE {TABLE} SET sequence = sequence + ? WHERE run_id = ? AND asset = ?",
            [self.dice.choice([-1, 1, 1000, 10**12]), row["run_id"], row["asset"]],
        )
        return f"all of {row['run_id']}"

    def move_to_other_chain(self) -> str:
        row = self._chained()
        run_id, asset = self.dice.choice([key for key in self.chains if key != (row["run_id"], row["asset"])])
        self._update(row, {"run_id": run_id, "asset": asset})
        return f"row {row['sequence']} of {row['run_id']} to {run_id}"

    def cut_tail(self) -> str:
        chain = self.dice.choice([rows for rows in self.chains.values() if len(rows) > 1])
        return self._cut(chain, self.dice.randint(1, len(chain) - 1))

    def cut_tail_to_one(self) -> str:
        chain = self.dice.choice([rows for rows in self.chains.values() if len(rows) > 1])
        return self._cut(chain, len(chain) - 1)

    def delete_chain(self) -> str:
        chain = self.dice.choice(list(self.chains.values()))
        return self._cut(chain, len(chain))

    # --- the ledger ---------------------------------------------------------------------

    def edit_root(self, column: str) -> str:
        (entry,) = self._pick("SELECT entry FROM ledger_roots")
        return self._edit_ledger("ledger_roots", column, "entry = ?", [entry])

    def edit_chain(self, column: str) -> str:
        run_id, asset = self._pick("SELECT run_id, asset FROM ledger_chains WHERE run_id <> ?", EARLIER_RUN)
        return self._edit_ledger("ledger_chains", column, "run_id = ? AND asset = ?", [run_id, asset])

    def delete_root(self) -> str:
        (entry,) = self._pick("SELECT entry FROM ledger_roots")
        self.ledger.execute("DELETE FROM ledger_roots WHERE entry = ?", [entry])
        return f"entry {entry}"

    def delete_last_root(self) -> str:
        self.ledger.execute("DELETE FROM ledger_roots WHERE entry = (SELECT MAX(entry) FROM ledger_roots)")
        return "the last entry"

    def delete_chain_in_ledger(self) -> str:
        run_id, asset = self._pick("SELECT run_id, asset FROM ledger_chains")
        self.ledger.execute("DELETE FROM ledger_chains WHERE run_id = ? AND asset = ?", [run_id, asset])
        return f"{asset} of {run_id}"

    def forge_root(self) -> str:
        """A seal whose own hash fits, and which the next seal does not hold."""
        from leadscrub_pipeline.ledger.evidence_roots import _entry_hash  # noqa: PLC0415 - what a forger would read

        values = list(self._pick("SELECT * FROM ledger_roots"))
        values[3] += 1
        values[7] = _entry_hash(*values[:7])
        self.ledger.execute(
            "UPDATE ledger_roots SET row_count = ?, entry_hash = ? WHERE entry = ?", [values[3], values[7], values[0]]
        )
        return f"entry {values[0]}"

    # --- verdicts -----------------------------------------------------------------------

    def listed_to_clear(self) -> str:
        (phone,) = self.dice.choice(
            self.session.rows(f"SELECT phone FROM {PHONE_VERDICTS.full_name} WHERE verdict = 'listed' ORDER BY phone")
        )
        self.session.execute(
            f"UPDATE {PHONE_VERDICTS.full_name} SET verdict = 'clear' WHERE phone = ? AND verdict = 'listed'", [phone]
        )
        return "a listed phone"

    def longer_verdict(self) -> str:
        phone = self._clear_phone()
        self.session.execute(
            f"UPDATE {PHONE_VERDICTS.full_name} SET valid_until = valid_until + INTERVAL 1 DAY "
            "WHERE phone = ? AND verdict = 'clear'",
            [phone],
        )
        return "a clear phone for a day more"

    def invented_verdict(self) -> str:
        self.session.execute(
            f"INSERT INTO {PHONE_VERDICTS.full_name} SELECT '2125550123', source, verdict, reason, list_version, "
            f"obtained_at, checked_at, valid_until FROM {PHONE_VERDICTS.full_name} "
            "WHERE phone = ? AND verdict = 'clear'",
            [self._clear_phone()],
        )
        return "a clear phone that nobody asked about"

    # --- how ----------------------------------------------------------------------------

    def _chained(self) -> Row:
        return self.dice.choice([row for row in self.rows if row["row_hash"] is not None])

    def _two_of_a_chain(self) -> tuple[Row, Row]:
        one, other = self.dice.sample(self.dice.choice([rows for rows in self.chains.values() if len(rows) > 1]), 2)
        return one, other

    def _clear_phone(self) -> str:
        found = self.session.rows(
            f"SELECT phone FROM {PHONE_VERDICTS.full_name} WHERE verdict = 'clear' ORDER BY phone LIMIT 500"
        )
        phone: str = self.dice.choice(found)[0]
        return phone

    def _edited(self, row: Row) -> Row:
        column = self.dice.choice(
            ["phone", "verdict", "reason", "list_version", "checked_at", "valid_until", "purpose"]
        )
        return row | {column: self._other_value(column, row)}

    def _other_value(self, column: str, row: Row) -> object:
        """A value that is not the one there: NULL, one from another row, or one that nearly is the same."""
        now = row[column]
        near = [datetime(2026, 1, 1)] if now is None and column.endswith(("_at", "_until")) else _near(now)  # noqa: DTZ001 - as stored
        candidates: list[object] = [None, self.dice.choice(self.rows)[column], *near]
        return self.dice.choice([value for value in candidates if value != now])

    def _linked(self, rows: Sequence[Row], before: str) -> list[Row]:
        """The rows with texts and hashes as the package makes them."""
        schema = pa.schema([SCHEMA.field(name) for name in PLAIN_COLUMNS])
        end = ChainEnd("", "", 0, before)
        made: list[Row] = end.linked(to_table(rows, schema))[0].to_pylist()
        return made

    def _insert(self, rows: Sequence[Row]) -> None:
        self.session.load(TABLE, to_table(rows, SCHEMA))

    def _delete(self, row: Row) -> None:
        assert self.session.execute(f"DELETE FROM {TABLE} WHERE {_MATCH}", [row[name] for name in COLUMNS])

    def _delete_range(self, rows: Sequence[Row]) -> None:
        """Rows of one chain that follow each other."""
        first, last = rows[0], rows[-1]
        self.session.execute(
            f"DELETE FROM {TABLE} WHERE run_id = ? AND asset = ? AND sequence BETWEEN ? AND ?",
            [first["run_id"], first["asset"], first["sequence"], last["sequence"]],
        )

    def _update(self, row: Row, values: Row) -> None:
        settings = ", ".join(f"{name} = ?" for name in values)
        params = [*values.values(), *(row[name] for name in COLUMNS)]
        assert self.session.execute(f"UPDATE {TABLE} SET {settings} WHERE {_MATCH}", params)

    def _swap(self, one: Row, other: Row, names: Sequence[str]) -> str:
        self._delete(one)
        self._delete(other)
        self._insert([one | {name: other[name] for name in names}, other | {name: one[name] for name in names}])
        return f"rows {one['sequence']} and {other['sequence']} of {one['run_id']}"

    def _cut(self, chain: Sequence[Row], rows: int) -> str:
        self._delete_range(chain[len(chain) - rows :])
        return f"the last {rows} of {len(chain)} rows of {chain[0]['run_id']}"

    def _pick(self, query: str, *params: object) -> tuple[Any, ...]:
        found: tuple[Any, ...] = self.dice.choice(self.ledger.execute(query, params).fetchall())
        return found

    def _edit_ledger(self, table: str, column: str, where: str, params: Sequence[object]) -> str:
        (now,) = self.ledger.execute(f"SELECT {column} FROM {table} WHERE {where}", params).fetchone()
        value = self.dice.choice(_near(now) if now is not None else [1, 1_700_000_000_000_000])
        statement = f"UPDATE {table} SET {column} = ? WHERE {where}"
        try:
            self.ledger.execute(statement, [value, *params])
        except sqlite3.IntegrityError:  # there is one of that name
            self.ledger.execute(statement, [now + 1_000 if isinstance(now, int) else f"{now}x", *params])
        return f"{column} where {where} {params}"


_ALL = f"SELECT {', '.join(COLUMNS)} FROM {TABLE} ORDER BY run_id, asset, sequence"
_ROOT_COLUMNS = ("entry", "run_id", "asset", "row_count", "root", "sealed_at", "previous", "entry_hash")
_CHAIN_COLUMNS = ("run_id", "asset", "partition_key", "row_count", "root", "pruned_at")


def _near(value: object) -> list[object]:
    """Values that differ from this one as little as can be."""
    match value:
        case str():
            other_digit = value[:-1] + ("0" if value[-1:] != "0" else "1")
            return [other_digit, value + " ", value.upper() if value.upper() != value else value + "x", ""]
        case int():
            return [value + 1, value - 1]
        case datetime():
            return [value + timedelta(microseconds=1), value - timedelta(days=1), datetime.max]  # noqa: DTZ901 - as stored
        case _:
            return ["x"] if value is None else []
