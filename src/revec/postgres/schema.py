"""Our own tables: numbered plain SQL files with checksums, applied in order under one lock."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import psycopg
from psycopg import sql

from revec.model.errors import Refused, Unavailable
from revec.postgres.database import Connection, Database, first_line
from revec.postgres.queries import beside

SQL = beside(__file__)
FOLDER = Path(__file__).with_name("schema")


@dataclass(frozen=True, slots=True)
class SchemaFile:
    name: str
    text: str

    @property
    def checksum(self) -> str:
        return sha256(self.text.encode()).hexdigest()


def files() -> list[SchemaFile]:
    return [SchemaFile(path.name, path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.sql"))]


def printed() -> str:
    """The whole schema as one script, for people who apply it with a tool of their own."""
    parts = ["BEGIN", SQL.lock_timeout.as_string(), SQL.ledger_schema.as_string(), SQL.ledger.as_string()]
    for file in files():
        parts.append(f"-- {file.name}\n{file.text.strip().rstrip(';')}")
        parts.append(
            "INSERT INTO revec.schema_file (name, checksum) "  # noqa: S608 - our own file names
            f"VALUES ('{file.name}', '{file.checksum}')"
        )
    return ";\n".join([*parts, "COMMIT;\n"])


async def applied(conn: Connection) -> dict[str, str]:
    """Name → checksum of the files that this database has; empty before the first."""
    exists = await (await conn.execute(SQL.exists)).fetchone()
    if exists is None or exists.ledger is None:
        return {}
    return {row.name: row.checksum for row in await (await conn.execute(SQL.applied)).fetchall()}


async def pending(conn: Connection) -> list[SchemaFile]:
    """The files that the database still lacks.

    Raises:
        Refused: a file differs from what was applied, or the database knows a newer one.
    """
    have, ours = await applied(conn), files()
    for file in ours:
        if have.get(file.name, file.checksum) != file.checksum:
            raise Refused(
                f"schema file {file.name} is not the one that was applied to this database: "
                "run the version of Revec that applied it, or a newer one"
            )
    if unknown := sorted(set(have) - {file.name for file in ours}):
        raise Refused(f"this database was written by a newer Revec ({unknown[-1]}): update Revec")
    return [file for file in ours if file.name not in have]


async def ready(database: Database, *, may_apply: bool) -> list[str]:
    """Bring the schema up to date where that was asked for; elsewhere say that it is not.

    Raises:
        Refused: files are pending and nobody asked to apply them.
    """
    async with database.transaction() as conn:
        lacking = await pending(conn)
    if lacking and not may_apply:
        raise Refused(
            "this database has not the tables of this version of Revec: `revec schema apply` makes them"
        )
    return await apply(database)


async def apply(database: Database) -> list[str]:
    """Bring the database up to date; several at once are one. Returns the files applied."""
    try:
        async with database.transaction() as conn:
            if not await pending(conn):
                names: list[str] = []
            else:
                await conn.execute(SQL.lock)
                names = [file.name for file in await pending(conn)]
                await conn.execute(SQL.lock_timeout)
                await _run(conn, names)
    except psycopg.errors.InsufficientPrivilege as error:
        raise Unavailable(
            f"this login may not create Revec's schema: {first_line(error)}. "
            "Let an owner run `revec schema print | psql`, or grant CREATE on the database "
            "(and have a superuser run CREATE EXTENSION vector)"
        ) from error
    except psycopg.errors.LockNotAvailable as error:
        raise Unavailable(
            "the schema is as it was: a long transaction, such as a dump, reads a table to be changed, "
            "and everybody would have waited behind us. Run `revec schema apply` again when it is over"
        ) from error
    await database.learn(fresh=bool(names))
    return names


async def _run(conn: Connection, names: list[str]) -> None:
    if not await applied(conn):
        await conn.execute(SQL.ledger_schema)
        await conn.execute(SQL.ledger)
    for file in files():
        if file.name in names:
            await conn.execute(sql.SQL(file.text))
            await conn.execute(SQL.record, {"name": file.name, "checksum": file.checksum})
