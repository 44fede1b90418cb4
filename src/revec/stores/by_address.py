"""All stores as one: each index is answered by the store that it lives in."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any
from uuid import UUID

from revec.model.filter import Operator
from revec.model.index import Index
from revec.model.place import Place
from revec.model.space import Space
from revec.postgres.database import Connection, Database
from revec.postgres.queries import Statement
from revec.stores.base import Build, ChunkSet, Here, Located, Lost, Sample, Scored, Searching, Store, Vector


class ByAddress:
    filters = frozenset(Operator)  # every store has all of them: they are asked of the documents

    def __init__(self, here: Here, elsewhere: Store, column: Here) -> None:
        self._here = here
        self._elsewhere = elsewhere
        self._column = column

    def _of(self, index: Index) -> Store:
        return self._near(index) if index.place.is_here else self._elsewhere

    def _near(self, index: Index) -> Here:
        """In this database: in a table of ours, or in a column of a user's."""
        return self._here if index.column is None else self._column

    async def prepare(self, place: Place, dims: int) -> None:
        await (self._here if place.is_here else self._elsewhere).prepare(place, dims)

    async def create(self, conn: Connection, index: Index) -> None:
        await self._of(index).create(conn, index)

    async def clear(self, index: Index) -> None:
        await self._of(index).clear(index)

    async def drop(self, conn: Connection, index: Index) -> None:
        await self._of(index).drop(conn, index)

    async def stage(self, index: Index, sets: Sequence[ChunkSet]) -> Sequence[ChunkSet]:
        return await self._of(index).stage(index, sets)

    async def replace(self, conn: Connection, index: Index, sets: Sequence[ChunkSet]) -> set[int]:
        return await self._of(index).replace(conn, index, sets)

    async def abandon(self, index: Index, sets: Sequence[ChunkSet]) -> None:
        await self._of(index).abandon(index, sets)

    async def remove(self, conn: Connection, index: Index, doc_ids: Sequence[int]) -> None:
        await self._of(index).remove(conn, index, doc_ids)

    async def known(
        self, conn: Connection, space: Space, text_hashes: Sequence[bytes]
    ) -> dict[bytes, Vector]:
        return await self._here.known(conn, space, text_hashes)

    async def located(self, conn: Connection, space: Space, text_hashes: Sequence[bytes]) -> Located:
        return await self._elsewhere.located(conn, space, text_hashes)

    async def fetched(self, located: Located) -> dict[bytes, Vector]:
        return await self._elsewhere.fetched(located)

    async def ahead(self, index: Index, queries: Sequence[Vector], **asked: Any) -> Searching:
        if index.place.is_here:
            return self
        return await self._elsewhere.ahead(index, queries, **asked)

    async def nearest(self, conn: Connection, index: Index, query: Vector, **asked: Any) -> Scored:
        return await self._near(index).nearest(conn, index, query, **asked)

    async def exact(self, conn: Connection, index: Index, query: Vector, **asked: Any) -> Scored:
        return await self._near(index).exact(conn, index, query, **asked)

    def statement(self, index: Index, query: Vector, **asked: Any) -> Statement | None:
        return self._near(index).statement(index, query, **asked)

    async def vectors(
        self, database: Database, index: Index, doc_ids: Sequence[int], *, tenant: str | None
    ) -> dict[int, list[Vector]]:
        return await self._of(index).vectors(database, index, doc_ids, tenant=tenant)

    async def sample(self, database: Database, index: Index, size: int) -> Sample:
        return await self._of(index).sample(database, index, size)

    async def lost(self, index: Index, after: UUID | None = None) -> Lost:
        return await self._of(index).lost(index, after)

    async def strays(self, index: Index, *, bury: bool) -> int:
        return await self._of(index).strays(index, bury=bury)

    def rests(self, index: Index) -> bool:
        return self._of(index).rests(index)

    async def build(self, conn: Connection, index: Index) -> None:
        await self._of(index).build(conn, index)

    async def built(self, conn: Connection, index: Index) -> Build:
        return await self._of(index).built(conn, index)

    async def bytes_stored(self, conn: Connection, index: Index) -> int:
        return await self._of(index).bytes_stored(conn, index)

    async def is_ready(self, conn: Connection, index: Index, *, tenant: str | None) -> bool:
        return await self._near(index).is_ready(conn, index, tenant=tenant)

    async def scored(
        self,
        conn: Connection,
        index: Index,
        query: Vector,
        doc_ids: Collection[int],
        *,
        tenant: str | None,
    ) -> Scored:
        return await self._near(index).scored(conn, index, query, doc_ids, tenant=tenant)

    async def some(self, conn: Connection, index: Index, size: int) -> list[int]:
        return await self._near(index).some(conn, index, size)
