"""The guard in front of the first run: an older system's lookups are adopted, or given up on purpose.

Every run comes here, so it loads nothing that only the adoption itself needs.
"""

from leadscrub_pipeline.errors import RefusedError
from leadscrub_pipeline.ledger import Ledger
from leadscrub_pipeline.warehouse.adoption import has_published_rows
from leadscrub_pipeline.warehouse.protocol import Warehouse


def require_adopted(warehouse: Warehouse, ledger: Ledger) -> None:
    """Call it where a run begins: who was paid for by an older system must not be paid for again.

    The warehouse is asked only while the ledger cannot say it by itself.

    Raises:
        RefusedError: the master table has rows that the ledger knows nothing about.
    """
    state = ledger.upkeep.adoption_state()
    if state == "under_way":
        raise RefusedError(
            "An adoption of older lookups was begun and not finished: some people would be paid for again. "
            "Run leadscrub adopt again; it goes on where it stopped."
        )
    if state != "undecided":
        return
    with warehouse.session() as session:
        has_rows = has_published_rows(session)
    if has_rows:
        raise RefusedError(
            "The master table has rows and the ledger knows of no lookup: everybody in it would be paid for again. "
            "Run leadscrub adopt to take over what was paid for, or leadscrub adopt --none to start afresh."
        )
