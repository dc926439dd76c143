"""Hash chains: how the chain of a run and asset begins, and how each row's hash holds all rows before it.

What a row's text is belongs to the table it stands in; where the last hash is kept, to the ledger.
"""

from collections.abc import Iterable
from hashlib import sha256


def beginning(run_id: str, asset: str) -> str:
    """Hash of a chain that has no row yet, in hex."""
    return sha256(f"leadscrub evidence 1|{run_id}|{asset}".encode()).hexdigest()


def links(previous: str, texts: Iterable[bytes]) -> str:
    """The hashes of the rows in hex, 64 characters each, one after the other.

    Args:
        previous: hash before the first row, in hex.
        texts: each row's text in UTF-8.
    """
    last = bytes.fromhex(previous)
    digests = []
    for text in texts:
        last = sha256(last + text).digest()
        digests.append(last)
    return b"".join(digests).hex()
