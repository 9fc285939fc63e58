"""Console sessions: a one-time link becomes a cookie.

Kept in memory of the one process that printed the link, and gone with it. What is kept are digests of the secrets.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

COOKIE = "affinage_session"
LINK_LIFE = timedelta(minutes=15)
# Long enough to start a browser, short for a link that stays in a terminal's history.
SESSION_LIFE = timedelta(hours=12)
# A working day.
MAX_SESSIONS = 1000


@dataclass(frozen=True)
class Session:
    """A signed-in browser."""

    user: str
    groups: tuple[str, ...]
    csrf: str
    until: datetime


class Sessions:
    """One-time links and the sessions they open."""

    def __init__(self, *, now: Callable[[], datetime]) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._links: dict[str, Session] = {}
        self._open: dict[str, Session] = {}

    def invite(self, user: str, *, groups: tuple[str, ...] = ()) -> str:
        """A token that signs `user` in, once, within fifteen minutes."""
        token = secrets.token_urlsafe(32)
        with self._lock:
            self._links[_digest(token)] = Session(user, groups, "", self._now() + LINK_LIFE)
        return token

    def redeem(self, token: str) -> str | None:
        """Use up a link; the cookie's value, or None when the token is unknown, used or too old."""
        with self._lock:
            invited = self._links.pop(_digest(token), None)
            if invited is None or invited.until <= self._now():
                return None
            self._open = {key: session for key, session in self._open.items() if session.until > self._now()}
            if len(self._open) >= MAX_SESSIONS:
                return None
            cookie = secrets.token_urlsafe(32)
            self._open[_digest(cookie)] = Session(invited.user, invited.groups, secrets.token_urlsafe(32), self._now() + SESSION_LIFE)
            return cookie

    def find(self, cookie: str | None) -> Session | None:
        """The session of a cookie, or None."""
        if not cookie:
            return None
        with self._lock:
            session = self._open.get(_digest(cookie))
        return session if session is not None and session.until > self._now() else None

    def close(self, cookie: str | None) -> None:
        """End the session of a cookie; an unknown one is fine."""
        with self._lock:
            self._open.pop(_digest(cookie or ""), None)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
