"""One index at a store elsewhere: its table here and its points there."""

from __future__ import annotations

from collections.abc import Awaitable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

import psycopg
from psycopg import sql

from revec.model.errors import NotFound, StoreLost
from revec.model.index import Index
from revec.postgres.database import Connection, Database
from revec.postgres.queries import beside
from revec.stores.base import Vector
from revec.stores.patient import Patient
from revec.stores.points import Point

SQL = beside(__file__)
BLOCK = 500  # vectors that travel together

Item = TypeVar("Item")
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Placed:
    database: Database
    store: Patient
    index: Index

    @property
    def table(self) -> sql.Identifier:
        return sql.Identifier("revec", f"vectors_{self.index.id}")

    async def put(self, points: Sequence[Point]) -> None:
        for some in slices(points, self.store.most):
            await self.there(self.store.put(self.index.place.name, some))

    async def fetched(self, points: Sequence[UUID]) -> dict[UUID, Vector]:
        """Those of them that the store has."""
        found: dict[UUID, Vector] = {}
        for some in slices(points, BLOCK):
            found |= await self.there(self.store.fetch(self.index.place.name, some))
        return found

    async def rows(
        self, conn: Connection, query: sql.SQL, parameters: dict[str, Any], **parts: Any
    ) -> list[Any]:
        """What a query says of the table here.

        Raises:
            NotFound: the index was dropped meanwhile.
        """
        try:
            found = await conn.execute(query.format(vectors=self.table, **parts), parameters)
        except psycopg.errors.UndefinedTable as error:
            raise self.dropped() from error
        return await found.fetchall()

    async def there(self, asking: Awaitable[Answer]) -> Answer:
        """What the store says.

        Raises:
            NotFound: the index was dropped, here too.
            StoreUnavailable: it does not answer.
            StoreLost: it alone has lost the index.
        """
        try:
            return await asking
        except NotFound as error:
            async with self.database.transaction() as conn:
                asked = await conn.execute(SQL.there_is, {"vectors": f"revec.vectors_{self.index.id}"})
                row = await asked.fetchone()
            assert row is not None
            if not row.there_is:
                raise self.dropped() from error
            raise StoreLost(
                f"{self.store.name} has lost {self.index.place.name}, which {self.index.name} lives in: "
                "restore it there, or start a migration to another store"
            ) from error

    def dropped(self) -> NotFound:
        return NotFound(f"index {self.index.name} was dropped meanwhile")


def slices(items: Sequence[Item], most: int) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), most):
        yield items[start : start + most]
