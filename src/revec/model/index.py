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

    @property
    def name(self) -> str:
        return f"{self.space.address}{self.place.suffix}#{self.id}"


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
