"""Attach a user's table to a collection: check it, install the triggers, read it from the first row."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from typing import Any

import psycopg
from psycopg import sql

from revec.capture.mapping import KEY_TYPES, Mapping
from revec.model.errors import BadInput, Unavailable
from revec.model.index import Collection
from revec.postgres import collections
from revec.postgres.database import Connection, Database, first_line
from revec.postgres.queries import beside

SQL = beside(__file__)
LOCK_TRIES = 8


async def attach(database: Database, collection: Collection, mapping: Mapping) -> int:
    """The source's id; safe to run twice, also with a changed mapping.

    Raises:
        BadInput: the table, its key or an expression cannot serve; the sentence says what would.
        Unavailable: the table stayed locked by others.
    """
    async with database.transaction() as conn:
        mapping = await checked(conn, mapping)
    for attempt in range(LOCK_TRIES):
        try:
            async with database.transaction() as conn:
                await conn.execute(SQL.lock_timeout)
                names = {"collection": collection.id, "name": mapping.table}
                faulted = await (await conn.execute(SQL.faulted, names)).fetchone()
                source_id = await collections.add_source(
                    conn,
                    collection,
                    mapping.table,
                    mapping=mapping.stored,
                    trigger_of=mapping.table,
                )
                whole = await _install(conn, source_id, mapping)
                if faulted or not whole:
                    await conn.execute(SQL.read_again, {"source": source_id})
                return source_id
        except psycopg.errors.InsufficientPrivilege as error:
            raise BadInput(f"this login may not capture {mapping.table}: {first_line(error)}") from error
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            await asyncio.sleep(random.uniform(0.2, 0.5) * (attempt + 1))  # noqa: S311 - jitter
    raise Unavailable(
        f"{mapping.table} stayed locked for {LOCK_TRIES} tries of 2 s: "
        "wait for the long transaction on it to end, then run `revec init` again"
    )


async def checked(conn: Connection, mapping: Mapping) -> Mapping:
    """The mapping with what the catalog knows, or a sentence about what stands in the way."""
    table = {"table": mapping.table}
    relation = await _relation(conn, mapping)
    mapping = replace(mapping, path=(relation.schema, relation.name))
    if relation.rows_hidden:
        raise BadInput(
            f"row security hides rows of {relation.shown} from this login, which would take "
            "what it cannot see for deleted: ALTER ROLE … BYPASSRLS for it, or connect as the "
            "table's owner"
        )
    columns = {row.name: row for row in await (await conn.execute(SQL.columns, table)).fetchall()}
    mapping = await _keyed(conn, mapping, columns)
    if unknown := [name for name in mapping.metadata if name not in columns]:
        raise BadInput(f"{mapping.table} has no column {unknown[0]!r} to keep as metadata")
    if mapping.vector is not None:
        mapping = replace(mapping, vector_hash=await _hashed(conn, mapping))
    try:
        async with conn.transaction():
            await conn.execute(mapping.page(), {"after": None, "limit": 0})
    except psycopg.Error as error:
        raise BadInput(
            f"the expressions for {mapping.table} in revec.toml do not run: {first_line(error)}"
        ) from error
    return mapping


async def _relation(conn: Connection, mapping: Mapping) -> Any:
    table = {"table": mapping.table}
    try:
        async with conn.transaction():
            relation = await (await conn.execute(SQL.relation, table)).fetchone()
    except psycopg.DataError:  # not a name at all
        relation = None
    if relation is None:
        raise BadInput(
            f"there is no table {mapping.table} that this login can see: "
            "write it as schema.table in revec.toml"
        )
    if not relation.is_table:
        raise BadInput(f"{mapping.table} is no table (a view has no changes to capture)")
    if relation.schema == "revec":
        raise BadInput(f"{mapping.table} is Revec's own: name a table of yours, as schema.table")
    if relation.has_children:
        raise BadInput(
            f"{mapping.table} has child tables by INHERITS, whose writes its triggers do not see: "
            "name each of them as a source, or make it a partitioned table"
        )
    lacking = await (await conn.execute(SQL.lacking, {"oid": relation.oid})).fetchall()
    if lacking:
        who = await (await conn.execute("SELECT quote_ident(current_user) AS name")).fetchone()
        assert who is not None
        grants = " ".join(f"GRANT {row.privilege} ON {row.object} TO {who.name};" for row in lacking)
        raise BadInput(f"this login lacks rights on {mapping.table}; let its owner run: {grants}")
    return relation


async def _keyed(conn: Connection, mapping: Mapping, columns: dict[str, Any]) -> Mapping:
    rows = await (await conn.execute(SQL.unique_keys, {"table": mapping.table})).fetchall()
    keys = [tuple(row.columns) for row in rows]
    if not keys:
        raise BadInput(
            f"{mapping.table} has no primary key and no unique index, so its rows have no identity: "
            f"ALTER TABLE {mapping.table} ADD PRIMARY KEY (…)"
        )
    key = mapping.key or keys[0]
    if sorted(key) not in [sorted(each) for each in keys]:
        raise BadInput(
            f"no unique index of {mapping.table} covers exactly ({', '.join(key)}): "
            f"use {' or '.join('(' + ', '.join(each) + ')' for each in keys)} as its key"
        )
    for name in key:
        if columns[name].type not in KEY_TYPES:
            raise BadInput(
                f"column {name} of {mapping.table} is {columns[name].type}; a key may be "
                f"{', '.join(sorted(KEY_TYPES))}"
            )
        if not columns[name].filled:
            raise BadInput(
                f"column {name} of {mapping.table} may be NULL, so it is no identity: "
                f"ALTER TABLE {mapping.table} ALTER COLUMN {name} SET NOT NULL"
            )
    return replace(mapping, key=key, key_types=tuple(columns[name].type for name in key))


async def _hashed(conn: Connection, mapping: Mapping) -> str:
    """What of the adopted column is compared, to see that it changed.

    Raises:
        BadInput: it holds no vectors.
    """
    asked = {"table": mapping.table, "vector": mapping.vector}
    found = await (await conn.execute(SQL.vector, asked)).fetchone()
    if found is None:
        raise BadInput(
            f"{mapping.table} has no column {mapping.vector!r} of type vector or halfvec: "
            "`revec init --adopt` lists what there is"
        )
    return str(found.hashed)


async def _install(conn: Connection, source_id: int, mapping: Mapping) -> bool:
    """Function and triggers; whether they were all there before, so that no write was missed."""
    function = sql.Identifier("revec", f"capture_{source_id}")
    by_us: sql.Composable = sql.SQL("NULL")  # nothing to leave out
    if mapping.vector is not None:
        by_us = SQL.by_us.format(vector=sql.Literal(mapping.vector))
    await conn.execute(
        SQL.function.format(
            function=function,
            by_us=by_us,
            source=sql.Literal(source_id),
            old_key=mapping.key_of("OLD"),
            new_key=mapping.key_of("NEW"),
        )
    )
    captured = {"table": mapping.table, "source": source_id}
    before = await (await conn.execute(SQL.captured, captured)).fetchone()
    rows, emptied = (sql.Identifier(f"revec_{source_id}_{what}") for what in ("rows", "truncate"))
    table = mapping.relation
    await conn.execute(SQL.row_trigger.format(trigger=rows, table=table, function=function))
    # Row triggers are cloned to partitions, also to later ones; a truncate trigger is not.
    parts = await (await conn.execute(SQL.partitions, {"table": mapping.table})).fetchall()
    leaves = [sql.Identifier(row.schema, row.name) for row in parts]
    for each in {part.as_string(): part for part in [table, *leaves]}.values():
        await conn.execute(SQL.truncate_trigger.format(trigger=emptied, table=each, function=function))
    return bool(before and before.whole)


async def missing(conn: Connection, collection_id: int) -> list[str]:
    """Sources whose triggers are gone or switched off."""
    rows = await conn.execute(SQL.missing_triggers, {"collection": collection_id})
    return [row.name for row in await rows.fetchall()]
