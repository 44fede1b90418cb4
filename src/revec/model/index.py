"""An index: a space at a store, with its search parameters; and the route to the one that serves."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from revec.model.space import QueryRecipe, Space


class Kind(StrEnum):
    EXACT = "exact"  # scanned by tenant, recall 1
    HNSW = "hnsw"  # approximate, built after the load


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

    @property
    def name(self) -> str:
        return f"{self.space.address}#{self.id}"


@dataclass(frozen=True, slots=True)
class Collection:
    id: int
    name: str


@dataclass(frozen=True, slots=True)
class Early:
    """A migration that is served early: its index is being filled."""

    migration_id: int
    index_id: int
    version: int | None  # of the bridge that leads to its answers; None: none does, for now


@dataclass(frozen=True, slots=True)
class Route:
    """Which index answers. One row per collection; changed only by compare-and-set on `epoch`."""

    collection_id: int
    epoch: int
    serving: int | None
    previous: int | None
    resting: str | None = None  # why the model of what serves is not to be asked for a while
    early: Early | None = None

    def role_of(self, index_id: int) -> Literal["serving", "previous", "next"]:
        if index_id == self.serving:
            return "serving"
        return "previous" if index_id == self.previous else "next"
