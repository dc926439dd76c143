"""The number that stands for an identity hash in PUBLISHED_IDENTITIES, and how long the filter may go by it.

What the hash is made of, and the filter itself, stand in leads.py.
"""

from typing import Final

from leadscrub_pipeline.warehouse.protocol import Session
from leadscrub_pipeline.warehouse.schema import PERSON_CACHE, PUBLISHED_IDENTITIES


def identity_number(identity_hash: str) -> str:
    """A hash in hex as a number of 37 digits, as an expression of the warehouse; NULL for what is no hash.

    It tells people apart by 118 bits of the hash (a record id has 128): among 50 million people and 100,000 leads
    two share one by chance once in 10^22 runs.
    """
    # Six of sixteen hex digits become others: both engines do it the same way, and neither reads so long a hex number.
    return f"TRY_CAST(TRANSLATE(SUBSTR({identity_hash}, 1, 37), 'abcdef', '012345') AS DECIMAL(37, 0))"


_NUMBER: Final = f"""
UPDATE {PUBLISHED_IDENTITIES.full_name} SET identity_number = {identity_number("identity_hash")}
WHERE identity_number IS NULL AND identity_hash <> ''
"""

_OWNERS: Final = f"""
MERGE INTO {PUBLISHED_IDENTITIES.full_name} AS t
USING (
  SELECT DISTINCT i.person_key, i.partition_key, c.expires_at
  FROM {PUBLISHED_IDENTITIES.full_name} AS i
  LEFT JOIN {PERSON_CACHE.full_name} AS c ON c.person_key = i.person_key AND c.partition_key = i.partition_key
  WHERE i.owned_until IS DISTINCT FROM c.expires_at
) AS s
ON t.person_key = s.person_key AND t.partition_key = s.partition_key
WHEN MATCHED THEN UPDATE SET owned_until = s.expires_at
"""

_SHORTEN: Final = f"""
MERGE INTO {PUBLISHED_IDENTITIES.full_name} AS t
USING ({{answers}}) AS s
ON t.person_key = s.person_key
WHEN MATCHED AND t.owned_until > s.expires_at THEN UPDATE SET owned_until = s.expires_at
"""


def note_owners(session: Session) -> None:
    """Note of every published identity until when PERSON_CACHE says that its script owns the person.

    Rows of a release that knew no numbers get theirs.
    """
    session.execute(_NUMBER)
    session.execute(_OWNERS)


def shorten_ownership(session: Session, answers: str) -> None:
    """Let no identity be noted longer than a new answer about its person holds (a query of key and end)."""
    session.execute(_SHORTEN.format(answers=answers))
