"""The port of every vector store."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

from pgvector import HalfVector

from revec.model.filter import Filter, Operator
from revec.model.index import Index
from revec.model.place import Place
from revec.model.space import Space
from revec.postgres.database import Connection, Database
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
    points: Sequence[UUID] = ()  # of each chunk, once it is staged; none in this database


@dataclass(frozen=True, slots=True)
class Sample:
    """Random rows of an index. Those drawn beyond these and the lost ones were replaced meanwhile."""

    rows: list[tuple[int, bytes, Vector]]  # (doc_id, text_hash, vector)
    drawn: int  # rows of the table here; none: it is empty
    lost: int = 0  # of them, whose vectors a store elsewhere should have and has not


Scored = list[tuple[int, float]]  # (doc_id, cosine similarity), best first, each document once
Located = Mapping[bytes, tuple[Index, UUID]]  # text hash → whose point has its vector


@dataclass(frozen=True, slots=True)
class Lost:
    """A page of a store's points, asked for by what we know of them."""

    doc_ids: list[int]  # of those that the store has not
    after: UUID | None  # the page's last point; None: there are no more


@dataclass(frozen=True, slots=True)
class Build:
    """How far the ANN index of an index is."""

    valid: bool
    running: bool


class Searching(Protocol):
    """What answers searches within a transaction."""

    async def nearest(
        self,
        conn: Connection,
        index: Index,
        query: Vector,
        *,
        limit: int,
        tenant: str | None,
        where: Filter | None = None,
    ) -> Scored:
        """The nearest documents, each by its nearest chunk.

        Fewer than `limit` only where there are no more. `where` is asked of the live documents.
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
    ) -> Scored:
        """The same without any approximate index."""

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


class Store(Protocol):
    """Calls that take a connection run in the caller's transaction; the others may go over a network, and
    open transactions of their own: call them while none is open.

    Raises:
        StoreUnavailable: what goes over a network was not answered.
    """

    filters: frozenset[Operator]  # what of a filter it can do; a search refuses the rest

    async def prepare(self, place: Place, dims: int) -> None:
        """Before an index is registered at that place; again and again is no harm."""

    async def create(self, conn: Connection, index: Index) -> None: ...

    async def clear(self, index: Index) -> None:
        """Before it is dropped; what cannot be reached is cleared when this is called again."""

    async def drop(self, conn: Connection, index: Index) -> None: ...

    async def stage(self, index: Index, sets: Sequence[ChunkSet]) -> Sequence[ChunkSet]:
        """Lay ready what `replace` will refer to: these sets, as it wants them."""

    async def replace(self, conn: Connection, index: Index, sets: Sequence[ChunkSet]) -> set[int]:
        """Each document's chunk set becomes this staged one, whole. The documents of which that is so: it is
        not of one that is behind the user's row that its vector would be written into.

        Raises:
            StoreUnavailable: they were staged too long ago.
        """

    async def abandon(self, index: Index, sets: Sequence[ChunkSet]) -> None:
        """Staged sets that will not be written."""

    async def remove(self, conn: Connection, index: Index, doc_ids: Sequence[int]) -> None: ...

    async def known(
        self, conn: Connection, space: Space, text_hashes: Sequence[bytes]
    ) -> dict[bytes, Vector]:
        """Vectors of these texts that the space holds already, anywhere in this database."""

    async def located(self, conn: Connection, space: Space, text_hashes: Sequence[bytes]) -> Located:
        """Where elsewhere the space holds them."""

    async def fetched(self, located: Located) -> dict[bytes, Vector]:
        """Those of them that are there still."""

    async def ahead(
        self,
        index: Index,
        queries: Sequence[Vector],
        *,
        limit: int,
        tenant: str | None,
        where: Filter | None = None,
        exactly: bool = False,
    ) -> Searching:
        """What answers these very questions (`exactly`: by `exact`) in a transaction that waits for nobody.

        Raises:
            NotFound: the index was dropped meanwhile.
        """

    async def vectors(
        self, database: Database, index: Index, doc_ids: Sequence[int], *, tenant: str | None
    ) -> dict[int, list[Vector]]:
        """What is stored of these documents of a tenant (None: anybody's), each chunk's in their order."""

    async def sample(self, database: Database, index: Index, size: int) -> Sample: ...

    async def lost(self, index: Index, after: UUID | None = None) -> Lost:
        """The next page of documents of which a store elsewhere does not have all that it should."""

    async def strays(self, index: Index, *, bury: bool) -> int:
        """How many points at its place are nobody's; with `bury` they are to be deleted."""

    def rests(self, index: Index) -> bool:
        """Whether its store failed a moment ago, and is to be left alone."""

    async def build(self, conn: Connection, index: Index) -> None:
        """Build the approximate index. May take hours; blocks writers of this index only."""

    async def built(self, conn: Connection, index: Index) -> Build: ...

    async def bytes_stored(self, conn: Connection, index: Index) -> int:
        """In this database."""


class Here(Store, Searching, Protocol):
    """A store that can also serve early: its indexes in this database are asked within one transaction."""

    async def is_ready(self, conn: Connection, index: Index, *, tenant: str | None) -> bool:
        """Whether `nearest` answers as this kind of index is meant to.

        Not where its approximate index is not built and the tenant's vectors are too many to be all read.
        """

    async def scored(
        self,
        conn: Connection,
        index: Index,
        query: Vector,
        doc_ids: Collection[int],
        *,
        tenant: str | None,
    ) -> Scored:
        """Of these documents those that have vectors, as `nearest` would rank them."""

    async def some(self, conn: Connection, index: Index, size: int) -> list[int]:
        """Random documents that have vectors, at most so many."""


class InThisDatabase:
    """What a store answers that needs no network: all that it does is in the caller's transaction."""

    async def prepare(self, *_: object) -> None:
        """The table comes with the index."""

    async def clear(self, *_: object) -> None:
        """And goes with it."""

    async def stage(self, _: Index, sets: Sequence[ChunkSet]) -> Sequence[ChunkSet]:
        return sets

    async def abandon(self, *_: object) -> None:
        """Nothing was laid ready."""

    async def located(self, *_: object) -> Located:
        return {}

    async def fetched(self, *_: object) -> dict[bytes, Vector]:
        return {}

    async def lost(self, *_: object) -> Lost:
        return Lost([], None)

    async def strays(self, *_: object, **__: object) -> int:
        return 0

    def rests(self, *_: object) -> bool:
        return False


async def all_lost(store: Store, index: Index) -> set[int]:
    """Documents of which a store elsewhere does not have all that it should; it is asked for every point.

    Raises:
        StoreUnavailable: it does not answer.
    """
    doc_ids: set[int] = set()
    after = None
    while True:
        page = await store.lost(index, after)
        doc_ids.update(page.doc_ids)
        if (after := page.after) is None:
            return doc_ids


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
