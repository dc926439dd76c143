"""BENCHMARKS.md from result files, so that no figure on it is written by hand."""

import statistics
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

from leadscrub_pipeline_tests.bench.bounds import BOUNDS
from leadscrub_pipeline_tests.bench.results import Measured, medians

_HEAD = """\
# Benchmarks

Written by `python -m leadscrub_pipeline_tests.bench --page`, from the result files that `make bench` leaves in
`bench-results/`; nothing on this page is written by hand. Each run of a case is a process of its own, the vendors are
the simulators in another process on the same machine, and the bare client (`bench/bare.py`) sends the same requests to
that same process. What a case does stands in its docstring in `leadscrub_pipeline_tests/bench/`.
"""


def page(measured: Mapping[str, Measured]) -> str:
    """The page as Markdown; a bound whose case was not run, or on a smaller scale, is said to be not measured."""
    return "\n".join([_HEAD, *_machines(measured.values()), *_bounds(measured), *_figures(measured)])


def _machines(measured: Iterable[Measured]) -> Iterator[str]:
    """Each machine with its versions and when it measured: files of several may have been merged."""
    times: dict[str, list[datetime]] = {}
    for case in measured:
        machine, versions = case.machine, case.versions
        text = (
            f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gb']} GB of memory, "
            f"{machine['system']}, Python {machine['python']}; "
            + ", ".join(f"{name} {version}" for name, version in versions.items())
        )
        times.setdefault(text, []).append(case.at)
    for text, moments in times.items():
        first, last = (f"{moment:%Y-%m-%d %H:%M}" for moment in (min(moments), max(moments)))
        yield f"Measured {first} UTC" + ("" if first == last else f" to {last} UTC") + f" on: {text}."
        yield ""


def _bounds(measured: Mapping[str, Measured]) -> Iterator[str]:
    figures = medians({name: case.runs for name, case in measured.items()})
    yield "## Bounds"
    yield ""
    yield from _row("what", "median", "at most", "", "runs")
    yield from _row("---", "---:", "---:", "---", "---:")
    for bound in BOUNDS:
        value = bound.value(figures)
        if value is None:
            yield from _row(bound.what, "", f"{bound.at_most:,g} {bound.unit}", "not measured", "0")
            continue
        runs = min(measured[case].repeats for case in bound.cases)
        kept = "kept" if value <= bound.at_most else "**missed**"
        yield from _row(
            bound.what, f"{number(value)} {bound.unit}", f"{bound.at_most:,g} {bound.unit}", kept, str(runs)
        )
    yield ""


def _figures(measured: Mapping[str, Measured]) -> Iterator[str]:
    yield "## All figures"
    yield ""
    yield "A figure's name ends with its unit where it has one. `peak_mb` is the peak memory of the process that ran"
    yield "the product, without the simulators and the bare client."
    yield ""
    for name, case in measured.items():
        runs = "1 run" if case.repeats == 1 else f"{case.repeats} runs"
        yield f"### {name}"
        yield ""
        yield f"{case.at:%Y-%m-%d %H:%M} UTC, {runs}, `{case.command}`"
        yield ""
        yield from _row("figure", "median", "lowest", "highest")
        yield from _row("---", "---:", "---:", "---:")
        for figure, values in case.runs.items():
            yield from _row(f"`{figure}`", *map(number, (statistics.median(values), min(values), max(values))))
        yield ""


def number(value: float) -> str:
    """Three digits, or the whole number."""
    return f"{value:,.0f}" if abs(value) >= 1_000 or value == int(value) else f"{value:,.3g}"


def _row(*cells: str) -> Iterator[str]:
    yield f"| {' | '.join(cells)} |"
