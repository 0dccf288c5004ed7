"""Who is logged in: one password, and signed cookies that expire.

The signing key comes from the password: several servers with one password know each other's sessions, a restart
ends none, and another password ends all.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from datetime import timedelta
from typing import Final

from cachetools import TTLCache
from itsdangerous import BadSignature, URLSafeTimedSerializer

LIFETIME: Final = timedelta(hours=12)

_MOST_ENDED = 10_000
_KEY_OF = b"gewe_cache admin sessions"


class Sessions:
    """Begins, checks and ends sessions. Belongs to one event loop."""

    def __init__(self, password: str) -> None:
        """Take the password, of which only hashes are kept."""
        key = hashlib.scrypt(password.encode(), salt=_KEY_OF, n=2**14, r=8, p=1, dklen=32)
        self.secret = key.hex()
        self._digest = _digest(password)
        self._signer = URLSafeTimedSerializer(self.secret, salt="session")
        self._ended: TTLCache[str, None] = TTLCache(_MOST_ENDED, LIFETIME.total_seconds())

    def is_password(self, given: str) -> bool:
        """Compare in a time that tells nothing of the password."""
        return hmac.compare_digest(_digest(given), self._digest)

    def begin(self) -> str:
        """Give a new session's cookie."""
        return self._signer.dumps(secrets.token_urlsafe(16))

    def is_valid(self, cookie: str | None) -> bool:
        """Tell whether a cookie is of a session that goes on."""
        name = self._name_of(cookie)
        return name is not None and name not in self._ended

    def end(self, cookie: str | None) -> None:
        """End a session here; other servers with the password take its cookie until it expires."""
        name = self._name_of(cookie)
        if name is not None:
            self._ended[name] = None

    def _name_of(self, cookie: str | None) -> str | None:
        try:
            name = self._signer.loads(cookie or "", max_age=int(LIFETIME.total_seconds()))
        except BadSignature:
            return None
        return name if isinstance(name, str) else None


def _digest(password: str) -> bytes:
    return hashlib.sha256(password.encode("utf-8", "surrogatepass")).digest()
