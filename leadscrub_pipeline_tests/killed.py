"""Operators' work on ledger and warehouse in a process of its own, killed at any of its steps.

The warehouse and the ledger handed to the work are the real ones behind a counter: before the
so-many-th thing done to the warehouse, or the so-many-th look at the ledger's clock (once in
each of its transactions), the process gets SIGKILL.
"""

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from leadscrub_pipeline.deployment import open_warehouse
from leadscrub_pipeline.domain.people import KEY_RULES, Person
from leadscrub_pipeline.ledger import Ledger
from leadscrub_pipeline.settings import Settings, load_settings
from leadscrub_pipeline.steps import adoption, rekeying
from leadscrub_pipeline_tests.children import _context
from leadscrub_pipeline_tests.children import environment as current_environment

PAGE = 3
"""Rows of a page, so that little data makes many steps."""


class Countdown:
    def __init__(self, at: int | None) -> None:
        self._left = at

    def __call__(self) -> None:
        if self._left is None:
            return
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


class CountedSession:
    """Whatever is done to the warehouse counts, the beginning and the commit of a transaction too."""

    _COUNTED = ("execute", "rows", "table", "load", "create_stage", "create_stage_as", "drop_stage")

    def __init__(self, session: Any, count: Countdown) -> None:
        self._session = session
        self._count = count

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._session, name)
        if name not in self._COUNTED:
            return found

        def counted(*args: Any, **kwargs: Any) -> Any:
            self._count()
            return found(*args, **kwargs)

        return counted

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with self._session.transaction():
            yield
            self._count()
        self._count()


class CountedWarehouse:
    def __init__(self, warehouse: Any, count: Countdown) -> None:
        self._warehouse = warehouse
        self._count = count
        self.dialect = warehouse.dialect

    @contextmanager
    def session(self, *, scripts: bool = False) -> Iterator[Any]:
        with self._warehouse.session(scripts=scripts) as session:
            yield CountedSession(session, self._count)


def second_rule(person: Person) -> str:
    """A made-up second version of the person key, which forgets the first name: a household becomes one person."""
    return KEY_RULES[1](person._replace(first_name="anybody"))[::-1]


RULES = {**KEY_RULES, 2: second_rule}


def adopt(warehouse: Any, ledger: Ledger, settings: Settings) -> None:
    adoption.adopt(warehouse, ledger, settings, report=lambda _text: None, page_rows=PAGE)


def rekey(warehouse: Any, ledger: Ledger, _settings: Settings) -> None:
    rekeying.rekey(warehouse, ledger, report=lambda _text: None, rules=RULES, version=2, page_rows=PAGE)


def killed(
    work: Callable[[Any, Ledger, Settings], None], *, warehouse_at: int | None = None, ledger_at: int | None = None
) -> bool:
    """Do the work in a child; whether it was killed, or came to its end before that."""
    child = _context().Process(target=_do, args=(work, current_environment(), warehouse_at, ledger_at), daemon=True)
    child.start()
    child.join(120)
    assert child.exitcode in (0, -signal.SIGKILL), child.exitcode
    return child.exitcode != 0


def _do(
    work: Callable[[Any, Ledger, Settings], None],
    environment: Mapping[str, str],
    warehouse_at: int | None,
    ledger_at: int | None,
) -> None:
    for name in current_environment():
        del os.environ[name]
    os.environ.update(environment)
    settings = load_settings()
    looked = Countdown(ledger_at)

    def clock() -> datetime:
        looked()
        return datetime.now(UTC)

    warehouse = open_warehouse(settings)
    with warehouse.session():
        pass
    with Ledger.open(settings.ledger_path, kind="demo", clock=clock) as ledger:
        work(CountedWarehouse(warehouse, Countdown(warehouse_at)), ledger, settings)
