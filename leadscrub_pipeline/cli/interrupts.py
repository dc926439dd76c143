"""SIGTERM for commands that must put something in order before they end."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, NoReturn

INTERRUPTED: Final = 130
"""The exit code after Ctrl-C or SIGTERM."""


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """Let SIGTERM do what Ctrl-C does. Within a step Dagster sees to both itself."""

    def interrupt(_number: int, _frame: Any) -> NoReturn:  # noqa: ANN401 - a frame
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
