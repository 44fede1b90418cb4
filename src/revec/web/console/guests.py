"""Who is at the console: by a cookie of theirs, and never by a header that a script could set.

A form's token is derived from that cookie, which no other site's page can read: from a session's own, or
from a visitor's, with a secret of ours, where there is no session (docs/console.md).
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass
from hashlib import sha256
from typing import Any
from urllib.parse import SplitResult, urlsplit

from fastapi.responses import Response
from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.types import Scope

from revec.model.access import Caller
from revec.model.errors import BadInput, NotAllowed, NotIdentified
from revec.postgres import sessions
from revec.postgres.database import Database
from revec.web.doorkeeper import Doorkeeper, turned_away
from revec.web.purses import Purses

ROOT = "/console/"
LOGIN = "/console/login"
STATIC = "/console/static/"
SESSION, VISITOR = "revec_session", "revec_visitor"  # cookies
LONGEST = 200  # characters of a cookie of ours
TRIES = 1.0  # a second, of keys from one address that open nothing
OVER = "your session is over, or its key is: log in again"
STALE = "this form is not from a page that you have open: reload the page, and do it again"


@dataclass(frozen=True, slots=True)
class Guest:
    """`form`: what their forms say; `session`: the hash by which theirs is kept; `cookie`: one to be set."""

    form: str
    session: bytes | None = None
    cookie: str | None = None

    def sign(self, answer: Response, scope: Scope) -> None:
        """A visitor without a cookie gets one with the first page."""
        if self.cookie is not None:
            put(answer, scope, VISITOR, self.cookie)


class Guests:
    def __init__(self, database: Database, doorkeeper: Doorkeeper) -> None:
        self._database = database
        self._doorkeeper = doorkeeper
        self._tries = Purses(TRIES)
        self._secret: bytes | None = None

    async def admit(self, scope: Scope) -> Caller | None:
        """Who asks; None: this is for everybody. Their form's token is in the scope's state from here on.

        Raises:
            NotIdentified: nobody that is known here.
            NotAllowed: somebody else's page asks, under a name of its own.
        """
        if scope["path"].startswith(STATIC):
            return None
        headers = Headers(scope=scope)
        anybody = self._doorkeeper.anybody(headers.raw)
        held = cookies(headers)
        if anybody is None and scope["path"] not in {"/", LOGIN}:
            return await self._of_session(scope, held.get(SESSION))
        scope["state"]["guest"] = await self._visitor(held.get(VISITOR))
        return anybody

    async def log_in(self, key: str, address: str) -> tuple[Caller, str]:
        """The key's holder, and the session's token.

        Raises:
            NotIdentified: the key opens nothing.
            TooMuch: nor did too many others from there.
        """
        try:
            caller = await self._doorkeeper.of_key(key)
        except NotIdentified:  # behind a proxy all have one address: a good key does not wait for bad ones
            self._tries.take(address)
            raise
        async with self._database.transaction("worker") as conn:
            return caller, await sessions.begin(conn, caller)

    async def log_out(self, token: str | None) -> None:
        if token is not None:
            async with self._database.transaction("worker") as conn:
                await sessions.leave(conn, token)

    async def _of_session(self, scope: Scope, token: str | None) -> Caller:
        if token is None:
            raise NotIdentified(OVER)
        try:
            async with self._database.transaction("worker") as conn:
                caller = await sessions.holder(conn, token)
        except BadInput as error:  # what it may see is unknown, so nothing
            raise turned_away(NotIdentified(f"a session: {error}")) from None
        if caller is None:
            raise NotIdentified(OVER)
        scope["state"]["guest"] = Guest(signed(token.encode(), "session"), sessions.hash_of(token))
        return caller

    async def _visitor(self, cookie: str | None) -> Guest:
        if self._secret is None:
            async with self._database.transaction("worker") as conn:
                self._secret = await sessions.secret(conn)
        known = cookie or secrets.token_urlsafe(16)
        return Guest(signed(self._secret, known), cookie=None if cookie else known)


def signed(secret: bytes, what: str) -> str:
    return hmac.new(secret, f"a form of {what}".encode(), sha256).hexdigest()


def require_own_form(scope: Scope, said: Any) -> None:
    """A POST comes from a page of ours: by its token, and by where the browser says that it was.

    Raises:
        NotAllowed: anything speaks against it.
    """
    guest: Guest = scope["state"]["guest"]
    if not isinstance(said, str) or not hmac.compare_digest(said.encode(), guest.form.encode()):
        raise NotAllowed(STALE)
    headers = Headers(scope=scope)
    site = headers.get("sec-fetch-site")
    if site is not None and site not in {"same-origin", "none"}:
        raise NotAllowed(f"a page of another site sent this form: {STALE}")
    origin = headers.get("origin")
    # The scheme is not compared: a proxy may have taken TLS off. "null" hides where it is from.
    if site is None and origin is not None and split(origin).netloc != headers.get("host"):
        raise NotAllowed(f"a page of another site sent this form: {STALE}")


def split(address: str) -> SplitResult:
    """What a browser says of where it was; nowhere, where it is no address."""
    try:
        return urlsplit(address)
    except ValueError:  # as of http://[
        return urlsplit("")


def cookies(headers: Headers) -> dict[str, str]:
    """As far as they may be ours; whatever else stands on this host beside us is passed over."""
    held = cookie_parser("; ".join(headers.getlist("cookie")))
    return {name: value for name, value in held.items() if 0 < len(value) <= LONGEST}


def put(answer: Response, scope: Scope, name: str, value: str) -> None:
    """Read by no script, sent by no other site's page."""
    answer.set_cookie(name, value, path="/", httponly=True, samesite="strict", secure=came_by_tls(scope))


def came_by_tls(scope: Scope) -> bool:
    """To us, or to the proxy before us; who lies about it only keeps the cookie from himself."""
    said = Headers(scope=scope).get("x-forwarded-proto", scope["scheme"])
    return said.rpartition(",")[2].strip() == "https"
