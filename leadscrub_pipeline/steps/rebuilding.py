"""Making the cache of people again, from the ledger and the publications; what it holds is person_cache.py's rule."""

from leadscrub_pipeline.ledger import Ledger
from leadscrub_pipeline.warehouse.person_cache import Rebuilt, rebuild, stage_answers
from leadscrub_pipeline.warehouse.protocol import Dialect, Session


def rebuild_person_cache(session: Session, dialect: Dialect, ledger: Ledger, *, dry_run: bool = False) -> Rebuilt:
    upkeep = ledger.upkeep
    answers = stage_answers(session, upkeep.answers(), upkeep.tombstones())
    return rebuild(session, dialect, answers, dry_run=dry_run)
