"""Hash chains: how the chain of a run and asset begins, and how each row's hash holds all rows before it.

What a row's text is belongs to the table it stands in; where the last hash is kept, to the ledger.
"""

from collections.abc import Iterable
from hashlib import sha256


def beginning(run_id: str, asset: str) -> str:
    """Hash of a chain that has no row yet, in hex."""
    return sha256(f"leadscrub evidence 1|{run_id}|{asset}".encode()).hexdigest()


def links(previous: str, texts: Iterable[bytes]) -> list[str]:
    """Hash of each row in hex, from the hash before the first and the rows' texts in UTF-8.

    Raises:
        ValueError: ``previous`` is no hash in hex.
    """
    last = bytes.fromhex(previous)
    hashes = []
    for text in texts:
        digest = sha256(last + text)
        last = digest.digest()
        hashes.append(digest.hexdigest())
    return hashes
