"""The port of every vector store."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, Protocol

from pgvector import HalfVector

from revec.model.filter import Filter, Operator
from revec.model.index import Index
from revec.model.space import Space
from revec.postgres.database import Connection
from revec.postgres.queries import Statement

if TYPE_CHECKING:  # numpy comes with the models' extras: a door that only steers does not have it
    from numpy.typing import NDArray

    Vector = NDArray[Any]  # shape (dims,), float32 when asked, float16 as stored
else:
    Vector = Any


@dataclass(frozen=True, slots=True)
class ChunkSet:
    """All the chunks of one document, in their order; none where there is nothing to embed."""

    doc_id: int
    tenant: str
    input_hash: bytes
    text_hashes: Sequence[bytes]
    vectors: Sequence[Vector]


@dataclass(frozen=True, slots=True)
class Build:
    """How far the ANN index of an index is."""

    valid: bool
    running: bool


class Store(Protocol):
    """Calls that take a connection run in the caller's transaction."""

    filters: frozenset[Operator]  # what of a filter it can do; a search refuses the rest

    async def create(self, conn: Connection, index: Index) -> None: ...

    async def drop(self, conn: Connection, index: Index) -> None: ...

    async def replace(self, conn: Connection, index: Index, sets: Sequence[ChunkSet]) -> None:
        """Each document's chunk set becomes this one, whole."""

    async def remove(self, conn: Connection, index: Index, doc_ids: Sequence[int]) -> None: ...

    async def known(
        self, conn: Connection, space: Space, text_hashes: Sequence[bytes]
    ) -> dict[bytes, Vector]:
        """Vectors of these texts that the space holds already, anywhere in this store."""

    async def nearest(
        self,
        conn: Connection,
        index: Index,
        query: Vector,
        *,
        limit: int,
        tenant: str | None,
        where: Filter | None = None,
    ) -> list[tuple[int, float]]:
        """(doc_id, cosine similarity), best first, each document once, by its nearest chunk.

        Fewer than `limit` only where there are no more. `where` is asked of the live documents.
        """

    async def is_ready(self, conn: Connection, index: Index, *, tenant: str | None) -> bool:
        """Whether `nearest` answers as this kind of index is meant to.

        Not where its approximate index is not built and the tenant's vectors are too many to be all read.
        """

    def statement(
        self,
        index: Index,
        query: Vector,
        *,
        limit: int,
        tenant: str | None,
        where: Filter | None = None,
    ) -> Statement | None:
        """The same as a part of a larger statement, where the store is in this database and one scan is
        the whole answer.
        """

    async def exact(
        self,
        conn: Connection,
        index: Index,
        query: Vector,
        *,
        limit: int,
        tenant: str | None,
        where: Filter | None = None,
    ) -> list[tuple[int, float]]:
        """The same without any approximate index."""

    async def scored(
        self,
        conn: Connection,
        index: Index,
        query: Vector,
        doc_ids: Collection[int],
        *,
        tenant: str | None,
    ) -> list[tuple[int, float]]:
        """Of these documents those that have vectors, as `nearest` would rank them."""

    async def vectors(
        self, conn: Connection, index: Index, doc_ids: Sequence[int]
    ) -> dict[int, list[Vector]]:
        """What is stored of these documents, each chunk's vector in their order."""

    async def sample(self, conn: Connection, index: Index, size: int) -> list[tuple[int, bytes, Vector]]:
        """Random (doc_id, text_hash, vector) rows."""

    async def some(self, conn: Connection, index: Index, size: int) -> list[int]:
        """Random documents that have vectors, at most so many."""

    async def build(self, conn: Connection, index: Index) -> None:
        """Build the approximate index. May take hours; blocks writers of this index only."""

    async def built(self, conn: Connection, index: Index) -> Build: ...

    async def bytes_stored(self, conn: Connection, index: Index) -> int: ...


def vector(numbers: Sequence[float]) -> Vector:
    """Numbers that somebody brought, as the store would keep them: float16.

    Raises:
        ValueError, OverflowError: one is too large.
    """
    return HalfVector([float(number) for number in numbers]).to_numpy()


def half(vector: Vector) -> Vector:
    """As the store keeps it: float16."""
    return vector.astype("float16", copy=False)


def similarity(one: Sequence[Vector], other: Sequence[Vector]) -> float:
    """Cosine similarity of the nearest pair of two documents' chunks."""
    return max(_cosine(a, b) for a, b in product(one, other))


def _cosine(a: Vector, b: Vector) -> float:
    a, b = a.astype("float32"), b.astype("float32")
    cosine: float = float(a @ b) / float(a @ a * (b @ b)) ** 0.5
    return cosine
