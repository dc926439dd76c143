"""A user's own leads as CSV, a script in Snowflake's dialect, through the command line: what the README promises."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from leadscrub_pipeline_tests.command_line import leadscrub
from leadscrub_pipeline_tests.graph import Graph, graph_in
from leadscrub_pipeline_tests.sums import check_sums

SQL = """
SELECT
  c.FIRST_NAME, c.LAST_NAME, p.PROPERTY_ADDRESS, p.CITY, p.STATE, p."Zip",
  IFF(c.BALANCE > 100000, 'large', 'small') AS SIZE,
  DATEADD(month, 6, c.OPENED) AS REVIEW_ON
FROM OWN_DB.CRM.CUSTOMERS AS c
JOIN OWN_DB.CRM.PROPERTIES AS p ON p.CUSTOMER_ID = c.ID
WHERE c.EMAIL ILIKE '%@Example.com' AND c.OPENED >= DATEADD(year, -20, CURRENT_DATE)
QUALIFY ROW_NUMBER() OVER (PARTITION BY c.ID ORDER BY p.RECORDED DESC) = 1
"""


@pytest.fixture
def graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Graph]:
    with graph_in(tmp_path, monkeypatch) as made:
        made.write_source(
            "OWN_DB.CRM.CUSTOMERS",
            [(n, f"Ada{n}", "Example", f"ada{n}@EXAMPLE.COM", 90000 + n * 5000, "2024-01-31") for n in range(5)]
            + [(9, "Bob", "Example", "bob@example.org", 1, "2024-01-31")],
            columns=("ID", "FIRST_NAME", "LAST_NAME", "EMAIL", "BALANCE", "OPENED"),
        )
        made.write_source(
            "OWN_DB.CRM.PROPERTIES",
            [(n, f"{n + 1} Main St", "Boston", "MA", "02108", "2025-01-01") for n in (0, 1, 2, 3, 4, 9)]
            + [(n, "99 Old Road", "Boston", "MA", "02108", "2001-01-01") for n in (0, 1)],
            columns=("CUSTOMER_ID", "PROPERTY_ADDRESS", "CITY", "STATE", "Zip", "RECORDED"),
        )
        made.write_script("own", SQL, columns='address = property_address, zip_code = "Zip"')
        yield made


def test_own_csv_leads_go_through_run_and_come_out_of_export(graph: Graph) -> None:
    run = leadscrub("run", "own", "--json")
    assert run.code == 0, run.err
    (counts,) = run.lines
    check_sums(counts)
    assert (counts["selected"], counts["published"], graph.billed) == (5, 5, 5)
    rows = leadscrub("results", "export", "--format", "jsonl", "--script", "own").lines
    assert {row["address"] for row in rows} == {f"{n + 1} Main St" for n in range(5)}
    assert {row["zip_code"] for row in rows} == {"02108"}
    assert {row["additional_data"]["size"] for row in rows} == {"small", "large"}
    assert all(row["additional_data"]["review_on"].startswith("2024-07-31") for row in rows)
    text = leadscrub("results", "export", "--format", "csv").out
    assert len(list(csv.DictReader(io.StringIO(text)))) == 5
