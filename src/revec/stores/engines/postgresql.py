"""Another PostgreSQL: a table of points with an HNSW graph, on connections of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import psycopg
from pgvector import HalfVector
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from revec.model.errors import BadInput, NotFound, StoreUnavailable, Unavailable
from revec.model.place import LOCAL, Address
from revec.model.space import MAX_HNSW_DIMS
from revec.postgres.database import DATABASE_TROUBLE, Connection, Database, first_line, learn_types
from revec.postgres.queries import beside
from revec.stores.base import Vector, half
from revec.stores.pgvector import PLAIN_DIMS, HalfVectors
from revec.stores.points import Near, Point

SQL = beside(__file__)
CONNECTIONS = 4
PORT = 5432
PATIENCE = 5.0  # seconds for a connection


def connect(address: Address, key: str | None) -> PostgreSQL:
    return PostgreSQL(address, key)


class PostgreSQL:
    most = 2_000

    def __init__(self, address: Address, key: str | None) -> None:
        self._place = f"{address.host or LOCAL}:{address.port or PORT}"
        dsn = _dsn(address, key)
        self._database = Database(dsn, connections=CONNECTIONS, patience=PATIENCE, called=self._place)
        self._opening = asyncio.Lock()
        self._is_open = False

    async def facts(self) -> str:
        async with self._transaction() as conn:
            row = await (await conn.execute(SQL.facts)).fetchone()
            assert row is not None
            return f"PostgreSQL {row.server} with pgvector {row.vector}"

    async def create(self, place: str, dims: int) -> None:
        async with self._transaction() as conn:
            await conn.execute(SQL.extension)
            await conn.execute(SQL.create.format(points=_table(place), dims=sql.Literal(dims)))
            if dims <= PLAIN_DIMS:
                await conn.execute(SQL.inline.format(points=_table(place)))
            name = sql.Identifier(f"{place}_tenant")
            await conn.execute(SQL.by_tenant.format(points=_table(place), name=name))
            if dims <= MAX_HNSW_DIMS:
                name = sql.Identifier(f"{place}_hnsw")
                await conn.execute(SQL.graph.format(points=_table(place), name=name))

    async def drop(self, place: str) -> None:
        async with self._transaction() as conn:
            await conn.execute(SQL.drop.format(points=_table(place)))

    async def put(self, place: str, points: Sequence[Point]) -> None:
        asked = {
            "ids": [point.id for point in points],
            "tenants": [point.tenant for point in points],
            "vectors": HalfVectors([half(point.vector) for point in points]),
        }
        async with self._transaction() as conn:
            await conn.execute(SQL.put.format(points=_table(place)), asked)

    async def delete(self, place: str, ids: Sequence[UUID]) -> None:
        async with self._transaction() as conn:
            await conn.execute(SQL.delete.format(points=_table(place)), {"ids": list(ids)})

    async def fetch(self, place: str, ids: Sequence[UUID]) -> dict[UUID, Vector]:
        query = SQL.fetch.format(points=_table(place))
        async with self._transaction() as conn:
            rows = await (await conn.execute(query, {"ids": list(ids)}, binary=True)).fetchall()
        return {row.id: row.embedding.to_numpy().astype("float32") for row in rows}

    async def nearest(self, place: str, query: Vector, *, limit: int, tenant: str | None) -> Near:
        asked = {"query": HalfVector(half(query)), "tenant": tenant, "limit": limit}
        async with self._transaction() as conn:
            await conn.execute(SQL.settings, {"limit": limit})
            rows = await (await conn.execute(SQL.nearest.format(points=_table(place)), asked)).fetchall()
        return sorted(((row.id, float(row.score)) for row in rows), key=lambda near: -near[1])

    async def page(self, place: str, after: str, limit: int) -> tuple[list[UUID], str | None]:
        query = SQL.page.format(points=_table(place))
        async with self._transaction() as conn:
            rows = await (await conn.execute(query, {"after": after, "limit": limit})).fetchall()
        return [row.id for row in rows], str(rows[-1].id) if len(rows) == limit else None

    async def count(self, place: str) -> int:
        async with self._transaction() as conn:
            row = await (await conn.execute(SQL.count.format(points=_table(place)))).fetchone()
        assert row is not None
        return int(row.points)

    async def close(self) -> None:
        if self._is_open:
            await self._database.__aexit__()

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Connection]:
        try:
            async with self._opening:
                if not self._is_open:
                    await self._database.__aenter__()
                    self._is_open = True
            async with self._database.transaction() as conn:
                if conn.adapters.types.get("halfvec") is None:  # it is older than the extension
                    await learn_types(conn)
                yield conn
        except psycopg.errors.UndefinedTable as error:
            raise NotFound(first_line(error)) from error
        except psycopg.errors.InsufficientPrivilege as error:
            raise StoreUnavailable(f"{self._place} lets us in, but: {first_line(error)}") from error
        except StoreUnavailable:
            raise
        except Unavailable as error:
            raise StoreUnavailable(str(error)) from error
        except DATABASE_TROUBLE as error:
            raise StoreUnavailable(f"{self._place}: {first_line(error)}") from error


def _dsn(address: Address, key: str | None) -> str:
    """TLS unless it is on this machine. A socket's folder is the `host` of the query."""
    asked: dict[str, Any] = conninfo_to_dict(f"postgresql://{address.path}?{address.query}")
    if not str(asked.get("host", "/")).startswith("/") or "hostaddr" in asked:
        raise BadInput("the host of a store stands before its database: postgresql://user@host:5432/database")
    asked |= {"host": address.host} if address.host else {}
    asked |= {"port": address.port} if address.port else {}
    asked |= {"user": address.user} if address.user else {}
    asked |= {"password": key} if key else {}
    if not address.is_safe and asked.get("sslmode") not in {"require", "verify-ca", "verify-full"}:
        asked["sslmode"] = "require"
    return make_conninfo("", **asked)


def _table(place: str) -> sql.Identifier:
    return sql.Identifier(place)
