"""One connection to Snowflake: it signs in when first used, runs statements one at a time, and can be interrupted.

What the statements say does not belong here. A session that expired is opened anew between
transactions, never within one.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import IO, Any, Final, Generic, TypeVar

from leadscrub_pipeline import interrupts
from leadscrub_pipeline.errors import LeadscrubError, UnavailableError
from leadscrub_pipeline.warehouse.arrow import stored
from leadscrub_pipeline.warehouse.snowflake_connection import (
    Connect,
    QueryTag,
    SignIn,
    is_expired,
    is_network,
    sign_in_error,
    statement_error,
)

CANCEL_SECONDS: Final = 15.0
"""How long an interrupt waits for the statement that it cancelled."""
_MARGIN_SECONDS: Final = 30
"""After this long past the statement's own time the connector gives up on its side, too."""

T = TypeVar("T")


class SnowflakeConnection:
    """A connection under one role. Not for several threads at once."""

    def __init__(self, connect: Connect, sign_in: SignIn, tag: QueryTag, *, reader: bool = False) -> None:
        self._connect = connect
        self._sign_in = sign_in
        self._tag = tag
        self._reader = reader
        self._context: AbstractContextManager[Any] | None = None
        self._raw: Any = None
        self._in_transaction = False
        self.is_sound = True
        """Whether the next session may go on with it."""

    def sign_in(self) -> None:
        """Sign in now, unless that was done.

        Raises:
            UnavailableError: Snowflake does not answer.
            RefusedError: the sign-in was refused.
        """
        self._call(lambda _connection: None)

    def run(self, sql: str, params: Sequence[object] = (), *, file: IO[bytes] | None = None) -> Any:  # noqa: ANN401
        """Run one statement and return the connector's cursor.

        Args:
            sql: one statement, with ``?`` for each parameter.
            params: values for the places, in order.
            file: what a PUT sends, in place of the file that it names.

        Raises:
            UnavailableError: Snowflake does not answer, or the session expired within a transaction.
            RefusedError: the role lacks a grant, or a table or column is not there.
            FailedError: Snowflake refused the statement.
        """
        values = [stored(value) for value in params]

        def execute(connection: Any) -> Any:  # noqa: ANN401
            cursor = connection.cursor()
            given = {"file_stream": file} if file is not None else {}
            # The connector cancels on its side after network_timeout, unless it is told the statement's own time.
            cursor.execute(sql, values or None, timeout=self._sign_in.statement_timeout + _MARGIN_SECONDS, **given)
            return cursor

        return self._call(execute)

    def fetched(self, fetch: Callable[[], T]) -> T:
        """What a cursor gives: the later parts of a result are downloads, which fail by themselves.

        Raises:
            UnavailableError: Snowflake or its storage does not answer.
            FailedError: the result cannot be read.
        """
        try:
            return fetch()
        except Exception as error:  # noqa: BLE001 - as in _call
            self.is_sound = False
            raise statement_error(error, timeout=self._sign_in.statement_timeout) from None

    def describe(self, sql: str) -> list[Any]:
        """Names and types of the columns that a SELECT would give; it is not run."""
        found: list[Any] = self._call(lambda connection: connection.cursor().describe(sql))
        return found

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self._control("BEGIN TRANSACTION")
        self._in_transaction = True
        try:
            yield
        except BaseException:
            if self.is_sound:
                with suppress(LeadscrubError):
                    self._control("ROLLBACK")
            # A transaction of a session that is closed is rolled back by Snowflake.
            raise
        else:
            self._commit()
        finally:
            self._in_transaction = False

    def close(self) -> None:
        context, self._context, self._raw = self._context, None, None
        if context is not None:
            with suppress(Exception):
                context.__exit__(None, None, None)

    def _commit(self) -> None:
        try:
            self._control("COMMIT")
        except UnavailableError as error:
            raise UnavailableError(
                f"The connection broke off while a transaction was being committed, so nobody knows whether it was "
                f"stored. Run it again: what was stored is replaced. {error}"
            ) from None

    def _control(self, statement: str) -> None:
        """BEGIN, COMMIT, ROLLBACK: not to be interrupted, for nobody would know whether it was carried out."""
        self._call(lambda connection: connection.cursor().execute(statement), interruptible=False)

    def _call(self, call: Callable[[Any], T], *, interruptible: bool = True) -> T:
        try:
            return self._once(call, interruptible=interruptible)
        except LeadscrubError:
            self.is_sound = False
            raise
        except Exception as error:  # noqa: BLE001 - the connector's edge: nothing of its errors leaves
            if is_expired(error) and not self._in_transaction:
                self.close()
                return self._again(call, interruptible=interruptible)
            self.is_sound = self.is_sound and not (is_network(error) or is_expired(error))
            raise statement_error(error, timeout=self._sign_in.statement_timeout) from None

    def _again(self, call: Callable[[Any], T], *, interruptible: bool) -> T:
        try:
            return self._once(call, interruptible=interruptible)
        except LeadscrubError:
            self.is_sound = False
            raise
        except Exception as error:  # noqa: BLE001 - as above
            self.is_sound = False
            raise statement_error(error, timeout=self._sign_in.statement_timeout) from None

    def _once(self, call: Callable[[Any], T], *, interruptible: bool) -> T:
        connection = self._opened()
        if threading.current_thread() is not threading.main_thread():
            return call(connection)
        statement = _InThread(lambda: call(connection))
        if not interruptible:
            return statement.result_in_any_case()
        try:
            with interrupts.at_once():
                return statement.result()
        except BaseException:
            if not statement.is_done:
                self.is_sound = False
                self._cancel(connection)
                statement.wait(CANCEL_SECONDS)
            raise

    def _opened(self) -> Any:  # noqa: ANN401 - the connector's connection
        if self._raw is None:
            self._raw = self._sign_in_now()
        return self._raw

    def _sign_in_now(self) -> Any:  # noqa: ANN401
        context = self._connect(self._sign_in.arguments(tag=self._tag, reader=self._reader))
        try:
            connection = context.__enter__()
        except LeadscrubError:
            raise
        except Exception as error:  # noqa: BLE001 - as above
            raise sign_in_error(error) from None
        self._context = context
        return connection

    def _cancel(self, connection: Any) -> None:  # noqa: ANN401
        """End what the session runs, over a second connection: the first one is waiting for it."""
        other = SnowflakeConnection(self._connect, self._sign_in, self._tag, reader=self._reader)
        try:
            raw = other._opened()
            raw.cursor().execute(f"SELECT SYSTEM$CANCEL_ALL_QUERIES({int(connection.session_id)})")
        except Exception:  # noqa: BLE001, S110 - the statement then ends by its time-out; the interrupt matters more
            pass
        finally:
            other.close()


class _InThread(Generic[T]):
    """A call in a thread of its own, so that the main thread can be interrupted while it waits.

    The connector waits in a way that no signal ends, and takes SIGINT for itself in the main thread.
    """

    def __init__(self, call: Callable[[], T]) -> None:
        self._done = threading.Event()
        self._outcome: T
        self._error: BaseException | None = None

        def work() -> None:
            try:
                self._outcome = call()
            except BaseException as error:  # noqa: BLE001 - it is raised again where the result is wanted
                self._error = error
            finally:
                self._done.set()

        threading.Thread(target=work, name="snowflake-statement", daemon=True).start()

    @property
    def is_done(self) -> bool:
        return self._done.is_set()

    def wait(self, seconds: float) -> None:
        self._done.wait(seconds)

    def result(self) -> T:
        self._done.wait()
        if self._error is not None:
            raise self._error
        return self._outcome

    def result_in_any_case(self) -> T:
        """The result; an interrupt that comes meanwhile is raised after it."""
        came: BaseException | None = None
        while not self.is_done:
            try:
                self._done.wait()
            except KeyboardInterrupt as interrupt:
                came = interrupt
        if came is not None:
            raise came
        return self.result()
