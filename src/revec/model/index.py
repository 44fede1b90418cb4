"""An index: a space at a store, with its search parameters; and the route to the one that serves."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from revec.model.place import HERE, Place
from revec.model.space import BYTES_PER_DIM, QueryRecipe, Space


class Kind(StrEnum):
    EXACT = "exact"  # scanned by tenant, recall 1
    HNSW = "hnsw"  # approximate: a graph of the vectors, built after the load
    BINARY = "binary"  # a graph of their signs; the nearest by these are ranked by the vectors themselves
    NATIVE = "native"  # the store elsewhere has its own

    @property
    def is_approximate(self) -> bool:
        return self is not Kind.EXACT

    def bytes_in_graph(self, dims: int) -> int:
        """What the graph keeps of one vector, beside its neighbours."""
        match self:
            case Kind.EXACT | Kind.NATIVE:
                return 0
            case Kind.HNSW:
                return dims * BYTES_PER_DIM
            case Kind.BINARY:
                return -(-dims // 8)


class Writer(StrEnum):
    """Who brings vectors into an index."""

    REVEC = "revec"  # documents make work for it
    APP = "app"  # the user's application, in a column of its own table
    NOBODY = "nobody"  # it stays as it is


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a user's table that an index's vectors live in."""

    source_id: int  # whose documents they are of
    path: tuple[str, ...]  # schema and table
    key: tuple[str, ...]  # the columns that are a document's key
    key_types: tuple[str, ...]
    vector: str  # the column's name
    type: str  # vector or halfvec
    operator: str | None  # by which a graph of the user's own is walked; None: there is none of use
    writer: Writer  # as a person chose; REVEC counts from the first migration away from it
    unverifiable: str | None = None  # why its model could not be asked

    @property
    def table(self) -> str:
        return ".".join(self.path)


@dataclass(frozen=True, slots=True)
class Index:
    id: int
    collection_id: int
    space: Space
    query: QueryRecipe
    kind: Kind
    writing: bool  # new documents make work for it
    held: bool  # its work is not claimed (its table is being indexed)
    fault: str | None  # why its model's answers are not trusted; a person clears it
    place: Place = HERE
    writer: Writer = Writer.REVEC  # at this moment
    column: Column | None = None  # None: its vectors are in a table of ours, or elsewhere

    @property
    def name(self) -> str:
        suffix = self.place.suffix if self.column is None else "@column"
        return f"{self.space.address}{suffix}#{self.id}"


@dataclass(frozen=True, slots=True)
class Collection:
    id: int
    name: str


@dataclass(frozen=True, slots=True)
class Askable:
    """An index that is kept current, by what operators call it."""

    id: int
    name: str
    kind: str
    role: Literal["serving", "previous", "next"]


@dataclass(frozen=True, slots=True)
class Listed:
    """A collection as a door shows it."""

    name: str
    epoch: int
    serving: str | None  # the index that answers, by name
    indexes: list[Askable]


@dataclass(frozen=True, slots=True)
class Early:
    """The new model of a migration answers already, by this fit of its bridge."""

    migration_id: int
    version: int


@dataclass(frozen=True, slots=True)
class Shadow:
    """An index that is asked as well, behind the answers, for a share of the distinct queries."""

    candidate: int
    rate: float
    salt: str


@dataclass(frozen=True, slots=True)
class Route:
    """Which index answers. One row per collection; changed only by compare-and-set on `epoch`."""

    collection_id: int
    epoch: int
    serving: int | None
    previous: int | None
    canary: int | None = None  # answers a share of the requests instead
    share: float = 0.0  # of the sticky keys, 0 to 1
    resting: str | None = None  # why the model of what serves is not to be asked for a while
    filling: int | None = None  # the index that a migration is filling, while nobody paused it
    early: Early | None = None
    shadow: Shadow | None = None

    def role_of(self, index_id: int) -> Literal["serving", "previous", "next"]:
        if index_id == self.serving:
            return "serving"
        return "previous" if index_id == self.previous else "next"
