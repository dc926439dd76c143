"""The ledger of paid lookups as Dagster's resource."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from leadscrub_pipeline.deployment import open_ledger, read_ledger
from leadscrub_pipeline.resources.settings import SettingsResource

if TYPE_CHECKING:
    from leadscrub_pipeline.ledger import Ledger


class LedgerResource(SettingsResource):
    """Opens the ledger that alone decides on money: SQLite in LEADSCRUB_HOME, or LEADSCRUB_LEDGER_URL."""

    @contextmanager
    def open(self) -> Iterator["Ledger"]:
        with open_ledger(self.load()) as ledger:
            yield ledger

    @contextmanager
    def read(self) -> Iterator["Ledger | None"]:
        """For reading only; None when nobody was ever looked up."""
        with read_ledger(self.load()) as ledger:
            yield ledger
