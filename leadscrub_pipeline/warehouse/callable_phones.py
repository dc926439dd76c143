"""The view CALLABLE_PHONES: the only place that says a number may be called.

One row a phone for which every source's verdict is clear and unexpired, which is not
disconnected, and for which every published row that holds it is free of litigators, not
marked dead and not withdrawn. A new rule about callability belongs here and nowhere else.
"""

import hashlib
from typing import Final

from leadscrub_pipeline.warehouse.flags import digits_sql
from leadscrub_pipeline.warehouse.protocol import Dialect
from leadscrub_pipeline.warehouse.schema import CALLABLE_PHONES, MASTER, PHONE_VERDICTS, WITHDRAWALS

_VIEW: Final = """
{create} AS
WITH held AS (
{held}
),
holders AS (
  SELECT
    h.phone,
    COUNT(*) AS holders,
    SUM(CASE
      WHEN h.in_litigator_list = FALSE AND h.is_dead IS DISTINCT FROM 'true'
        AND h.disconnected IS DISTINCT FROM 'true' AND w.record_id IS NULL THEN 1
      ELSE 0
    END) AS free_holders
  FROM held AS h
  LEFT JOIN {withdrawals} AS w ON w.record_id = h.record_id AND w.withdrawn_at >= h.processed_at
  WHERE h.phone IS NOT NULL
  GROUP BY h.phone
)
SELECT
  h.phone,
  CASE WHEN ccc.valid_until < dnc.valid_until THEN ccc.valid_until ELSE dnc.valid_until END AS valid_until,
  ccc.checked_at AS litigator_checked_at,
  dnc.checked_at AS dnc_checked_at,
  dnc.list_version AS dnc_list_version
FROM holders AS h
JOIN {verdicts} AS ccc
  ON ccc.phone = h.phone AND ccc.source = 'ccc' AND ccc.verdict = 'clear' AND ccc.valid_until > {now}
JOIN {verdicts} AS dnc
  ON dnc.phone = h.phone AND dnc.source = 'dnc' AND dnc.verdict = 'clear' AND dnc.valid_until > {now}
WHERE h.holders = h.free_holders
"""


def view_definition(dialect: Dialect) -> str:
    """The statement that makes the view on this engine."""
    contact = ("additional_data", "provenance", "contact")
    held = "\n  UNION ALL\n".join(
        "  SELECT record_id, processed_at, in_litigator_list,\n"
        f"    {digits_sql(f'phone_{i}')} AS phone,\n"
        f"    {dialect.json_text(*contact, 'is_dead')} AS is_dead,\n"
        f"    {dialect.json_text(*contact, f'phone_{i}', 'disconnected')} AS disconnected\n"
        f"  FROM {MASTER.full_name}"
        for i in (1, 2, 3)
    )
    return _VIEW.format(
        create=dialect.create_or_replace_view(CALLABLE_PHONES),
        held=held,
        withdrawals=WITHDRAWALS.full_name,
        verdicts=PHONE_VERDICTS.full_name,
        now=dialect.now(),
    ).strip()


def checksum(definition: str) -> str:
    return hashlib.sha256(definition.encode()).hexdigest()
