"""Sessions of the console: a cookie's hash, the key that it stands on, and until when."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from hashlib import sha256

from revec.model.access import Caller
from revec.postgres import keys
from revec.postgres.database import Connection
from revec.postgres.queries import beside

SQL = beside(__file__)
LASTS = 12 * 3600.0  # seconds: a working day
SECRET = 32  # random bytes


def hash_of(token: str) -> bytes:
    return sha256(token.encode()).digest()


async def begin(conn: Connection, caller: Caller) -> str:
    """A session of the key's holder; its token, which is seen this once."""
    token = secrets.token_urlsafe(SECRET)
    await conn.execute(SQL.begin, {"hash": hash_of(token), "key": caller.name, "seconds": LASTS})
    return token


async def holder(conn: Connection, token: str) -> Caller | None:
    """Whose session it is; None where it is unknown or over, or its key expired or revoked.

    Raises:
        BadInput: what the key may see cannot be read.
    """
    row = await (await conn.execute(SQL.holder, {"hash": hash_of(token)})).fetchone()
    return None if row is None else keys.caller(row)


async def good(conn: Connection, hashes: Iterable[bytes]) -> set[bytes]:
    """Those that stand still."""
    rows = await (await conn.execute(SQL.good, {"hashes": list(hashes)})).fetchall()
    return {bytes(row.hash) for row in rows}


async def leave(conn: Connection, token: str) -> None:
    await conn.execute(SQL.leave, {"hash": hash_of(token)})


async def secret(conn: Connection) -> bytes:
    """What the forms of all servers on this database are signed with."""
    row = await (await conn.execute(SQL.secret)).fetchone()
    assert row is not None
    return bytes(row.secret)
