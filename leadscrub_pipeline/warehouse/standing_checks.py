"""What must hold over all scripts together: one count each, over the whole master table.

What a single run must hold is counted where the run writes, and evidence against its seals is verified in the steps.
"""

from datetime import datetime
from typing import Final

from leadscrub_pipeline.warehouse.protocol import Session
from leadscrub_pipeline.warehouse.schema import MASTER, PUBLISHED_IDENTITIES, SCRUB_EVIDENCE

_CLEAR_PHONES: Final = " UNION ".join(
    [
        f"SELECT phone_{i} AS phone, 'ccc' AS source FROM {MASTER.full_name} "
        f"WHERE phone_{i} IS NOT NULL AND NOT in_litigator_list AND processed_at > ?"
        for i in (1, 2, 3)
    ]
    + [
        f"SELECT phone_{i} AS phone, 'dnc' AS source FROM {MASTER.full_name} "
        f"WHERE phone_{i} IS NOT NULL AND NOT phone_{i}_in_dnc AND processed_at > ?"
        for i in (1, 2, 3)
    ]
)

_WITHOUT_EVIDENCE: Final = f"""
SELECT COUNT(*), COALESCE(SUM(CASE WHEN e.phone IS NULL THEN 1 ELSE 0 END), 0)
FROM ({_CLEAR_PHONES}) AS f
LEFT JOIN (SELECT DISTINCT phone, source FROM {SCRUB_EVIDENCE.full_name} WHERE verdict = 'clear') AS e
  ON e.phone = f.phone AND e.source = f.source
"""

_PUBLISHED_TWICE: Final = f"""
SELECT COUNT(*) FROM (
  SELECT i.person_key
  FROM {PUBLISHED_IDENTITIES.full_name} AS i
  JOIN {MASTER.full_name} AS m ON m.record_id = i.record_id
  GROUP BY i.person_key
  HAVING COUNT(DISTINCT i.partition_key) > 1
) AS p
"""


def false_flags_without_evidence(session: Session, *, since: datetime) -> tuple[int, int]:
    """Phones that a row published after ``since`` calls clear, and those of them that no clear evidence is about.

    A phone counts once for each source.
    """
    clear, without = session.rows(_WITHOUT_EVIDENCE, [since] * 6)[0]
    return int(clear), int(without)


def people_published_twice(session: Session) -> int:
    """People who stand in the master table for more than one script."""
    return int(session.rows(_PUBLISHED_TWICE)[0][0])
