"""Who was looked up, who is being looked up, what it cost: the one place that decides on money.

SQLite by default, PostgreSQL by URL, through the same code. Vendors and the warehouse are
not known here.
"""

from leadscrub_pipeline.ledger.evidence_roots import Chain, Seal
from leadscrub_pipeline.ledger.ledger import Ledger
from leadscrub_pipeline.ledger.standing import Busy, Cached, Capped, Claimed, Held, Preview, Standing, ToAsk
from leadscrub_pipeline.ledger.summary import RunCounts, Spend, Summary
from leadscrub_pipeline.ledger.terms import LookupTerms, Settlement
from leadscrub_pipeline.ledger.writer import GroupWriter

__all__ = [
    "Busy",
    "Cached",
    "Capped",
    "Chain",
    "Claimed",
    "GroupWriter",
    "Held",
    "Ledger",
    "LookupTerms",
    "Preview",
    "RunCounts",
    "Seal",
    "Settlement",
    "Spend",
    "Standing",
    "Summary",
    "ToAsk",
]
