"""What goes through the client: questions on their way in, answers on their way out, the same both ways."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any, Final, Protocol

from revec.model.document import Draft
from revec.model.index import Listed
from revec.model.reading import Hit, Mode


class Everybody(Enum):
    """No name of a tenant can be taken for it."""

    ALL_TENANTS = "all tenants"


ALL_TENANTS: Final = Everybody.ALL_TENANTS
# Of None the way decides: in process it is the default tenant, over HTTP the key's own.
Whose = str | Everybody | None


@dataclass(frozen=True, slots=True)
class Search:
    collection: str
    query: str
    k: int
    mode: Mode
    filter: str | None  # JSON
    whose: Whose
    sticky: str | None
    contents: bool


@dataclass(frozen=True, slots=True)
class Similar:
    """Like one of `key`, `text` and `vector`."""

    collection: str
    key: str | None
    source: str | None
    text: str | None
    vector: list[float] | None
    space: str | None
    k: int
    threshold: float | None
    filter: str | None  # JSON
    whose: Whose
    sticky: str | None


@dataclass(frozen=True, slots=True)
class Answer:
    """Wholly of one index, at one epoch of the route."""

    collection: str
    index: str
    epoch: int
    hits: list[Hit]
    degraded: bool = False  # the query has no vector: the words alone answered
    why: str | None = None  # it is degraded
    early: bool = False  # by the index that a migration is filling still
    demanded: int = 0  # documents that were embedded for it
    threshold: float | None = None  # of `similar`: hits below it were left out


@dataclass(frozen=True, slots=True)
class Document:
    """As it is kept."""

    id: str
    source: str
    title: str
    text: str
    tenant: str
    metadata: dict[str, Any]
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class Written:
    id: str
    standing: str  # pending, searchable, excluded, dead or gone, in the index that serves
    why: str | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was written is kept, whatever else it says."""

    collection: str
    documents: list[Written]
    settled: bool  # the index that serves has nothing left to do for them: the next search has them


class Way(Protocol):
    """How a client reaches a Revec; what it is handed has been looked at."""

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def search(self, asked: Search) -> Answer: ...

    async def similar(self, asked: Similar) -> Answer: ...

    async def write(
        self, collection: str, drafts: Sequence[Draft], gone: Sequence[str], whose: Whose, wait: float
    ) -> Receipt: ...

    async def get(self, collection: str, id: str, source: str, whose: Whose) -> Document: ...  # noqa: A002

    async def collections(self) -> list[Listed]: ...
