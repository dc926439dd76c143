"""Sealing of stored answers (Fernet, rotation by MultiFernet) and the demo's own key file."""

import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import orjson
from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from leadscrub_pipeline import failpoints
from leadscrub_pipeline.errors import FailedError, RefusedError, UnavailableError, UsageError

_CHECK_TEXT: Final = b"leadscrub ledger"


class Sealer:
    """Seals with the newest key and opens with any.

    Raises:
        UsageError: a key is no Fernet key.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        try:
            self._fernet = MultiFernet([Fernet(key) for key in keys])
        except ValueError:
            raise UsageError(
                "LEADSCRUB_ANSWER_KEY holds a value that is no Fernet key (32 bytes in url-safe base64)."
            ) from None

    def seal(self, answer: dict[str, Any]) -> bytes:
        try:
            return self._fernet.encrypt(orjson.dumps(answer))
        except TypeError:  # orjson's own error quotes the value
            raise FailedError("A vendor's answer cannot be written as JSON, so it cannot be stored.") from None

    def open(self, sealed: bytes) -> dict[str, Any]:
        """Raises UnavailableError when no key fits."""
        try:
            answer: dict[str, Any] = orjson.loads(self._fernet.decrypt(sealed))
        except InvalidToken:
            raise UnavailableError(
                "No key in LEADSCRUB_ANSWER_KEY opens a stored answer. Add the key it was sealed with."
            ) from None
        return answer

    def check_token(self) -> bytes:
        return self._fernet.encrypt(_CHECK_TEXT)

    def require_fits(self, token: bytes) -> None:
        """Raises RefusedError when no key opens what the ledger was made with."""
        try:
            self._fernet.decrypt(token)
        except InvalidToken:
            raise RefusedError(
                "LEADSCRUB_ANSWER_KEY holds no key that this ledger was made with; its paid answers could not be read. "
                "Put the old key behind the new one, parted by a comma."
            ) from None


def key_file_of(ledger: Path) -> Path:
    return ledger.with_name(ledger.name + ".key")


def make_or_read_key_file(path: Path) -> str:
    """The demo's key; made once, also when several processes start together."""
    if not path.exists():
        draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(Fernet.generate_key())
            file.flush()
            os.fsync(file.fileno())
        failpoints.reached("key_file.drafted")
        try:
            os.link(draft, path)  # whole or not at all, and never over another process's key
        except FileExistsError:
            pass
        finally:
            draft.unlink()
        failpoints.reached("key_file.made")
    return path.read_text(encoding="ascii").strip()
