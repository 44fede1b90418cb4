"""What each index answered, told second by second to whoever guards a migration; never on a request's way.

Counts are whole, times are a bounded sample. The first search after a pause starts one task that waits,
writes and ends. What cannot be written is counted with the next second.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import psycopg

from revec.model.errors import (
    InputRefused,
    MissingExtra,
    ProviderError,
    ProviderUnavailable,
    RevecError,
    StoreUnavailable,
    Trouble,
)
from revec.model.index import Index
from revec.model.reading import How, Reading
from revec.postgres import traffic
from revec.postgres.database import DATABASE_TROUBLE, Database, is_gone
from revec.postgres.traffic import Second

FLUSH_EVERY = 1.0  # seconds
PATIENCE = 2.0  # seconds for the write
MOST = 1_000  # pairs of index and epoch that wait to be written


class Traffic:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._seconds: dict[tuple[int, int], Second] = {}  # by index and epoch
        self._flushing: asyncio.Task[None] | None = None

    def note(self, index: Index, epoch: int, how: How, seconds: float) -> None:
        """A search, also one whose answer no user saw. Costs microseconds, raises nothing."""
        place = (index.id, epoch)
        if place in self._seconds or len(self._seconds) < MOST:
            self._seconds.setdefault(place, Second(*place)).add(how, 1000 * seconds)
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._flush())

    async def close(self) -> None:
        """A command that searches once is no traffic."""
        if self._flushing is not None:
            self._flushing.cancel()
            with suppress(asyncio.CancelledError):
                await self._flushing

    async def _flush(self) -> None:
        while self._seconds:
            await asyncio.sleep(FLUSH_EVERY)
            seconds, self._seconds = self._seconds, {}
            try:
                async with asyncio.timeout(PATIENCE), self._database.transaction("worker") as conn:
                    await traffic.put(conn, list(seconds.values()))
            except (*DATABASE_TROUBLE, psycopg.Error, TimeoutError, MemoryError):
                for place, second in seconds.items():
                    self._seconds.setdefault(place, Second(*place)).join(second)


def of_reading(reading: Reading) -> How:
    if reading.degraded:  # the words answered, and the model did not
        return How.FAILED
    return How.ANSWERED if reading.hits or reading.threshold is not None else How.EMPTY


def of_error(error: BaseException, *, late: bool) -> How | None:
    """None where it says nothing about the index: the caller's own mistake, or a database that is gone.

    `late`: so much time had passed that who cancelled it had given up.
    """
    match error:
        case asyncio.CancelledError():
            return How.LATE if late else None
        case ProviderUnavailable(trouble=Trouble.TIMEOUT) | TimeoutError() | psycopg.errors.QueryCanceled():
            return How.LATE
        case ProviderError() | MissingExtra() | StoreUnavailable() if not isinstance(error, InputRefused):
            return How.FAILED
        case psycopg.Error():
            return None if is_gone(error) else How.FAILED
        case RevecError():
            return None
    return None if isinstance(error, DATABASE_TROUBLE) else How.FAILED
