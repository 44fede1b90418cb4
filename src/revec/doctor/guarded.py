"""A transaction that can neither write nor take long, on a database that others work in."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg

from revec.doctor.base import Limits, NotLooked
from revec.postgres.database import Connection, first_line, is_gone
from revec.postgres.queries import beside

SQL = beside(__file__)
IDLE = 10.0  # seconds that we may hold a transaction open and do nothing, should we hang


@asynccontextmanager
async def guarded(conn: Connection, limits: Limits) -> AsyncIterator[None]:
    """One read-only transaction with an end to each statement and to each wait for a lock.

    Raises:
        NotLooked: it ran into one of them, or the server refused; why, in a sentence.
    """
    try:
        async with conn.transaction():
            await conn.execute(SQL.read_only)
            await conn.execute(
                SQL.limits,
                {
                    "statement": _milliseconds(limits.statement),
                    "lock": _milliseconds(limits.lock),
                    "idle": _milliseconds(IDLE),
                },
            )
            await conn.execute(SQL.types)
            yield
    except psycopg.errors.QueryCanceled:
        raise NotLooked(f"it takes longer than {limits.statement:g} s") from None
    except psycopg.errors.LockNotAvailable:
        raise NotLooked(f"others have locked it for longer than {limits.lock:g} s") from None
    except psycopg.errors.InsufficientPrivilege as error:
        raise NotLooked(f"this login may not: {first_line(error)}") from None
    except psycopg.Error as error:
        if is_gone(error):
            raise
        raise NotLooked(f"the server refuses: {first_line(error)}") from None


def _milliseconds(seconds: float) -> str:
    return f"{math.ceil(seconds * 1000)}ms"
