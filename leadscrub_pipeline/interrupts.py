"""Ctrl-C, SIGTERM and a terminate in the UI, taken at safe places only.

Python raises an interrupt between any two instructions, which may leave a transaction open
or a lock taken for as long as the interrupt is being handled. Who stops what does not belong here.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)

_handlers: dict[int, Any] = {}
"""What signals do outside; empty while nothing is deferred."""
_pending: list[int] = []
_at_once = False


class InterruptNotedError(KeyboardInterrupt):
    """A signal ended a call; ``check`` then does what the signal does."""


@contextmanager
def deferred() -> Iterator[None]:
    """Keep interrupts until ``check``, or until the block ends. Counts in the main thread; blocks may nest."""
    if threading.current_thread() is not threading.main_thread() or _handlers:
        yield
        return
    handlers = _outside()
    try:
        _pending.clear()
        _handlers.update(handlers)
        with _handled_by(_note, handlers):
            yield
    finally:
        _handlers.clear()
        if _pending:
            came = _pending[0]
            _pending.clear()
            handlers[came](came, None)


def check() -> None:
    """Do what a signal that came meanwhile does, which is to raise; a safe place calls this."""
    if _pending and _handlers and threading.current_thread() is threading.main_thread():
        number = _pending[0]
        _pending.clear()
        _handlers[number](number, None)


def sleep(seconds: float) -> None:
    """Sleep, and end early by an interrupt."""
    with at_once():
        time.sleep(seconds)


@contextmanager
def at_once() -> Iterator[None]:
    """Let an interrupt end what is in the block: one call that may take minutes, and that holds nothing."""
    global _at_once  # noqa: PLW0603 - one switch a process, as there is one main thread
    if threading.current_thread() is not threading.main_thread() or not _handlers:
        yield
        return
    check()
    try:
        _at_once = True
        yield
    except InterruptNotedError:
        _at_once = False
        check()
        raise
    finally:
        _at_once = False


@contextmanager
def ending(end: Callable[[], object]) -> Iterator[None]:
    """Call ``end`` before a signal does what it does: for a call that returns when its own threads have ended."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = _outside()

    def end_first(number: int, frame: Any) -> None:  # noqa: ANN401 - a frame
        end()
        handlers[number](number, frame)

    with _handled_by(end_first, handlers):
        yield


def _outside() -> dict[int, Any]:
    return {number: signal.getsignal(number) for number in _SIGNALS}


@contextmanager
def _handled_by(handler: Callable[[int, Any], None], handlers: dict[int, Any]) -> Iterator[None]:
    """Handle signals so in the block, and as outside again after it."""
    try:
        # A signal without a handler in Python goes on to do what it does.
        for number in _SIGNALS:
            if callable(handlers[number]):
                signal.signal(number, handler)
        yield
    finally:
        # An interrupt may come between the two; each is put back all the same.
        try:
            _put_back(signal.SIGINT, handlers)
        finally:
            _put_back(signal.SIGTERM, handlers)


def _note(number: int, _frame: Any) -> None:  # noqa: ANN401 - a frame
    global _at_once  # noqa: PLW0603 - as above
    _pending.append(number)
    if _at_once:
        _at_once = False
        raise InterruptNotedError


def _put_back(number: int, handlers: dict[int, Any]) -> None:
    if callable(handlers[number]):
        signal.signal(number, handlers[number])
