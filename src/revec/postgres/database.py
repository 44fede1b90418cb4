"""Connections and transactions. Everything here works through a transaction-mode pooler.

No session state: roles, tenants and limits are set for the transaction, prepared statements are off
(PgBouncer before 1.21 breaks them), connections are otherwise in autocommit.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal, Self

import psycopg
from pgvector.psycopg import register_vector_async
from psycopg import AsyncConnection, IsolationLevel
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import namedtuple_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from revec.model.errors import BadInput, Unavailable

Connection = AsyncConnection[Any]  # rows are named tuples of what the query selects
Role = Literal["owner", "worker", "reader"]

MINIMUM_SERVER = 150_000
MINIMUM_VECTOR = (0, 8)
_NO_MEMORY = re.compile("out of memory|cannot allocate memory")  # libpq has no code for it
_TOO_LONG = (psycopg.errors.IdleInTransactionSessionTimeout, psycopg.errors.TransactionTimeout)
_NOT_HELD = (None, "22003", "22021", "22P05")  # None: the driver said so
DATABASE_TROUBLE = (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout)


class Database:
    """A pool on one database; `async with Database(dsn) as database`."""

    def __init__(
        self, dsn: str, *, connections: int = 8, patience: float = 30.0, called: str = "REVEC_DSN"
    ) -> None:
        self.dsn = dsn
        self._called = called
        self.two_layers = False  # known once the schema is there
        self._pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            dsn,
            connection_class=AsyncConnection[Any],
            kwargs={"autocommit": True, "prepare_threshold": None, "row_factory": namedtuple_row},
            min_size=0,
            max_size=connections,
            timeout=patience,
            configure=_configure,
            open=False,
        )

    async def __aenter__(self) -> Self:
        await check_server(self.dsn, self._called)
        await self._pool.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._pool.close()

    async def learn(self, *, fresh: bool = False) -> None:
        """Find out whether row security is a second layer here; needs the schema.

        `fresh`: the schema came just now, so older connections do not know its types.
        """
        if fresh:
            await self.renew()
        async with self._pool.connection() as conn:
            row = await (await conn.execute("SELECT two_layers FROM revec.installation")).fetchone()
            self.two_layers = bool(row and row.two_layers)

    async def renew(self) -> None:
        """Other connections in place of these: a client's buffers never shrink below the largest row."""
        await self._pool.drain()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[Connection]:
        """A connection beside the pool, which may be all in use."""
        async with await AsyncConnection.connect(
            self.dsn, autocommit=True, prepare_threshold=None, row_factory=namedtuple_row
        ) as conn:
            yield conn

    @asynccontextmanager
    async def transaction(
        self, role: Role = "owner", *, tenant: str | None = None
    ) -> AsyncIterator[Connection]:
        """One transaction in a role; a reader sees its tenant's rows and nothing else.

        Raises:
            MemoryError: also where it is the driver's own library that could not get any.
            ConnectionFailure: also where the server ended a transaction that took too long.
        """
        try:
            async with self._pool.connection() as conn, conn.transaction():
                if self.two_layers and role != "owner":
                    await conn.execute(
                        "SELECT set_config('role', %s, true) AS role,"
                        " set_config('revec.tenant', %s, true) AS tenant",
                        (f"revec_{role}", tenant or ""),
                    )
                yield conn
        except _TOO_LONG as error:  # the driver calls it an internal error; it is a lost connection
            raise psycopg.errors.ConnectionFailure(first_line(error)) from error
        except psycopg.Error as error:
            if error.sqlstate is None and _NO_MEMORY.search(str(error)):
                raise MemoryError(first_line(error)) from None
            raise


def role_of(tenant: str | None) -> Role:
    """Who asks for everybody's rows reads as the worker, who asks for one tenant's as its reader."""
    return "worker" if tenant is None else "reader"


@asynccontextmanager
async def reached(dsn: str, called: str = "REVEC_DSN") -> AsyncIterator[Connection]:
    """One connection, whatever the server is. `called`: where the connection string comes from.

    Raises:
        BadInput: that is no connection string.
        Unavailable: nobody answers there, or not to us.
    """
    try:
        conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        raise BadInput(  # without the text: it may hold a password
            f"{called} is no connection string: write postgresql://user@host:5432/database"
        ) from None
    try:
        conn = await AsyncConnection.connect(
            dsn, autocommit=True, prepare_threshold=None, row_factory=namedtuple_row
        )
    except psycopg.OperationalError as error:
        raise Unavailable(f"cannot reach the database: {first_line(error)}. Is {called} right?") from error
    async with conn:
        yield conn


async def check_server(dsn: str, called: str = "REVEC_DSN") -> None:
    """Refuse what Revec cannot run on, in a sentence.

    Raises:
        Unavailable: no connection, a server before 15, or no usable `vector` extension.
    """
    async with reached(dsn, called) as conn:
        row: Any = await (
            await conn.execute(
                "SELECT current_setting('server_version_num')::int AS server,"
                " current_database() AS name,"
                " (SELECT extversion FROM pg_extension WHERE extname = 'vector') AS installed,"
                " (SELECT default_version FROM pg_available_extensions WHERE name = 'vector')"
                " AS available"
            )
        ).fetchone()
    assert row is not None
    if row.server < MINIMUM_SERVER:
        raise Unavailable(
            f"database {row.name} runs Postgres {row.server // 10_000}; Revec needs 15 or newer"
        )
    version = row.installed or row.available
    if version is None:
        raise Unavailable(
            f"the server of database {row.name} has no extension `vector`: "
            "install pgvector 0.8 or newer on it"
        )
    if tuple(int(part) for part in version.split(".")[:2]) < MINIMUM_VECTOR:
        way_out = "run ALTER EXTENSION vector UPDATE" if row.installed else "update pgvector"
        raise Unavailable(f"pgvector {version} is too old, 0.8 is needed: {way_out}")


def is_gone(trouble: BaseException) -> bool:
    """The connection is lost; otherwise one statement was refused and may be tried again.

    A lock that others hold, a deadlock, a cancelled statement or a full disk have a SQLSTATE of
    their own; a lost connection has none, or one of class 08 or 57P.
    """
    state = getattr(trouble, "sqlstate", None)
    return state is None or state.startswith(("08", "57P"))


def is_of_what_was_sent(error: BaseException) -> bool:
    """A value that the database cannot hold: a character, which the driver or the server finds, or a number.

    Other errors of data, such as a division by zero, are a query's own.
    """
    return isinstance(error, psycopg.DataError) and error.sqlstate in _NOT_HELD


def first_line(error: BaseException) -> str:
    """An error's first line, without a trailing stop."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".")


async def _configure(conn: AsyncConnection[Any]) -> None:
    # Whatever the database's default is: a document's writer must see the indexes of this moment.
    await conn.set_isolation_level(IsolationLevel.READ_COMMITTED)
    await learn_types(conn)


async def learn_types(conn: AsyncConnection[Any]) -> None:
    """The types of vectors, as far as the database has them."""
    try:
        await register_vector_async(conn)
    except (psycopg.ProgrammingError, AttributeError):
        return  # before the extension is there
