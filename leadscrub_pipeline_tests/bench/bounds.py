"""The bounds that the figures must keep, and how they read in the table."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

Figures = Mapping[str, Mapping[str, float]]
"""Medians by case and figure."""


@dataclass(frozen=True, slots=True)
class Bound:
    what: str
    case: str
    figure: str
    unit: str
    at_most: float
    beside: str | None = None
    """Another case whose same figure this one is divided by."""
    scale: tuple[str, float] | None = None
    """A figure of the case and what it must be at least: on a smaller scale nothing is said about the bound."""

    @property
    def cases(self) -> tuple[str, ...]:
        """The cases that must have been run."""
        return (self.case,) if self.beside is None else (self.case, self.beside)

    def value(self, figures: Figures) -> float | None:
        case = figures.get(self.case, {})
        if self.scale is not None and case.get(self.scale[0], 0) < self.scale[1]:
            return None
        own = case.get(self.figure)
        if own is None or self.beside is None:
            return own
        other = figures.get(self.beside, {}).get(self.figure)
        return None if not other else own / other


_LIST: Final = ("rows", 50_000_000)

BOUNDS: Final = (
    Bound(
        "enriched_contacts, 10,000 leads, 200 workers, 300 ms: time over the ideal",
        "enrichment_200",
        "ratio_to_ideal",
        "x",
        1.25,
    ),
    Bound(
        "ledger and evidence over enriched_contacts, 10,000 leads, 200 workers, 300 ms",
        "ledger_and_evidence",
        "ratio",
        "x",
        0.10,
    ),
    Bound(
        "evidence verify, a million rows: microseconds a row (5 are 200,000 rows a second)",
        "evidence_verify",
        "microseconds_a_row",
        "us",
        5.0,
    ),
    Bound("200,000 rows merged into a million, DuckDB: time over the same by hand", "duckdb_merge", "ratio", "x", 1.3),
    Bound(
        "200,000 rows merged into a million, Snowflake's connector and the emulator: time over the same by hand",
        "snowflake_merge",
        "ratio",
        "x",
        1.5,
    ),
    Bound(
        "Do-Not-Call list of 50 million: 600 phones, SQLite, warm", "dnc_list", "sqlite_600_ms", "ms", 10.0, scale=_LIST
    ),
    Bound(
        "Do-Not-Call list of 50 million: 100,000 phones, index over IN of 999",
        "dnc_list",
        "index_over_in_999_100000",
        "x",
        0.1,
        scale=_LIST,
    ),
    Bound(
        "Do-Not-Call list of 50 million: 3 million phones, index over IN of 999",
        "dnc_list",
        "index_over_in_999_3000000",
        "x",
        0.025,
        scale=_LIST,
    ),
    Bound(
        "Do-Not-Call list of 50 million: 3 million phones, index over a gather",
        "dnc_list",
        "index_over_gather_3000000",
        "x",
        1.5,
        scale=_LIST,
    ),
    Bound(
        "Do-Not-Call list of 50 million: index built, over fetchmany of the column",
        "dnc_list",
        "index_over_fetchmany",
        "x",
        1.0,
        scale=_LIST,
    ),
    Bound(
        "Do-Not-Call list of 50 million built from text: microseconds a row (1 is a million rows a second)",
        "dnc_list",
        "build_microseconds_a_row",
        "us",
        1.0,
        scale=_LIST,
    ),
    Bound(
        "Do-Not-Call list of 50 million built from text: peak memory",
        "dnc_list",
        "build_peak_mb",
        "MB",
        600.0,
        scale=_LIST,
    ),
    Bound("200 leads, no latency: five assets over an empty run of five", "overhead", "over_seconds", "s", 2.0),
    Bound("100,000 leads end to end: peak memory of the run", "end_to_end_100k", "peak_mb", "MB", 700.0),
    Bound(
        "100,000 leads end to end: peak memory over that of 10,000",
        "end_to_end_100k",
        "peak_mb",
        "x",
        1.2,
        beside="end_to_end_10k",
    ),
    Bound(
        "1,000,000 leads end to end: time over httpx.AsyncClient's by hand, batches at the vendor's 1,000 a minute",
        "end_to_end_1m",
        "ratio_to_httpx_client_paced",
        "x",
        2.0,
    ),
    Bound(
        "1,000,000 leads end to end: time over the bare transport's, without limit",
        "end_to_end_1m",
        "ratio_to_bare",
        "x",
        2.0,
    ),
    Bound("1,000,000 leads end to end: peak memory of the run", "end_to_end_1m", "peak_mb", "MB", 800.0),
    Bound(
        "1,000,000 leads end to end: peak memory over that of 100,000",
        "end_to_end_1m",
        "peak_mb",
        "x",
        1.2,
        beside="end_to_end_100k",
    ),
    Bound(
        "100,000 leads against 50 million published persons: the filter",
        "prefilter_50m",
        "prefilter_seconds",
        "s",
        1.0,
        scale=("persons", 50_000_000),
    ),
    Bound(
        "a million published phones checked again after 0.1 % of the list changed",
        "rescrub_after_list_change",
        "seconds",
        "s",
        60.0,
    ),
    Bound("a tick of any sensor, 1,000 scripts and 300 runs", "sensor_ticks", "longest_seconds", "s", 2.0),
    Bound("loading the code location over import dagster", "start_up", "ratio", "x", 2.0),
)
