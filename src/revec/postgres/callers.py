"""Callers: SQL functions of the users' own, what they may ask, and on which scale their scores are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg import sql

from revec.postgres.database import Connection
from revec.postgres.queries import beside

SQL = beside(__file__)


@dataclass(frozen=True, slots=True)
class Destination:
    """An index that a caller's vector may be meant for."""

    index_id: int
    space_id: str
    model: str  # its address
    dims: int
    standing: str  # serves, served before, is new
    waits: str | None  # why it cannot answer yet

    def __str__(self) -> str:
        return f"{self.model} ({self.dims} dims, {self.standing})"


@dataclass(frozen=True, slots=True)
class Caller:
    function: str  # as regprocedure writes it
    home: str | None  # the space on whose scale its scores are; None: each space's own
    says_space: bool


@dataclass(frozen=True, slots=True)
class Scale:
    """Scores of equal rank in two spaces; both ascend from -1 to 1."""

    home_scores: Sequence[float]
    scores: Sequence[float]
    pairs: int  # of documents, that it was learned from
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Type:
    shown: str  # as it is written in SQL
    base: str  # its bare name in the catalog


@dataclass(frozen=True, slots=True)
class Argument:
    """Of a function of the user's: handed in, or (`mode` t or o) given back."""

    name: str
    mode: str
    type: Type
    default: str | None


@dataclass(frozen=True, slots=True)
class Function:
    shown: str
    schema: str
    name: str
    definer: bool  # it runs as its owner
    is_set: bool
    is_ours: bool  # it was made by us
    definition: str
    arguments: Sequence[Argument]

    @property
    def inputs(self) -> list[Argument]:
        return [each for each in self.arguments if each.mode in "ibv"]

    @property
    def outputs(self) -> list[Argument]:
        return [each for each in self.arguments if each.mode in "tbo"]


async def destinations(conn: Connection, collection_id: int) -> list[Destination]:
    rows = await conn.execute(SQL.destinations, {"collection": collection_id})
    return [Destination(*row) for row in await rows.fetchall()]


async def kept(conn: Connection, collection_id: int) -> list[Caller]:
    """Those whose function is still there."""
    rows = await conn.execute(SQL.kept, {"collection": collection_id})
    return [Caller(*row) for row in await rows.fetchall()]


async def scale(conn: Connection, collection_id: int, home: str, space_id: str) -> Scale | None:
    asked = {"collection": collection_id, "home": home, "space": space_id}
    row = await (await conn.execute(SQL.scale, asked)).fetchone()
    return Scale(*row) if row else None


async def keep_scale(conn: Connection, collection_id: int, home: str, space_id: str, learned: Scale) -> None:
    await conn.execute(
        SQL.keep_scale,
        {
            "collection": collection_id,
            "home": home,
            "space": space_id,
            "home_scores": list(learned.home_scores),
            "scores": list(learned.scores),
            "pairs": learned.pairs,
        },
    )


async def function(conn: Connection, named: str) -> Function | None:
    """By its name, or by name and types; None: there is none, or several."""
    try:
        async with conn.transaction():
            row = await (await conn.execute(SQL.function, {"function": named})).fetchone()
    except psycopg.DataError:  # no name at all
        return None
    if row is None:
        return None
    of_it = await conn.execute(SQL.arguments.format(type=_SHOWN), {"oid": row.oid})
    arguments = [
        Argument(each.name, each.mode, Type(each.type, each.base), each.default)
        for each in await of_it.fetchall()
    ]
    return Function(
        *(row.shown, row.schema, row.name, row.definer, row.is_set, row.is_ours),
        definition=row.definition,
        arguments=arguments,
    )


async def type_named(conn: Connection, name: str) -> Type | None:
    try:
        async with conn.transaction():
            row = await (await conn.execute(SQL.type_named.format(type=_SHOWN), {"type": name})).fetchone()
    except psycopg.Error:  # no type at all
        return None
    return Type(*row) if row else None


async def type_of(conn: Connection, expression: sql.Composable, table: sql.Composable) -> Type:
    """Of an expression over a table's row.

    Raises:
        psycopg.Error: it does not run.
    """
    async with conn.transaction():
        found = await conn.execute(SQL.one_row.format(expression=expression, table=table))
    assert found.description is not None
    oid = {"oid": found.description[0].type_code}
    row = await (await conn.execute(SQL.type_of.format(type=_SHOWN), oid)).fetchone()
    assert row is not None
    return Type(*row)


async def row_security(conn: Connection, table: str) -> Any:
    """`is_on`, and `policy`: SQL of one that shows rows, where there is any."""
    return await (await conn.execute(SQL.row_security, {"table": table})).fetchone()


_SHOWN = SQL.type_shown
