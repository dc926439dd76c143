"""What must hold over all scripts together: one count each, over the whole master table.

What a single run must hold is counted where the run writes, and evidence against its seals is verified in the steps.
"""

from datetime import datetime
from typing import Final

from leadscrub_pipeline.warehouse.flags import digits_sql
from leadscrub_pipeline.warehouse.master import computed_record_id
from leadscrub_pipeline.warehouse.protocol import Dialect, Session
from leadscrub_pipeline.warehouse.schema import MASTER, PERSON_CACHE, PUBLISHED_IDENTITIES, SCRUB_EVIDENCE

_CLEAR_PHONES: Final = " UNION ".join(
    f"SELECT {digits_sql(f'phone_{i}')} AS phone, '{source}' AS source FROM {MASTER.full_name} "
    f"WHERE phone_{i} IS NOT NULL AND NOT {flag} AND (processed_at IS NULL OR processed_at > ?)"
    for i in (1, 2, 3)
    for source, flag in (("ccc", "in_litigator_list"), ("dnc", f"phone_{i}_in_dnc"))
)

# An unknown answer neither bears a flag out nor refutes it. Of two at the same time the listed one counts.
_WITHOUT_EVIDENCE: Final = f"""
SELECT COUNT(*), COALESCE(SUM(CASE WHEN e.phone IS NULL THEN 1 ELSE 0 END), 0)
FROM ({_CLEAR_PHONES}) AS f
LEFT JOIN (
  SELECT phone, source
  FROM {SCRUB_EVIDENCE.full_name}
  WHERE verdict <> 'unknown'
  GROUP BY phone, source
  HAVING COALESCE(
    MAX(CASE WHEN verdict = 'clear' THEN checked_at END) > MAX(CASE WHEN verdict = 'listed' THEN checked_at END),
    MAX(CASE WHEN verdict = 'clear' THEN checked_at END) IS NOT NULL
  )
) AS e
  ON e.phone = f.phone AND e.source = f.source
"""

# Rows of an older system have no run in their provenance: it may have published a person under several scripts.
# Rows that a new key rule made one person's have ids of their older keys; only the owner's counts of them.
_PUBLISHED_TWICE: Final = f"""
SELECT COUNT(*) FROM (
  SELECT i.person_key
  FROM {PUBLISHED_IDENTITIES.full_name} AS i
  JOIN {MASTER.full_name} AS m ON m.record_id = i.record_id
  LEFT JOIN {PERSON_CACHE.full_name} AS c ON c.person_key = i.person_key
  WHERE {{run_id}} IS NOT NULL AND (m.record_id = {{computed}} OR m.record_id = c.record_id)
  GROUP BY i.person_key
  HAVING COUNT(DISTINCT i.partition_key) > 1
) AS p
"""


def false_flags_without_evidence(session: Session, *, since: datetime) -> tuple[int, int]:
    """Phones that a row published after ``since`` calls clear, and those of them whose newest evidence does not.

    A phone counts once for each source, and a row that does not say when it was published counts, too.
    """
    clear, without = session.rows(_WITHOUT_EVIDENCE, [since] * 6)[0]
    return int(clear), int(without)


def people_published_twice(session: Session, dialect: Dialect) -> int:
    """People whom this system published under more than one script."""
    query = _PUBLISHED_TWICE.format(
        run_id=dialect.json_text("m.additional_data", "provenance", "run_id"),
        computed=computed_record_id(dialect, "i.partition_key", "i.person_key"),
    )
    return int(session.rows(query)[0][0])
