"""Adoption: who was paid for by an older system is not paid for again, and the old rows stay as they are."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from leadscrub_pipeline.warehouse.arrow import arrow_schema, to_table
from leadscrub_pipeline.warehouse.schema import IDENTITY_COLUMNS, MASTER, PERSON_CACHE, PUBLISHED_IDENTITIES
from leadscrub_pipeline_tests.children import Order, environment, scrub
from leadscrub_pipeline_tests.command_line import leadscrub
from leadscrub_pipeline_tests.graph import Graph, graph_in, people
from leadscrub_pipeline_tests.killed import adopt, killed
from leadscrub_pipeline_tests.tallies import tally

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)
COLUMNS = ", ".join(MASTER.column_names)


@pytest.fixture
def graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Graph]:
    with graph_in(tmp_path, monkeypatch) as made:
        yield made


def old_row(
    person: Sequence[object],
    record_id: object = None,
    *,
    processed_at: datetime | None = NOW - 10 * DAY,
    table_id: str | None = "old_table",
    **columns: object,
) -> dict[str, object]:
    """A row as an older system left it: of the 23 columns, those it knew."""
    row: dict[str, object] = dict.fromkeys(MASTER.column_names)
    identity = dict(zip(IDENTITY_COLUMNS, person, strict=True))
    return row | identity | {
        "record_id": record_id, "table_id": table_id, "processed_at": processed_at, "job_name": "etl", **columns
    }  # fmt: skip


def store(graph: Graph, rows: Sequence[Mapping[str, object]]) -> None:
    with graph.warehouse() as session:
        session.load(MASTER.full_name, to_table(rows, arrow_schema(MASTER)))


def old_rows(graph: Graph) -> list[tuple[Any, ...]]:
    rows = graph.rows(f"SELECT {COLUMNS} FROM {MASTER.full_name} WHERE job_name = 'etl'")
    return sorted(rows, key=repr)


def dirty_rows() -> list[dict[str, object]]:
    """Six people in ten rows, as they come: other spellings, floats for phones, ids of any form or none."""
    first, second, third, fourth, fifth, sixth = people(6)
    return [
        old_row(first, "1", phone_1="2125550101.0", in_litigator_list=False),
        old_row([str(value).upper() for value in first], "2", processed_at=NOW - 40 * DAY, phone_1="(212) 555-0101"),
        old_row(second, "0b8e6c7a-0000-4000-8000-000000000000", email_1="Someone@Example.com"),
        old_row(third, None, phone_1="nan", phone_2=""),
        old_row(fourth, "same", phone_1="212.555.0104", table_id=None),
        old_row(fifth, "same", phone_1="not a phone"),
        old_row(sixth, "6", phone_1="+1 212 555 0106", processed_at=NOW - 400 * DAY),
        old_row(("", "Example", "1 Main St", "X", "IL", "62701"), "7", phone_1="2125550107"),
        old_row(("Ada", "Example", None, None, None, None), "8"),
        old_row(("Ada", "Example", "9 Main St", "", "", None), "9", processed_at=None),
    ]


def run(graph: Graph, key: str = "leads", **config: object) -> Any:
    report = scrub(Order(key, f"run-{datetime.now(UTC).timestamp()}", environment(), config=config))
    assert report.defect is None, report.defect
    return report


def test_people_of_the_old_table_are_processed_already_and_never_paid_for(graph: Graph) -> None:
    store(graph, dirty_rows())
    before = old_rows(graph)
    found = leadscrub("adopt", "--json").json
    assert {name: found[name] for name in ("rows", "known", "people", "duplicates", "expired", "without_time")} == {
        "rows": 10, "known": 0, "people": 6, "duplicates": 1, "expired": 1, "without_time": 0,
    }  # fmt: skip
    assert found["unusable"] == {"no_address": 1, "no_first_name": 1, "no_place": 1}
    assert old_rows(graph) == before
    counts = run(graph).counts
    # Ten people are selected: five adopted ones wait out their time, the sixth's is over.
    assert (counts["already_processed"], counts["kept"], counts["published"], graph.billed) == (5, 5, 5, 5)


def test_a_person_whose_time_is_over_is_looked_up_anew_and_their_old_row_is_brought_up_to_date(graph: Graph) -> None:
    graph.write_script("old_table")
    store(graph, [old_row(people(1)[0], "old-id-1", processed_at=NOW - 400 * DAY, phone_1="2125550101")])
    leadscrub("adopt")
    report = run(graph, "old_table")
    assert report.counts["published"] == graph.billed == 10
    rows = graph.rows(f"SELECT job_name, phone_1 FROM {MASTER.full_name} WHERE record_id = 'old-id-1'")
    assert len(rows) == 1
    assert rows[0][0] == "scrub_job"
    assert len(graph.master()) == 10


def test_a_miss_is_adopted_for_the_days_of_a_miss(graph: Graph) -> None:
    hit, miss = people(2)
    then = NOW - 31 * DAY
    store(graph, [old_row(hit, "1", processed_at=then, phone_1="2125550101"), old_row(miss, "2", processed_at=then)])
    assert leadscrub("adopt", "--json").json["expired"] == 1
    assert run(graph).counts["already_processed"] == 1


def test_with_include_an_adopted_person_is_held_and_not_paid_for(graph: Graph) -> None:
    graph.write_source("LEADS_DB.PUBLIC.LEADS", people(2))
    store(graph, [old_row(person, str(number), phone_1="2125550101") for number, person in enumerate(people(2))])
    leadscrub("adopt")
    report = run(graph, already_processed="include")
    assert (report.counts["kept"], report.counts["held"], graph.billed) == (2, 2, 0)
    assert report.metadata["enriched_contacts"]["deferred_or_held_by_reason"] == {"answer_not_kept": 2}


def test_without_adoption_the_first_run_refuses_before_it_claims_or_asks(graph: Graph) -> None:
    store(graph, [old_row(people(1)[0], "1")])
    report = run(graph)
    assert report.failed_asset == "raw_leads"
    assert "leadscrub adopt" in report.failure
    assert graph.billed == 0
    with graph.ledger() as ledger:
        assert ledger.summary().lookups == 0


def test_contacts_are_not_bought_either_when_the_leads_were_selected_before_the_table_was_brought(graph: Graph) -> None:
    assert scrub(Order("leads", "run-1", environment(), assets=("raw_leads",))).ok
    store(graph, [old_row(people(1)[0], "1")])
    report = scrub(Order("leads", "run-1", environment(), assets=("enriched_contacts",)))
    assert "leadscrub adopt" in (report.failure or "")
    assert graph.billed == 0


def test_whoever_starts_afresh_says_so_once(graph: Graph) -> None:
    store(graph, [old_row(people(1)[0], "1")])
    assert leadscrub("adopt", "--none").code == 0
    assert run(graph).counts["published"] == 10
    assert graph.billed == 10


def test_none_goes_with_no_other_option(graph: Graph) -> None:
    assert leadscrub("adopt", "--none", "--dry-run").code == 2


def test_an_empty_table_needs_no_adoption(graph: Graph) -> None:
    assert leadscrub("adopt", "--json").json["rows"] == 0
    assert run(graph).counts["published"] == 10


def test_a_dry_run_counts_the_same_and_writes_nothing(graph: Graph) -> None:
    store(graph, dirty_rows())
    counted = leadscrub("adopt", "--dry-run", "--json").json
    assert graph.rows(f"SELECT COUNT(*) FROM {PERSON_CACHE.full_name}") == [(0,)]
    assert graph.rows(f"SELECT COUNT(*) FROM {PUBLISHED_IDENTITIES.full_name}") == [(0,)]
    assert run(graph).failure is not None, "a dry run is no adoption"
    done = leadscrub("adopt", "--json").json
    assert {**counted, "seconds": 0} == {**done, "seconds": 0}


def everything(graph: Graph) -> dict[str, list[tuple[Any, ...]]]:
    with graph.ledger() as ledger:
        answers = sorted(answer for page in ledger.upkeep.answers() for answer in page)
    return {
        "ledger": answers,
        **{
            table.name: sorted(graph.rows(f"SELECT * FROM {table.full_name}"), key=repr)
            for table in (PERSON_CACHE, PUBLISHED_IDENTITIES)
        },
    }


def test_adopting_again_changes_nothing(graph: Graph) -> None:
    store(graph, dirty_rows())
    leadscrub("adopt")
    before = everything(graph)
    assert leadscrub("adopt").code == 0
    assert everything(graph) == before


def test_rows_that_this_system_published_are_not_adopted(graph: Graph) -> None:
    run(graph)
    before = everything(graph)
    found = leadscrub("adopt", "--json").json
    assert (found["rows"], found["known"]) == (0, 10)
    assert everything(graph) == before


def test_the_longest_time_counts_when_a_person_has_several_rows(graph: Graph) -> None:
    """A hit of 100 days ago lives for 80 more; the miss of yesterday for 29."""
    person = people(1)[0]
    hit = old_row(person, "1", processed_at=NOW - 100 * DAY, phone_1="2125550101")
    miss = old_row(person, "2", processed_at=NOW - DAY, table_id="later_table")
    for rows in ([hit, miss], [miss, hit]):
        with graph.warehouse() as session:
            session.execute(f"DELETE FROM {MASTER.full_name}")
        store(graph, rows)
        leadscrub("adopt")
        expires, record_id = graph.rows(f"SELECT expires_at, record_id FROM {PERSON_CACHE.full_name}")[0]
        assert expires.replace(tzinfo=UTC) == NOW + 80 * DAY
        assert record_id == "2", "the newest publication owns the person"


def test_a_time_in_the_future_counts_as_now(graph: Graph) -> None:
    store(graph, [old_row(people(1)[0], "1", processed_at=NOW + 3000 * DAY, phone_1="2125550101")])
    leadscrub("adopt")
    expires = graph.rows(f"SELECT expires_at FROM {PERSON_CACHE.full_name}")[0][0].replace(tzinfo=UTC)
    assert abs(expires - (NOW + 180 * DAY)) < DAY


# --- the cache file -----------------------------------------------------------------------


def test_an_old_cache_file_counts_as_paid_for_whatever_its_headers_are_called(graph: Graph, tmp_path: Path) -> None:
    graph.write_source("LEADS_DB.PUBLIC.LEADS", people(4))
    first, second, third, fourth = people(4)
    path = tmp_path / "cache.csv"
    lines = ["First,LNAME,Property Address,Town,ST,Zip Code,Looked Up At,Found"]
    lines += [",".join(map(str, (*first, (NOW - DAY).isoformat(), "True")))]
    lines += [",".join(map(str, (*second, f"{NOW - DAY:%Y-%m-%d %H:%M:%S}", "0")))]
    lines += [",".join(map(str, (*third, "2019-01-01", "hit")))]
    lines += [",".join(map(str, (*fourth, "", "perhaps")))]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    found = leadscrub("adopt", "--cache", path, "--json").json
    assert {name: found[name] for name in ("cache_rows", "people", "expired", "unusable")} == {
        "cache_rows": 4, "people": 3, "expired": 1, "unusable": {"no_outcome": 1},
    }  # fmt: skip
    report = run(graph)
    assert (report.counts["held"], report.counts["published"], graph.billed) == (2, 2, 2)


def test_a_cache_in_parquet_reads_the_same_with_times_and_booleans(graph: Graph, tmp_path: Path) -> None:
    rows = [dict(zip(("first", "last", "street", "city", "state", "zip"), map(str, p), strict=True)) for p in people(3)]
    table = pa.Table.from_pylist(rows)
    table = table.append_column("timestamp", pa.array([(NOW - DAY).replace(tzinfo=None)] * 3, pa.timestamp("ns")))
    table = table.append_column("found", pa.array([True, False, None], pa.bool_()))
    pyarrow.parquet.write_table(table, tmp_path / "cache.parquet")
    found = leadscrub("adopt", "--cache", tmp_path / "cache.parquet", "--json").json
    assert (found["people"], found["unusable"]) == (2, {"no_outcome": 1})


@pytest.mark.parametrize(
    ("name", "text", "code", "says"),
    [
        ("cache.xlsx", "x", 2, "neither .csv nor .parquet"),
        ("cache.csv", "first,last,street,zip,found\n", 2, "looked_up_at"),
        ("cache.csv", "first,last,street,zip,date\n", 2, "outcome"),
        ("cache.csv", "who,where,date,found\na,b,2026-01-01,1\n", 4, "first_name"),
        ("cache.csv", "first,last,street,zip,date,found\na,b\n", 3, "as many values"),
        ("cache.parquet", "no parquet", 3, "cannot be read"),
    ],
)
def test_a_cache_file_that_cannot_be_used_is_named(
    graph: Graph, tmp_path: Path, name: str, text: str, code: int, says: str
) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    answer = leadscrub("adopt", "--cache", tmp_path / name)
    assert answer.code == code, answer.err
    assert says in answer.err


def test_after_a_broken_adoption_no_run_starts_until_it_was_done_again(graph: Graph) -> None:
    with graph.ledger() as ledger:
        ledger.upkeep.note_adoption("under_way")
    assert "goes on where it stopped" in (run(graph).failure or "")
    assert leadscrub("adopt").code == 0
    assert run(graph).counts["published"] == 10


@pytest.mark.parametrize(
    ("where", "step"),
    [
        ("warehouse_at", 13),
        ("ledger_at", 2),
        pytest.param("warehouse_at", 1, marks=pytest.mark.long),
        pytest.param("ledger_at", 1, marks=pytest.mark.long),
    ],
)
def test_killed_anywhere_it_comes_to_the_same_end_when_it_is_run_again(graph: Graph, where: str, step: int) -> None:
    store(graph, [row for row in dirty_rows() if row["processed_at"] is not None])
    kept = graph.folder / "kept"
    with graph.ledger():
        pass
    shutil.copytree(graph.home, kept)
    leadscrub("adopt")
    undisturbed, rows = everything(graph), old_rows(graph)
    kills = 0
    for at in range(step, 400, step):
        shutil.rmtree(graph.home)
        shutil.copytree(kept, graph.home)
        was_killed = killed(adopt, **{where: at})
        kills += was_killed
        assert leadscrub("adopt").code == 0
        assert everything(graph) == undisturbed, at
        assert old_rows(graph) == rows
        if not was_killed:
            break
    tally("kills of an operator's work", kills)
    assert kills >= 3
