"""The port of every store elsewhere: points over a network. What they are of, this database knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from revec.stores.base import Vector


@dataclass(frozen=True, slots=True)
class Point:
    """`vector`: shape (dims,), float16."""

    id: UUID
    tenant: str
    vector: Vector


Near = list[tuple[UUID, float]]  # (point, cosine similarity), best first


class Points(Protocol):
    """One store; `place` names a collection of points in it.

    When a call returns, it is done: what was put is found, what was deleted is not.

    Raises:
        NotFound: there is no such place.
        StoreUnavailable: it cannot be reached, refuses us, or fails.
    """

    most: int  # points in one call

    async def facts(self) -> str:
        """What it says it is, as a person would say it: "Chroma 1.0.0"."""

    async def create(self, place: str, dims: int) -> None:
        """Nothing where there is one already."""

    async def drop(self, place: str) -> None:
        """Nothing where there is none."""

    async def put(self, place: str, points: Sequence[Point]) -> None: ...

    async def delete(self, place: str, ids: Sequence[UUID]) -> None:
        """Those that there are."""

    async def fetch(self, place: str, ids: Sequence[UUID]) -> dict[UUID, Vector]:
        """Those that there are, float32."""

    async def nearest(self, place: str, query: Vector, *, limit: int, tenant: str | None) -> Near:
        """Fewer than `limit` only where the tenant (None: everybody) has no more."""

    async def page(self, place: str, after: str, limit: int) -> tuple[list[UUID], str | None]:
        """Ids from a place in some steady order on ('' is its beginning), and where the next page begins.

        What is deleted meanwhile may hide another one from this walk, never from all walks.
        """

    async def count(self, place: str) -> int: ...

    async def close(self) -> None: ...
