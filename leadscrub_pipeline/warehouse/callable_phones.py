"""The view CALLABLE_PHONES: the only place that says a number may be called.

One row a phone for which every source's verdict is clear and unexpired, which is not
disconnected, which nobody asked us not to call, and for which every published row that holds it
is free of litigators, not marked dead and not withdrawn. In place of the registry's clear verdict
a consent will do where the registry says listed. A new rule about callability belongs here and
nowhere else.
"""

import hashlib
from typing import Final

from leadscrub_pipeline.warehouse.flags import COMPANY_LIST, digits_sql
from leadscrub_pipeline.warehouse.protocol import Dialect
from leadscrub_pipeline.warehouse.schema import CALLABLE_PHONES, CONSENTS, MASTER, PHONE_VERDICTS, WITHDRAWALS

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
),
consents AS (
  SELECT
    phone, kind, proof, expires_at,
    ROW_NUMBER() OVER (
      PARTITION BY phone ORDER BY CASE WHEN expires_at IS NULL THEN 0 ELSE 1 END, expires_at DESC, kind, proof
    ) AS place
  FROM {consents}
  WHERE {standing_consent}
)
SELECT
  h.phone,
  CASE
    WHEN dnc.verdict = 'clear' AND dnc.valid_until < ccc.valid_until THEN dnc.valid_until
    WHEN dnc.verdict = 'listed' AND c.expires_at < ccc.valid_until THEN c.expires_at
    ELSE ccc.valid_until
  END AS valid_until,
  ccc.checked_at AS litigator_checked_at,
  dnc.checked_at AS dnc_checked_at,
  dnc.list_version AS dnc_list_version,
  CASE WHEN dnc.verdict = 'clear' THEN '{not_listed}' ELSE c.kind END AS basis,
  CASE WHEN dnc.verdict = 'listed' THEN c.proof END AS consent_proof
FROM holders AS h
JOIN {verdicts} AS ccc
  ON ccc.phone = h.phone AND ccc.source = 'ccc' AND ccc.verdict = 'clear' AND ccc.valid_until > {now}
JOIN {verdicts} AS dnc ON dnc.phone = h.phone AND dnc.source = 'dnc'
LEFT JOIN consents AS c ON c.phone = h.phone AND c.place = 1
LEFT JOIN {company_list} AS company ON company.phone = h.phone
WHERE h.holders = h.free_holders
  AND company.phone IS NULL
  AND ((dnc.verdict = 'clear' AND dnc.valid_until > {now}) OR (dnc.verdict = 'listed' AND c.phone IS NOT NULL))
"""


NOT_LISTED: Final = "not_listed"
"""Basis of a phone that no consent is needed for; else the basis is the consent's kind."""


def standing_consent(now: str) -> str:
    """Which rows of CONSENTS count at a moment, which is an expression of SQL."""
    return f"revoked_at IS NULL AND (expires_at IS NULL OR expires_at > {now})"


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
        consents=CONSENTS.full_name,
        standing_consent=standing_consent(dialect.now()),
        company_list=COMPANY_LIST,
        not_listed=NOT_LISTED,
        now=dialect.now(),
    ).strip()


def checksum(definition: str) -> str:
    return hashlib.sha256(definition.encode()).hexdigest()
