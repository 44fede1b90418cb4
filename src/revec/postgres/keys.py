"""API keys: shown once, kept as a hash, looked up in each request."""

from __future__ import annotations

import re
import secrets
from datetime import timedelta
from hashlib import sha256
from typing import Any, NamedTuple

from revec.model import filter as filters
from revec.model.access import Caller, Role
from revec.model.document import unstorable
from revec.model.errors import BadInput, NotFound
from revec.model.index import Collection
from revec.postgres.database import Connection
from revec.postgres.queries import beside

SQL = beside(__file__)
MARK = "revec_"  # by which people, and scanners for leaked secrets, know one
SECRET = 32  # random bytes
PREFIX = re.compile(r"revec_[0-9a-f]{8}")
KEY = re.compile(r"revec_[0-9a-f]{8}_[A-Za-z0-9_-]{43}")


class Made(NamedTuple):
    prefix: str
    key: str  # the only time that it is seen


async def create(
    conn: Connection,
    role: Role,
    *,
    tenant: str | None,
    collection: Collection | None = None,
    visible: str | None = None,
    lasts: timedelta | None = None,
    by: str,
) -> Made:
    """A new key; `tenant` None: for all of them. `visible`: a filter as JSON, None: nothing is hidden.

    Raises:
        BadInput: such a key would see or write more than it should, or the filter cannot be read.
    """
    _check(role, tenant)
    if visible is not None:
        filters.read(visible)
    prefix = f"{MARK}{secrets.token_hex(4)}"
    key = f"{prefix}_{secrets.token_urlsafe(SECRET)}"
    await conn.execute(
        SQL.create,
        {
            "prefix": prefix,
            "hash": _hash(key),
            "role": role,
            "tenant": tenant,
            "collection": collection.id if collection else None,
            "visible": visible,
            "by": by,
            "seconds": lasts.total_seconds() if lasts else None,
        },
    )
    return Made(prefix, key)


async def holder(conn: Connection, key: str) -> Caller | None:
    """Who holds the key; None where it is unknown, expired or revoked.

    Raises:
        BadInput: what it may see cannot be read.
    """
    row = await (await conn.execute(SQL.holder, {"hash": _hash(key)})).fetchone()
    return None if row is None else caller(row)


def caller(row: Any) -> Caller:
    """
    Raises:
        BadInput: what it may see cannot be read.
    """
    visible = None if row.visible is None else filters.read(row.visible)
    return Caller(row.prefix, Role(row.role), row.tenant, row.collection, visible)


async def listed(conn: Connection) -> list[Any]:
    return await (await conn.execute(SQL.all)).fetchall()


async def page(conn: Connection, *, before: str | None, limit: int) -> list[Any]:
    """The newest first, from behind the key of this prefix on."""
    return await (await conn.execute(SQL.page, {"before": before, "limit": limit})).fetchall()


async def revoke(conn: Connection, beginning: str, *, by: str) -> str:
    """From the commit on it opens nothing; its prefix, which is enough to name it.

    Raises:
        NotFound: no key begins so.
    """
    found = PREFIX.match(beginning)
    asked = {"prefix": found[0], "by": by} if found else {}
    if not found or await (await conn.execute(SQL.revoke, asked)).fetchone() is None:
        raise NotFound("no key begins like that: `revec keys list` shows all")
    return found[0]


def _check(role: Role, tenant: str | None) -> None:
    if tenant is not None and (not tenant or unstorable(tenant)):
        raise BadInput("a tenant's name is some text without NUL: name it as its documents do")
    if role is Role.VIEWER and tenant is None:
        raise BadInput("a viewer sees one tenant: --tenant names it, and an operator may see all of them")
    if role is Role.ADMIN and tenant is not None:
        raise BadInput(
            "an admin writes documents, whose ids are shared by all tenants: give it --all-tenants, "
            "or make it an operator of the tenant"
        )


def _hash(key: str) -> bytes:
    return sha256(key.encode()).digest()
