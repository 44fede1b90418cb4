"""Who asks: a key or a token, verified anew in each request."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from revec.model.access import Caller, Role
from revec.model.errors import BadInput, NotAllowed, NotIdentified, Refused
from revec.observe import events
from revec.postgres import keys
from revec.postgres.database import Database
from revec.web.tokens import Tokens

LONGEST = 8192  # bytes of a token
LOOPBACK = ("127.0.0.1", "::1", "localhost")
ANYBODY = Caller("anybody on this machine", Role.ADMIN, None)
BEARER = re.compile(rb"bearer +([\x21-\x7e]+)", re.IGNORECASE)
# One sentence whatever was wrong: who guesses learns nothing from it.
CLOSED: Final = (
    "show a key (`revec keys create` makes one) or a token, as `Authorization: Bearer …`; "
    "one that is unknown, expired or revoked opens nothing"
)


Headers = Sequence[tuple[bytes, bytes]]


class Doorkeeper:
    """`open_to`: who somebody is that shows nothing; None: nobody."""

    def __init__(self, database: Database, tokens: Tokens | None, open_to: Caller | None = None) -> None:
        self._database = database
        self._tokens = tokens
        self._open_to = open_to

    async def caller(self, headers: Headers) -> Caller:
        """Who asks.

        Raises:
            NotIdentified: nobody that is known here.
        """
        shown = [value for name, value in headers if name == b"authorization"]
        if not shown and (anybody := self.anybody(headers)) is not None:
            return anybody
        try:
            return await self._holder(shown)
        except NotIdentified as why:
            raise turned_away(why) from None

    def anybody(self, headers: Headers) -> Caller | None:
        """Who somebody is that shows nothing; None: nobody.

        Raises:
            NotAllowed: somebody else's page asks, under a name of its own.
        """
        if self._open_to is not None:
            _require_loopback(headers)
        return self._open_to

    async def of_key(self, key: str) -> Caller:
        """Who holds the key.

        Raises:
            NotIdentified: it opens nothing.
        """
        try:
            return await self._of_key(key)
        except NotIdentified as why:
            raise turned_away(why) from None

    async def _holder(self, shown: list[bytes]) -> Caller:
        if len(shown) != 1:
            raise NotIdentified("several headers" if shown else "nothing shown")
        found = BEARER.fullmatch(shown[0])
        if found is None or len(found[1]) > LONGEST:
            raise NotIdentified("not a bearer's")
        text = found[1].decode("ascii")
        if text.startswith(keys.MARK):
            return await self._of_key(text)
        if self._tokens is None:
            raise NotIdentified("a token, where none are taken")
        return await self._tokens.caller(text)

    async def _of_key(self, key: str) -> Caller:
        if not keys.KEY.fullmatch(key):  # the database is not asked for nonsense
            raise NotIdentified("no whole key")
        try:
            async with self._database.transaction("worker") as conn:
                caller = await keys.holder(conn, key)
        except BadInput as error:  # what it may see is unknown, so nothing
            raise NotIdentified(f"{key[: len(keys.MARK) + 8]}: {error}") from None
        if caller is None:
            raise NotIdentified(f"{key[: len(keys.MARK) + 8]} is unknown, expired or revoked")
        return caller


def turned_away(why: NotIdentified) -> NotIdentified:
    """What the log hears of it, and what is said."""
    events.emit(events.TurnedAway(str(why)))
    return NotIdentified(CLOSED)


async def doorkeeper(database: Database, tokens: Tokens | None, *, host: str, no_auth: bool) -> Doorkeeper:
    """Somebody must be able to come in, and not everybody.

    Raises:
        BadInput: everybody on the network could ask.
        Refused: nobody could.
    """
    if no_auth:
        if host not in LOOPBACK:
            raise BadInput(
                f"--no-auth lets anybody in who reaches {host}: only --host 127.0.0.1 goes with it"
            )
        return Doorkeeper(database, tokens, ANYBODY)
    async with database.transaction("worker") as conn:
        good = any(row.state == "good" for row in await keys.listed(conn))
    if not good and tokens is None:
        raise Refused(
            "nobody may ask yet: `revec keys create` makes a key, REVEC_JWT_SECRET or REVEC_JWT_JWKS says "
            "whose tokens are good, and --no-auth lets in whoever is on this machine"
        )
    return Doorkeeper(database, tokens)


def _require_loopback(headers: Headers) -> None:
    """A page of somebody else's, in a browser on this machine, reaches us under a name of its own."""
    for name, value in headers:
        if name == b"host" and not re.fullmatch(rb"(127\.0\.0\.1|localhost|\[::1\])(:\d+)?", value):
            raise NotAllowed("--no-auth answers to 127.0.0.1 and localhost, under no other name")
