"""What holds for every test: no setting of the person who runs them, a wide screen, and the counts at the end."""

import os
import re
import signal
import sys
from typing import Any

import pytest
from hypothesis import settings

from leadscrub_pipeline_tests import live
from leadscrub_pipeline_tests.snowflake_server import account, snowflake_port  # noqa: F401 - fixtures
from leadscrub_pipeline_tests.tallies import counted, tally

# Machines are slow at times, and a test of what holds is no test of speed.
settings.register_profile("without deadline", deadline=None)
settings.load_profile("without deadline")

for _name in list(os.environ):
    if _name.startswith(("LEADSCRUB_", "IDICORE_", "CCC_", "DNC_", "NTFY_", "ETL_", "SNOWFLAKE_", "DAGSTER_")):
        _value = os.environ.pop(_name)
        if _name.startswith("SNOWFLAKE_"):
            live.SETTINGS[_name] = _value
os.environ["LEADSCRUB_ENV_FILE"] = ""
# A shell without job control starts what runs in the background deaf to Ctrl-C, and many tests press it.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Rich asks once, when the command line is first imported.
os.environ["COLUMNS"] = "300"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--history-seed", type=int, default=1, help="first seed of the random histories")


def pytest_configure(config: pytest.Config) -> None:
    if config.pluginmanager.hasplugin("xdist") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Workers())


class _Workers:
    """Takes the counts of each worker of xdist when it ends."""

    def pytest_testnodedown(self, node: Any) -> None:
        for name, count in getattr(node, "workeroutput", {}).get("tallies", {}).items():
            tally(name, count)


_INTERNAL_ERRORS: list[str] = []


def pytest_internalerror(excrepr: object) -> None:
    raised = [line for line in str(excrepr).splitlines() if re.match(r"(E\s+)?(INTERNALERROR> )?[\w.]+: ", line)]
    _INTERNAL_ERRORS.append(" / ".join(line[:200] for line in raised[-2:]))


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """The last lines of an internal error once more: workers that end after it write much, and there is no summary."""
    if not hasattr(config, "workerinput"):
        for error in _INTERNAL_ERRORS:
            sys.stderr.write(f"pytest's internal error: {error}\n")


def pytest_sessionfinish(session: pytest.Session) -> None:
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["tallies"] = dict(counted())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if counted():
        parts = (f"{count:,} {name}" for name, count in sorted(counted().items()))
        terminalreporter.write_line(f"Counted: {', '.join(parts)}")
    if "histories" in counted():
        seed = terminalreporter.config.getoption("history_seed")
        terminalreporter.write_line(f"Histories from seed {seed} on; draw others with --history-seed=NUMBER")
