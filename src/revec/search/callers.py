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
from revec.postgres import callers, collections, indexes, migrations
from revec.postgres.callers import Destination, Function
from revec.postgres.database import Connection, Database, first_line
from revec.search.asked import Asked
from revec.search.signature import Means, Said, Taken, existing, given, taken

SPARE = 4  # times as many are looked for where row security of the table may hide some


@dataclass(frozen=True, slots=True)
class Made:
    """What is to be run, in its order, and what a person should know of it."""

    function: str  # schema.name(types)
    asks: str  # the same of the function beside it, that names the model
    statements: Sequence[sql.Composed]
    notes: Sequence[str]
    replaces: str | None  # the text of a function of theirs that stands there now

    @property
    def script(self) -> str:
        return ";\n\n".join(["BEGIN", *(each.as_string() for each in self.statements), "COMMIT;\n"])


async def make(conn: Connection, collection: Collection, said: Said) -> Made:
    """
    Raises:
        Refused: nothing serves that SQL could search, two spaces of equal dims are to be told apart, or a
            function stands there that it could not replace.
        BadInput: what was said does not fit the table, or leaves something open.
        NotFound: there is no such function.
    """
    mapping, serving = await _table(conn, collection, said), await _serving(conn, collection)
    like = await existing(conn, said.like) if said.like else None
    arguments = await taken(conn, said, like)
    await _require_space(conn, collection, arguments)
    columns = await _columns(conn, mapping)
    schema, name = _named(said, like, mapping, collection)
    rules = await callers.row_security(conn, mapping.table)
    asked = Asked(
        collection=collection,
        mapping=mapping,
        schema=schema,
        name=name,
        arguments=arguments,
        columns=await given(conn, _usual(said, like, mapping), like, columns, mapping.relation),
        tenant=_tenant(collection, mapping, said.tenant, arguments, rules),
        home=None if said.is_raw else serving.space_id,
        spare=SPARE if rules and rules.is_on else 1,
    )
    stands = await callers.function(conn, asked.identity)
    _require_same_columns(asked, stands)
    _require_free(await callers.function(conn, asked.model_identity))
    return Made(
        function=asked.identity,
        asks=asked.model_identity,
        statements=asked.statements,
        notes=_notes(asked.identity, like, stands),
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
                await conn.execute(statement)
    except psycopg.errors.ConnectionFailure:
        raise
    except (psycopg.ProgrammingError, psycopg.DataError, psycopg.NotSupportedError) as error:
        raise BadInput(f"{made.function} was not made: {first_line(error)}") from error


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


async def _serving(conn: Connection, collection: Collection) -> Destination:
    serving = (await indexes.route_of(conn, collection.id)).serving
    if serving is None:
        raise Refused(f"nothing serves {collection.name} yet: run `revec worker`, then this again")
    index = await indexes.by_id(conn, serving)
    if not index.place.is_here:
        raise Refused(
            f"the vectors of {index.name} lie elsewhere, where SQL cannot look: "
            f"`revec client {collection.name}` shows how it is asked over HTTP"
        )
    return next(
        destination
        for destination in await callers.destinations(conn, collection.id)
        if destination.index_id == serving
    )


async def _require_space(conn: Connection, collection: Collection, arguments: Sequence[Taken]) -> None:
    if any(each.means is Means.SPACE for each in arguments):
        return
    known = [
        (each.dims, each.space_id, str(each)) for each in await callers.destinations(conn, collection.id)
    ]
    for migration in await migrations.active(conn, collection.id):  # its index may be still to come
        space, _ = await migrations.recipe(conn, migration)
        known.append((space.dims, space.id, f"{space.address} ({space.dims} dims, to come)"))
    for (dims, one, shown), (other_dims, other, other_shown) in combinations(known, 2):
        if dims == other_dims and one != other:
            raise Refused(
                f"{collection.name} is searched in {shown} and {other_shown}: vectors of one size are told "
                "apart by their space alone, add --space NAME, and have the application say it"
            )


def _tenant(
    collection: Collection, mapping: Mapping, said: str | None, arguments: Sequence[Taken], rules: Any
) -> str:
    """SQL that says whose documents the caller sees."""
    for place, each in enumerate(arguments, 1):
        if each.means is Means.TENANT:
            return f"${place}"
    if said is not None:
        return said
    if mapping.tenant == f"'{DEFAULT_TENANT}'":
        return mapping.tenant
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


def _require_same_columns(asked: Asked, stands: Function | None) -> None:
    if stands is None:
        return
    there = [(each.name, each.type.shown) for each in stands.outputs]
    if not stands.is_set or there != [(each.name, each.type) for each in asked.columns]:
        shown = ", ".join(f"{name} {kind}" for name, kind in there)
        raise Refused(
            f"{asked.identity} is there already and returns ({shown}): say --like {stands.shown} to keep its "
            f"columns, another --function, or run DROP FUNCTION {stands.shown} first"
        )


def _require_free(stands: Function | None) -> None:
    if stands and not stands.is_ours:
        raise Refused(
            f"{stands.shown} is there already, and is not ours: its name is for the function that says by "
            "which model to embed; say another --function"
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
