"""What people have already: columns of vectors in their tables, and everything that lives around them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from psycopg import sql

from revec.capture.mapping import Mapping
from revec.model.errors import BadInput
from revec.postgres import rowkeys
from revec.postgres.database import Connection
from revec.postgres.queries import beside

SQL = beside(__file__)
LARGE = 200_000  # rows that are not all sorted to draw some
TENANTS = ("tenant_id", "tenant", "org_id", "organization_id", "workspace_id", "account_id", "customer_id")
DELETED = ("deleted_at", "archived_at", "removed_at")
_PLAIN = re.compile(r"[a-z_][a-z0-9_]*")
FLAGS = ("is_deleted", "deleted", "archived")


@dataclass(frozen=True, slots=True)
class Graph:
    """An index of the user's over the column."""

    name: str
    method: str
    operator: str | None  # that it is walked by: <=>, <#>, <->
    valid: bool
    definition: str

    @property
    def may_serve(self) -> bool:
        """Whether searches can walk it: of the others the rows are read."""
        return self.method == "hnsw" and self.valid and self.operator in {"<=>", "<#>", "<->"}


@dataclass(frozen=True, slots=True)
class Found:
    """A column of vectors and its surroundings."""

    schema: str
    name: str
    vector: str
    type: str
    dims: int | None  # None: the column takes any
    rows: int  # as the server believes
    row_security: bool
    readable: bool
    writable: bool
    texts: list[str] = field(default_factory=list)  # columns of text, the longest first
    tenant: str | None = None  # a column that looks like one
    filter: str | None = None  # what looks like the mark of a deleted row
    graphs: list[Graph] = field(default_factory=list)
    functions: list[str] = field(default_factory=list)
    views: list[str] = field(default_factory=list)
    triggers: list[str] = field(default_factory=list)
    woken: list[str] = field(default_factory=list)  # of these, by a write of the column alone
    policies: list[str] = field(default_factory=list)

    @property
    def table(self) -> str:
        """As revec.toml spells it."""
        return f"{_spelt(self.schema)}.{_spelt(self.name)}"

    @property
    def told(self) -> str:
        dims = f"({self.dims})" if self.dims else ""
        return f"{self.table}.{self.vector} {self.type}{dims}, about {self.rows:,} rows"

    @property
    def graph(self) -> Graph | None:
        """Of the user's own indexes the one that searches can walk; by the cosine rather than another."""
        serving = [graph for graph in self.graphs if graph.may_serve]
        return min(serving, key=lambda graph: graph.operator != "<=>", default=None)


async def columns(conn: Connection) -> list[Found]:
    """Every column of vectors that this login can see."""
    rows = await (await conn.execute(SQL.columns)).fetchall()
    return [await _around(conn, Found(*row)) for row in rows]


async def column(conn: Connection, mapping: Mapping) -> Found:
    """That of a mapping.

    Raises:
        BadInput: there is none.
    """
    for found in await columns(conn):
        if (found.schema, found.name, found.vector) == (*mapping.path, mapping.vector):
            return found
    raise BadInput(f"{mapping.table} has no column {mapping.vector!r} of vectors")


async def sample(conn: Connection, found: Found, mapping: Mapping, size: int) -> list[Any]:
    """Random rows that have a vector: (title, body, own)."""
    is_large = found.rows > LARGE
    query = SQL.sample.format(
        title=rowkeys.raw(mapping.title),
        body=rowkeys.raw(mapping.body),
        vector=rowkeys.escaped(sql.Identifier(found.vector)),
        table=rowkeys.escaped(sql.Identifier(found.schema, found.name)),
        blocks=SQL.blocks if is_large else sql.SQL(""),
        filter=rowkeys.raw(mapping.filter),
    )
    asked = {"size": size} | ({"percent": min(100.0, 100 * 40 * size / found.rows)} if is_large else {})
    return await (await conn.execute(query, asked, binary=True)).fetchall()


async def may_be_silent(conn: Connection) -> bool:
    """Whether our writes of a column would wake no trigger."""
    row: Any = await (await conn.execute(SQL.silent)).fetchone()
    return bool(row.may)


async def grants(conn: Connection, found: Found, *, writes: bool) -> list[str]:
    """What this login lacks, as its owner would give it."""
    row: Any = await (await conn.execute(SQL.silent)).fetchone()
    lacking = [] if found.readable else [f"GRANT SELECT, TRIGGER ON {found.table} TO {row.login};"]
    if writes and not found.writable:
        lacking.append(f"GRANT UPDATE ({found.vector}) ON {found.table} TO {row.login};")
    return lacking


def _spelt(name: str) -> str:
    """A name as SQL has it: quoted where it is not plain."""
    return name if _PLAIN.fullmatch(name) else sql.Identifier(name).as_string()


async def _around(conn: Connection, bare: Found) -> Found:
    asked: dict[str, Any] = {"schema": bare.schema, "name": bare.name, "vector": bare.vector}
    named: Any = await (await conn.execute(SQL.oid, asked)).fetchone()
    asked["oid"] = named.oid

    async def rows(query: sql.SQL) -> list[Any]:
        return await (await conn.execute(query, asked)).fetchall()

    others = await rows(SQL.others)
    names = {row.name: row for row in others}
    triggers = await rows(SQL.triggers)
    deleted = next((f"{name} IS NULL" for name in DELETED if name in names), None)
    flagged = next((f"NOT {name}" for name in FLAGS if name in names and names[name].type == "boolean"), None)
    return Found(
        schema=bare.schema,
        name=bare.name,
        vector=bare.vector,
        type=bare.type,
        dims=bare.dims,
        rows=bare.rows,
        row_security=bare.row_security,
        readable=bare.readable,
        writable=bare.writable,
        texts=[_spelt(row.name) for row in others if row.is_text],
        tenant=next((name for name in TENANTS if name in names), None),
        filter=deleted or flagged,
        graphs=[
            Graph(row.name, row.method, row.operator, row.valid, row.definition)
            for row in await rows(SQL.graphs)
        ],
        functions=[row.name for row in await rows(SQL.functions)],
        views=[row.name for row in await rows(SQL.views)],
        triggers=[row.name for row in triggers],
        woken=[row.name for row in triggers if row.woken],
        policies=[f"{row.name}: {row.condition}" for row in await rows(SQL.policies)],
    )
