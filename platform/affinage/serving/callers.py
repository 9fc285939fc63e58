"""Who is calling: an API key, or the console's cookie with its CSRF token.

A valid key is remembered for at most two seconds, so that the event loop seldom waits for the database; a revoked key
stops working within that time. Keys that are not valid are not remembered: a new key works at once. Groups are not
remembered at all: rights are read with each question.
"""

from __future__ import annotations

import hmac
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.requests import Request

from affinage.database.engine import Database
from affinage.errors import NotAllowedError, NotAuthenticatedError
from affinage.identity.keys import KeyOwner, key_hash, owner_of_key
from affinage.serving.sessions import COOKIE, Sessions

LEASE_SECONDS = 2.0
# The bound that the design promises for a revocation.
MAX_REMEMBERED = 10_000
# Keys in use at once by far more people than one gateway serves; older ones are read again.
CSRF_HEADER = "x-csrf-token"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_HINT = "Send `Authorization: Bearer KEY`; `affinage key create --user NAME` makes a key."


@dataclass(frozen=True)
class Caller:
    """An authenticated user. `groups` are those of a console session; stored groups are added where rights are read.

    `scope` is all that the user's key is good for; None: all that the user may do.
    """

    user: str
    groups: tuple[str, ...] = ()
    scope: str | None = None


class Callers:
    """Authenticates requests.

    Parameters
    ----------
    run
        Runs a blocking function in the gateway's thread pool.
    monotonic
        Seconds from a clock that never goes back.
    """

    def __init__(
        self,
        *,
        database: Database,
        sessions: Sessions,
        run: Callable[[Callable[[], KeyOwner | None]], Awaitable[KeyOwner | None]],
        monotonic: Callable[[], float],
    ) -> None:
        self._database = database
        self._sessions = sessions
        self._run = run
        self._monotonic = monotonic
        self._known: OrderedDict[str, tuple[KeyOwner, float]] = OrderedDict()

    async def caller(self, request: Request) -> Caller:
        """The caller of `request`.

        Raises
        ------
        NotAuthenticatedError
            If there is no token, or none that is valid.
        NotAllowedError
            If a change comes with the console's cookie and without its CSRF token.
        """
        header = request.headers.get("authorization")
        if header is not None:
            scheme, _, key = header.partition(" ")
            if scheme.lower() != "bearer" or not key.strip():
                raise NotAuthenticatedError("The `Authorization` header holds no bearer token.", hint=_HINT)
            owner = await self._owner(key.strip())
            return Caller(owner.user, scope=owner.scope)
        session = self._sessions.find(request.cookies.get(COOKIE))
        if session is None:
            raise NotAuthenticatedError("This request carries no token.", hint=_HINT)
        if request.method not in _SAFE:
            given = request.headers.get(CSRF_HEADER, "").encode("utf-8", "replace")
            if not hmac.compare_digest(given, session.csrf.encode()):
                raise NotAllowedError("The CSRF token is missing or wrong.", hint="Load the page again.")
        return Caller(session.user, session.groups)

    async def _owner(self, key: str) -> KeyOwner:
        digest = key_hash(key)
        now = self._monotonic()
        remembered = self._known.get(digest)
        if remembered is not None and now < remembered[1]:
            return remembered[0]
        # The lease counts from before the look-up: a revocation during it is seen in time.
        owner = await self._run(lambda: self._look_up(key))
        if owner is None:
            self._known.pop(digest, None)
            raise NotAuthenticatedError("This key is not valid.", hint=_HINT)
        self._known[digest] = (owner, now + LEASE_SECONDS)
        self._known.move_to_end(digest)
        if len(self._known) > MAX_REMEMBERED:
            self._known.popitem(last=False)
        return owner

    def _look_up(self, key: str) -> KeyOwner | None:
        with self._database.read() as connection:
            return owner_of_key(connection, key=key)
