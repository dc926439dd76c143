"""A PostgreSQL server that a test may kill: the very class that ``leadscrub dev --postgres`` starts one with.

The server that the ledger's tests share is in postgres.py.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from cryptography.fernet import Fernet

from leadscrub_pipeline.cli.postgres import PostgresServer

KEY: Final = Fernet.generate_key().decode()
_FAST: Final = {"fsync": "off", "full_page_writes": "off", "max_connections": "60", "shared_buffers": "32MB"}
"""A killed server loses nothing of what the operating system has; only a host that dies does."""


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """A server with databases for Dagster and the ledger. Not under tmp_path, which no other account may enter."""
    folder = Path(tempfile.mkdtemp(prefix="leadscrub-pg-"))
    try:
        with PostgresServer(folder / "server", options=_FAST) as server:
            server.make_databases("dagster", "ledger")
            yield server
    finally:
        shutil.rmtree(folder)


def settings_on(server: PostgresServer) -> dict[str, str]:
    return {
        "DAGSTER_POSTGRES_URL": server.url("dagster"),
        "LEADSCRUB_LEDGER_URL": server.url("ledger"),
        "LEADSCRUB_ANSWER_KEY": KEY,
    }


def crash(server: PostgresServer) -> None:
    """kill -9 of the postmaster; its sessions break."""
    server.process.kill()
    server.process.wait()
