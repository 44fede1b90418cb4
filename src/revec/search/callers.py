"""Make a caller: one SQL function of the user's own name, arguments and columns, for every model to come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import psycopg
from psycopg import sql

from revec.capture.attach import checked
from revec.capture.mapping import Mapping
from revec.model.document import DEFAULT_TENANT
from revec.model.errors import BadInput, Refused
from revec.model.index import Collection
from revec.postgres import callers, collections, indexes
from revec.postgres.callers import Arm, Function
from revec.postgres.database import Connection, Database, first_line
from revec.search.signature import Given, Means, Said, Taken, existing, given, raw, taken

SQL = callers.SQL
NOTHING = sql.SQL("NULL")
MOST = 1_000_000  # hits
SPARE = 4  # times as many are looked for where row security of the table may hide some


@dataclass(frozen=True, slots=True)
class Made:
    """What is to be run, in its order, and what a person should know of it."""

    function: str  # schema.name(types)
    asks: str  # schema.name of the function that names the model
    arguments: Sequence[Taken]
    columns: Sequence[Given]
    statements: Sequence[sql.Composable]
    notes: Sequence[str]
    replaces: str | None  # the text of a function of theirs that stands there now

    @property
    def script(self) -> str:
        return ";\n\n".join(["BEGIN", *(each.as_string() for each in self.statements), "COMMIT;\n"])


async def make(conn: Connection, collection: Collection, said: Said) -> Made:
    """
    Raises:
        Refused: nothing serves that SQL could search, or two spaces of equal dims are to be told apart.
        BadInput: what was said does not fit the table, or leaves something open.
        NotFound: there is no such function.
    """
    mapping, serving = await _table(conn, collection, said), await _serving(conn, collection)
    like = await existing(conn, said.like) if said.like else None
    arguments = await taken(conn, said, like)
    _require_space(collection, await callers.arms(conn, collection.id), arguments)
    tenant = await _tenant(conn, collection, mapping, said.tenant, arguments)
    columns = await given(
        conn, _usual(said, like, mapping), like, await _columns(conn, mapping), mapping.relation
    )
    schema, name = _named(said, like, mapping, collection)
    types = ", ".join(each.type for each in arguments)
    identity = f"{sql.Identifier(schema, name).as_string()}({types})"
    stands = await callers.function(conn, identity)
    _require_same_columns(identity, stands, columns)
    home = None if said.is_raw else serving.space_id
    rules = await callers.row_security(conn, mapping.table)
    spare = SPARE if rules and rules.is_on else 1
    asked = _Asked(collection, mapping, arguments, columns, tenant, home, spare)
    return Made(
        function=identity,
        asks=sql.Identifier(schema, f"{name}_model").as_string(),
        arguments=arguments,
        columns=columns,
        statements=[
            asked.search(sql.Identifier(schema, name)),
            asked.model(sql.Identifier(schema, f"{name}_model")),
            SQL.keep.format(
                function=sql.Literal(identity),
                collection=sql.Literal(collection.id),
                home=sql.Literal(home),
                says_space=sql.Literal(any(each.means is Means.SPACE for each in arguments)),
            ),
        ],
        notes=_notes(identity, like, stands),
        replaces=stands.definition if stands and not stands.is_ours else None,
    )


async def apply(database: Database, made: Made) -> None:
    """
    Raises:
        BadInput: the database would not have it; why.
    """
    try:
        async with database.transaction() as conn:
            for statement in made.statements:
                await conn.execute(statement)  # type: ignore[arg-type]
    except psycopg.errors.ConnectionFailure:
        raise
    except (psycopg.ProgrammingError, psycopg.DataError, psycopg.NotSupportedError) as error:
        raise BadInput(f"{made.function} was not made: {first_line(error)}") from error


@dataclass(frozen=True, slots=True)
class _Asked:
    collection: Collection
    mapping: Mapping
    arguments: Sequence[Taken]
    columns: Sequence[Given]
    tenant: str  # SQL, over the arguments
    home: str | None
    spare: int

    def search(self, function: sql.Identifier) -> sql.Composed:
        rows = [each for each in self.columns if each.expression is not None]
        return SQL.search.format(
            function=function,
            arguments=_listed(each.declared for each in self.arguments),
            columns=_listed(
                sql.SQL("{} {}").format(sql.Identifier(c.name), raw(c.type)) for c in self.columns
            ),
            results=_listed(map(_result, self.columns)),
            tenant=raw(self.tenant),
            collection=sql.Literal(self.collection.name),
            source=sql.Literal(self.mapping.table),
            query=self._argument(Means.QUERY, "{it}::{vector}"),
            threshold=self._argument(Means.THRESHOLD, "{it}::double precision"),
            count=self._argument(Means.COUNT, "{it}"),
            most=self._argument(Means.COUNT, f"least({{it}} * {self.spare}::bigint, {MOST})::integer"),
            space=self._argument(Means.SPACE, "{it}::text"),
            home=sql.Literal(self.home),
            row=_listed(
                [sql.SQL("({}) AS {}").format(raw(c.expression or ""), sql.Identifier(c.name)) for c in rows]
                or [sql.SQL("1 AS nothing")]
            ),
            table=self.mapping.relation,
            is_hit=self.mapping.is_row_of(sql.SQL("revec_hit.key")),
            filter=raw(self.mapping.filter),
            row_tenant=raw(self.mapping.tenant),
            nobody=sql.Literal(DEFAULT_TENANT),
        )

    def model(self, function: sql.Identifier) -> sql.Composed:
        """It takes the tenant where the search does, and nothing else."""
        whose = [each for each in self.arguments if each.means is Means.TENANT]
        return SQL.model.format(
            function=function,
            arguments=_listed(each.declared for each in whose),
            collection=sql.Literal(self.collection.name),
            tenant=sql.SQL("$1") if whose else raw(self.tenant),
        )

    def _argument(self, means: Means, written: str) -> sql.Composable:
        """NULL where nothing means that."""
        for place, each in enumerate(self.arguments, 1):
            if each.means is means:
                return raw(written.format(it=f"${place}", vector=_vector(each.type)))
        return NOTHING


def _vector(type_name: str) -> str:
    """A halfvec is handed on as a vector, of the same extension."""
    return type_name.removesuffix("halfvec") + "vector" if type_name.endswith("halfvec") else type_name


def _result(column: Given) -> sql.Composable:
    if column.expression is None:
        return raw(f"revec_hit.score::{column.type}")
    return sql.SQL("revec_row.{}::{}").format(sql.Identifier(column.name), raw(column.type))


def _listed(parts: Any) -> sql.Composed:
    return sql.SQL(", ").join(parts)


async def _table(conn: Connection, collection: Collection, said: Said) -> Mapping:
    """The source whose rows come back, as the catalog knows it now."""
    tables = {
        each.name: Mapping.load(each.mapping)
        for each in await collections.sources(conn, collection.id)
        if each.mapping is not None
    }
    if not tables:
        raise Refused(
            f"{collection.name} has no table whose rows a function could return, its documents are pushed: "
            f"`revec client {collection.name}` shows how it is asked over HTTP"
        )
    if said.source is None and len(tables) > 1:
        raise BadInput(
            f"{collection.name} has several tables: say --source, one of {', '.join(sorted(tables))}"
        )
    name = said.source or next(iter(tables))
    if name not in tables:
        raise BadInput(
            f"{collection.name} has no table {name!r}: --source is one of {', '.join(sorted(tables))}"
        )
    return await checked(conn, tables[name])


async def _serving(conn: Connection, collection: Collection) -> Arm:
    serving = (await indexes.route_of(conn, collection.id)).serving
    if serving is None:
        raise Refused(f"nothing serves {collection.name} yet: run `revec worker`, then this again")
    index = await indexes.by_id(conn, serving)
    if not index.place.is_here:
        raise Refused(
            f"the vectors of {index.name} lie elsewhere, where SQL cannot look: "
            f"`revec client {collection.name}` shows how it is asked over HTTP"
        )
    return next(arm for arm in await callers.arms(conn, collection.id) if arm.index_id == serving)


def _require_space(collection: Collection, arms: Sequence[Arm], arguments: Sequence[Taken]) -> None:
    if any(each.means is Means.SPACE for each in arguments):
        return
    for one, other in combinations(arms, 2):
        if one.dims == other.dims and one.space_id != other.space_id:
            raise Refused(
                f"{collection.name} is searched in {one} and {other}: vectors of one size are told apart by "
                "their space alone, add --space NAME, and have the application say it"
            )


async def _tenant(
    conn: Connection, collection: Collection, mapping: Mapping, said: str | None, arguments: Sequence[Taken]
) -> str:
    """SQL that says whose documents the caller sees."""
    for place, each in enumerate(arguments, 1):
        if each.means is Means.TENANT:
            return f"${place}"
    if said is not None:
        return said
    if mapping.tenant == f"'{DEFAULT_TENANT}'":
        return mapping.tenant
    rules = await callers.row_security(conn, mapping.table)
    hint = f" (row security of the table says {rules.policy})" if rules and rules.policy else ""
    raise BadInput(
        f"documents of {collection.name} have tenants, by {mapping.tenant}{hint}: say whose the caller sees, "
        "by --tenant ARGUMENT, or by SQL as --tenant \"current_setting('app.tenant')\""
    )


async def _columns(conn: Connection, mapping: Mapping) -> list[str]:
    rows = await conn.execute(sql.SQL("SELECT * FROM {} LIMIT 0").format(mapping.relation))
    return [column.name for column in rows.description or ()]


def _usual(said: Said, like: Function | None, mapping: Mapping) -> Said:
    """Where nobody says what comes back: the key and how similar."""
    if said.returns or like:
        return said
    return replace(said, returns=[*mapping.key, "similarity"])


def _named(said: Said, like: Function | None, mapping: Mapping, collection: Collection) -> tuple[str, str]:
    schema = like.schema if like else mapping.path[0]
    if said.function is None:
        return (schema, like.name) if like else (schema, f"match_{collection.name.replace('-', '_')}")
    first, dot, second = said.function.partition(".")
    return (first, second) if dot else (schema, first)


def _require_same_columns(identity: str, stands: Function | None, columns: Sequence[Given]) -> None:
    if stands is None:
        return
    there = [(each.name, each.type.shown) for each in stands.outputs]
    if not stands.is_set or there != [(each.name, each.type) for each in columns]:
        shown = ", ".join(f"{name} {kind}" for name, kind in there)
        raise Refused(
            f"{identity} is there already and returns ({shown}): say --like {stands.shown} to keep its "
            f"columns, another --function, or run DROP FUNCTION {stands.shown} first"
        )


def _notes(identity: str, like: Function | None, stands: Function | None) -> list[str]:
    notes = []
    if like and like.definer:
        notes.append(
            f"{like.shown} runs as its owner, {identity} as whoever calls it, who needs SELECT on the table "
            "and sees what its row security shows to him"
        )
    if like and not like.is_ours and (stands is None or stands.shown != like.shown):
        notes.append(
            f"{like.shown} stays beside it, and knows no other space: run DROP FUNCTION {like.shown} "
            "once nobody calls it"
        )
    return notes
