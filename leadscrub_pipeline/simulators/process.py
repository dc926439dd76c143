"""The simulators in a process of their own, steered over HTTP.

For speed measurements, where client and server must not share an interpreter, and for tests
that kill the client. The command line of that process stands here too.
"""

import argparse
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import httpx
import orjson

from leadscrub_pipeline.errors import LeadscrubError, UnavailableError
from leadscrub_pipeline.simulators.bill import BillEntry, entry_from
from leadscrub_pipeline.simulators.faults import Fault, fault_values, parse_fault
from leadscrub_pipeline.simulators.phones import PhoneSpace
from leadscrub_pipeline.simulators.server import Simulators

_VENDORS: Final = ("idicore", "ccc", "ntfy")
_STOP_SECONDS: Final = 10.0


class SimulatorProcess:
    """As ``Simulators``, in a child process that ends with the block, or with this process.

    Raises:
        UnavailableError: the process does not start.
    """

    def __init__(
        self,
        *,
        seed: int = 1,
        latency: float = 0.0,
        bill_path: Path | None = None,
        space: PhoneSpace = PhoneSpace.FICTIONAL,
    ) -> None:
        self._arguments = ["--seed", str(seed), "--latency", str(latency), "--space", str(space)]
        if bill_path is not None:
            self._arguments += ["--bill", str(bill_path)]
        self._process: subprocess.Popen[bytes] | None = None
        self._environment: dict[str, str] = {}
        self.idicore = RemoteVendor()
        self.ccc = RemoteVendor()
        self.ntfy = RemoteVendor()

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def environment(self) -> dict[str, str]:
        return dict(self._environment)

    def start(self) -> Self:
        command = [sys.executable, "-m", "leadscrub_pipeline.simulators", "--json", "--while-stdin", *self._arguments]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: S603 - our own module
        try:
            started = orjson.loads(self._process.stdout.readline())  # type: ignore[union-attr]
        except orjson.JSONDecodeError:
            self.stop()
            raise UnavailableError("The simulators' process did not start; its own message is above.") from None
        self._environment = started["environment"]
        for vendor in (self.idicore, self.ccc, self.ntfy):
            vendor.connect(started["addresses"].pop(0))
        return self

    def stop(self) -> None:
        for vendor in (self.idicore, self.ccc, self.ntfy):
            vendor.close()
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(BrokenPipeError):
            process.stdin.close()  # type: ignore[union-attr]
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()  # type: ignore[union-attr]

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class RemoteVendor:
    """One vendor of a simulator process: its faults, its bill and its counts."""

    def __init__(self) -> None:
        self._http: httpx.Client | None = None

    def connect(self, address: str) -> None:
        self._http = httpx.Client(base_url=address, timeout=60.0, trust_env=False)

    def close(self) -> None:
        if self._http is not None:
            self._http.close()
            self._http = None

    def add_fault(self, *faults: Fault) -> None:
        self._ask("POST", "faults", [fault_values(fault) for fault in faults])

    def clear_faults(self) -> None:
        self._ask("DELETE", "faults")

    def counts(self) -> dict[str, Any]:
        """``requests`` by operation, ``statuses``, ``faulted``, ``in_flight``, ``most_in_flight``."""
        return self._ask("GET", "state").json()  # type: ignore[no-any-return]

    def bill(self) -> list[BillEntry]:
        """idiCORE's; the others have none."""
        return [entry_from(orjson.loads(line)) for line in self._ask("GET", "bill").content.splitlines()]

    def asked(self) -> dict[str, int]:
        """CCC's: how often each phone was asked about."""
        return self._ask("GET", "asked").json()  # type: ignore[no-any-return]

    def messages(self) -> list[dict[str, Any]]:
        """What ntfy was sent, in order."""
        return self._ask("GET", "messages").json()  # type: ignore[no-any-return]

    def _ask(self, method: str, what: str, body: object = None) -> httpx.Response:
        if self._http is None:
            raise UnavailableError("The simulators' process is not running.")
        answer = self._http.request(method, f"/_admin/{what}", content=orjson.dumps(body) if body is not None else None)
        if answer.status_code != httpx.codes.OK:
            raise UnavailableError(f"The simulator answered {answer.status_code} to {method} {what}: {answer.text}")
        return answer


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until interrupted; the first line on standard output says where."""
    options = _parser().parse_args(arguments)
    try:
        simulators = Simulators(
            seed=options.seed,
            latency=options.latency,
            bill_path=options.bill,
            ports=tuple(options.ports),
            token_seconds=options.token_seconds,
            space=PhoneSpace(options.space),
        )
        for text in options.fault:
            vendor, fault = parse_fault(text)
            getattr(simulators, vendor).faults.add(fault)
        simulators.serve(partial(_announce, as_json=options.json, while_stdin=options.while_stdin))
    except LeadscrubError as error:
        print(error, file=sys.stderr)  # noqa: T201 - a process's edge
        return error.exit_code
    return 0


def _announce(simulators: Simulators, *, as_json: bool, while_stdin: bool) -> None:
    if while_stdin:
        # A parent that is killed closes its end of the pipe: no simulator outlives its test.
        threading.Thread(target=_stop_with_stdin, args=(simulators,), daemon=True).start()
    print("\n".join(_first_lines(simulators, as_json=as_json)), flush=True)  # noqa: T201 - a process's edge


def _stop_with_stdin(simulators: Simulators) -> None:
    os.read(sys.stdin.fileno(), 1)
    simulators.stop()


def _first_lines(simulators: Simulators, *, as_json: bool) -> Iterator[str]:
    environment = simulators.environment()
    if as_json:
        yield json.dumps({"environment": environment, "addresses": simulators.addresses()})
        return
    yield from (f"{name}={value}" for name, value in environment.items())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m leadscrub_pipeline.simulators", description=main.__doc__)
    parser.add_argument("--seed", type=int, default=1, help="decides contacts, litigators and listed numbers")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds each answer of idiCORE and CCC takes")
    parser.add_argument("--bill", type=Path, help="file that billed requests are added to, as JSON lines")
    parser.add_argument("--ports", type=int, nargs=3, default=(0, 0, 0), metavar=("IDICORE", "CCC", "NTFY"))
    parser.add_argument("--token-seconds", type=float, default=900.0, help="life of a sign-in token")
    parser.add_argument("--space", choices=[str(space) for space in PhoneSpace], default=str(PhoneSpace.FICTIONAL))
    parser.add_argument(
        "--fault", action="append", default=[], metavar="VENDOR:KIND[:NAME=VALUE...]", help="may be given again"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of NAME=VALUE lines")
    parser.add_argument("--while-stdin", action="store_true", help="stop when standard input ends")
    return parser
