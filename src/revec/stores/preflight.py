"""Before anything is moved to a store: all that a migration does there, done with a small collection.

Each check ends in a sentence. What is made is removed again, also when a check fails.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from revec.model.errors import NotFound, RevecError, StoreUnavailable
from revec.model.place import Address, new_place
from revec.stores.base import Vector
from revec.stores.patient import Patient
from revec.stores.points import Point
from revec.stores.ranking import Ranking

if TYPE_CHECKING:
    from numpy.typing import NDArray

POINTS, QUERIES, NEAREST = 400, 40, 10
TENANTS = ("one", "other")
CLOSE = 2e-3  # of a cosine similarity: stores keep float32, we float16
FOUND = 0.97  # of the nearest, also in the recall gate
PAGE = 150


class Wrong(Exception):
    """The store does not do as a store must; the sentence says what."""


@dataclass(frozen=True, slots=True)
class Finding:
    check: str
    passed: bool
    why: str


@dataclass(slots=True)
class Preflight:
    """One go at one store. `dims`: of the vectors that are to be moved there."""

    store: Patient
    address: Address
    dims: int
    findings: list[Finding] = field(default_factory=list)
    _place: str = ""
    _points: dict[UUID, Point] = field(default_factory=dict)

    async def run(self) -> list[Finding]:
        self.store = replace(self.store, reading=self.store.writing)  # no user waits for these searches
        self._place = new_place(self.store.name).name
        await self._check("transport", self._transport)
        if not await self._check("reach and key", self._reached):
            return self.findings
        try:
            if await self._check(f"a collection of {self.dims} dims", self._created):
                for name, check in (
                    ("put and fetch", self._kept),
                    ("metric", self._metric),
                    ("tenants", self._tenants),
                    ("deletions", self._deletions),
                    ("walk", self._walk),
                    ("latency", self._latency),
                ):
                    await self._check(name, check)
        finally:
            with suppress(RevecError):
                await self.store.drop(self._place)
        await self._check("drop", self._dropped)
        return self.findings

    async def _check(self, name: str, check: Callable[[], Awaitable[str]]) -> bool:
        try:
            said, passed = await check(), True
        except (Wrong, RevecError) as error:
            said, passed = str(error), False
        self.findings.append(Finding(name, passed, said))
        return passed

    async def _transport(self) -> str:
        return "on this machine, without TLS" if self.address.is_safe else "by TLS"

    async def _reached(self) -> str:
        began = time.perf_counter()
        facts = await self.store.facts()
        return f"{facts} answers in {1000 * (time.perf_counter() - began):.0f} ms"

    async def _created(self) -> str:
        for _ in range(2):
            await self.store.create(self._place, self.dims)
        if found := await self.store.count(self._place):
            raise Wrong(f"a new collection has {found:,} points")
        return "is made, and asking for it again does no harm"

    async def _kept(self) -> str:
        for number, vector in enumerate(_vectors(POINTS, self.dims, seed=0)):
            point = Point(uuid4(), TENANTS[number % 2], vector)
            self._points[point.id] = point
        for _ in range(2):
            await self.store.put(self._place, [*self._points.values()])
        found = await self.store.fetch(self._place, [*self._points, uuid4()])
        if found.keys() != self._points.keys():
            raise Wrong(f"of {POINTS} points that were put {len(found)} were given back")
        worst = min(_cosine(found[each.id], each.vector) for each in self._points.values())
        if worst < 1 - CLOSE:
            raise Wrong(f"a vector came back as another one (cosine {worst:.4f})")
        if (counted := await self.store.count(self._place)) != POINTS:
            raise Wrong(f"it counts {counted:,} points where there are {POINTS}")
        return f"{POINTS} points, the same twice, come back as they were"

    async def _metric(self) -> str:
        hits = sum([await self._hits(query, tenant=None) for query in _vectors(QUERIES, self.dims, seed=1)])
        share = hits / (QUERIES * NEAREST)
        if share < FOUND:
            raise Wrong(f"it finds {share:.1%} of the {NEAREST} nearest, {FOUND:.0%} are needed")
        return f"cosine; {share:.1%} of the {NEAREST} nearest of {POINTS} are found"

    async def _tenants(self) -> str:
        for tenant in TENANTS:
            for query in _vectors(3, self.dims, seed=2):
                await self._hits(query, tenant=tenant)
        stranger = await self.store.nearest(
            self._place, _vectors(1, self.dims, seed=3)[0], limit=5, tenant="nobody"
        )
        if stranger:
            raise Wrong("a tenant that has nothing is given somebody's points")
        return "a tenant is given its own points and all of them"

    async def _hits(self, query: Vector, *, tenant: str | None) -> int:
        """How many of the nearest are found."""
        mine = [each for each in self._points.values() if tenant in (None, each.tenant)]
        near = await self.store.nearest(self._place, query, limit=len(mine) + 5, tenant=tenant)
        scores = dict(near)
        if foreign := scores.keys() - {each.id for each in mine}:
            raise Wrong(f"a tenant is given {len(foreign)} points of another")
        ranking = Ranking([query], NEAREST)
        ranking.add([*range(len(mine))], [each.vector for each in mine])
        (best,) = ranking.best()
        found = {mine[number].id: score for number, score in best if mine[number].id in scores}
        if any(abs(scores[point_id] - score) > CLOSE for point_id, score in found.items()):
            raise Wrong("its scores are no cosine similarities")
        if [score for _, score in near] != sorted(scores.values(), reverse=True):
            raise Wrong("its answers are not in the order of their scores")
        return len(found.keys() & {point_id for point_id, _ in near[:NEAREST]})

    async def _deletions(self) -> str:
        gone = [*self._points][: POINTS // 2]
        for _ in range(2):
            await self.store.delete(self._place, gone)
        vectors = [self._points.pop(point_id).vector for point_id in gone]
        if await self.store.fetch(self._place, gone):
            raise Wrong("deleted points are still given back")
        for vector in vectors[:20]:
            near = await self.store.nearest(self._place, vector, limit=5, tenant=None)
            if {point_id for point_id, _ in near} & {*gone}:
                raise Wrong("deleted points are still found")
        return "are seen at once, and deleting again does no harm"

    async def _walk(self) -> str:
        seen: list[UUID] = []
        after: str | None = ""
        while after is not None:
            page, after = await self.store.page(self._place, after, PAGE)
            seen += page
        if len(seen) != len(set(seen)) or set(seen) != self._points.keys():
            raise Wrong(f"a walk meets {len(set(seen)):,} of {len(self._points):,} points")
        return f"page by page meets all {len(seen):,} points"

    async def _latency(self) -> str:
        seconds = []
        for query in _vectors(QUERIES, self.dims, seed=4):
            began = time.perf_counter()
            await self.store.nearest(self._place, query, limit=NEAREST, tenant=TENANTS[0])
            seconds.append(time.perf_counter() - began)
        seconds.sort()
        return (
            f"a search takes {1000 * seconds[len(seconds) // 2]:.1f} ms (p50), "
            f"{1000 * seconds[int(len(seconds) * 0.95)]:.1f} ms (p95)"
        )

    async def _dropped(self) -> str:
        try:
            left = await self.store.count(self._place)
        except NotFound:
            return "nothing of this check is left there"
        except StoreUnavailable as error:
            raise Wrong(f"{self._place} may be left there: {error}") from error
        raise Wrong(f"{self._place} is left there, with {left:,} points: remove it by hand")


def _vectors(rows: int, dims: int, *, seed: int) -> NDArray[Any]:
    """Unit vectors, shape (rows, dims), float16."""
    import numpy as np

    matrix = np.random.default_rng(seed).normal(size=(rows, dims))
    unit: NDArray[Any] = (matrix / np.linalg.norm(matrix, axis=1, keepdims=True)).astype(np.float16)
    return unit


def _cosine(one: Vector, other: Vector) -> float:
    a, b = one.astype("float64"), other.astype("float64")
    return float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))
