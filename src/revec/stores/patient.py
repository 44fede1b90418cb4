"""A store elsewhere, with a time limit around every call, and left alone for a while when it failed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar
from uuid import UUID

from revec.model.errors import NotFound, StoreUnavailable
from revec.stores.base import Vector
from revec.stores.points import Near, Point, Points

REST = (1.0, 60.0)  # seconds that a store rests after a failure: the first time, at most

Answer = TypeVar("Answer")


@dataclass(slots=True)
class Patient:
    """`reading`: seconds that a search may take; `writing`: any other call, for which no user waits."""

    name: str
    points: Points
    reading: float
    writing: float
    _failures: int = field(default=0, init=False)
    _until: float = field(default=0.0, init=False)

    @property
    def most(self) -> int:
        return self.points.most

    @property
    def rests(self) -> bool:
        return time.monotonic() < self._until

    async def facts(self) -> str:
        return await self._asked(self.points.facts(), self.writing)

    async def create(self, place: str, dims: int) -> None:
        await self._asked(self.points.create(place, dims), self.writing)

    async def drop(self, place: str) -> None:
        await self._asked(self.points.drop(place), self.writing)

    async def put(self, place: str, points: Sequence[Point]) -> None:
        await self._asked(self.points.put(place, points), self.writing)

    async def delete(self, place: str, ids: Sequence[UUID]) -> None:
        await self._asked(self.points.delete(place, ids), self.writing)

    async def fetch(self, place: str, ids: Sequence[UUID]) -> dict[UUID, Vector]:
        return await self._asked(self.points.fetch(place, ids), self.writing)

    async def nearest(self, place: str, query: Vector, *, limit: int, tenant: str | None) -> Near:
        """Somebody waits for it: one that rests is not asked."""
        if self.rests:
            raise StoreUnavailable(f"{self.name} failed a moment ago, and is left alone for a while")
        asking = self.points.nearest(place, query, limit=limit, tenant=tenant)
        return await self._asked(asking, self.reading)

    async def page(self, place: str, after: str, limit: int) -> tuple[list[UUID], str | None]:
        return await self._asked(self.points.page(place, after, limit), self.writing)

    async def count(self, place: str) -> int:
        return await self._asked(self.points.count(place), self.writing)

    async def close(self) -> None:
        await self.points.close()

    def rest(self) -> None:
        """It failed: searches leave it alone for a while, the longer the oftener it fails."""
        first, longest = REST
        self._until = time.monotonic() + min(first * 2**self._failures, longest)
        self._failures += 1

    async def _asked(self, asking: Awaitable[Answer], seconds: float) -> Answer:
        try:
            async with asyncio.timeout(seconds):
                answer = await asking
        except TimeoutError as error:
            self.rest()
            raise StoreUnavailable(f"{self.name} did not answer within {seconds:g} s") from error
        except NotFound:
            raise
        except StoreUnavailable:
            self.rest()
            raise
        except Exception as error:  # whatever an engine stumbles over: no worker ends by it
            self.rest()
            raise StoreUnavailable(
                f"{self.name} answered what we cannot use ({type(error).__name__})"
            ) from error
        self._failures = 0
        self._until = 0.0
        return answer
