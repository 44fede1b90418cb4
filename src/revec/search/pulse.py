"""How long searches take, told to the workers' brake every two seconds, never on a request's way.

A bounded sample of each collection. The first search after a pause starts one task that waits, writes and
ends; whatever goes wrong there is forgotten together with the sample.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from dataclasses import dataclass, field

from revec.postgres import pulses
from revec.postgres.database import Database

FLUSH_EVERY = 2.0  # seconds
PATIENCE = 2.0  # seconds for the write
SAMPLE = 100  # times of a collection between two flushes
COLLECTIONS = 1_000


@dataclass(slots=True)
class _Sample:
    """Each of `n` times is equally likely to be among them (Vitter's algorithm R)."""

    n: int = 0
    ms: list[float] = field(default_factory=list)

    def add(self, ms: float) -> None:
        self.n += 1
        if len(self.ms) < SAMPLE:
            self.ms.append(ms)
        elif (place := random.randrange(self.n)) < SAMPLE:  # noqa: S311 - chance, no secret
            self.ms[place] = ms


class Pulse:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._samples: dict[str, _Sample] = {}
        self._flushing: asyncio.Task[None] | None = None

    def note(self, collection: str, seconds: float) -> None:
        """A search of this collection took so long; costs microseconds, raises nothing."""
        if collection in self._samples or len(self._samples) < COLLECTIONS:
            self._samples.setdefault(collection, _Sample()).add(1000 * seconds)
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._flush())

    async def close(self) -> None:
        """What was not flushed is forgotten: a command that searches once is no measure."""
        if self._flushing is not None:
            self._flushing.cancel()
            with suppress(asyncio.CancelledError):
                await self._flushing

    async def _flush(self) -> None:
        await asyncio.sleep(FLUSH_EVERY)
        samples, self._samples = self._samples, {}
        with suppress(Exception):  # a search is never worse off for it
            async with asyncio.timeout(PATIENCE), self._database.transaction("worker") as conn:
                for collection, sample in samples.items():
                    await pulses.put(conn, pulses.SEARCH, collection, sample.ms)
