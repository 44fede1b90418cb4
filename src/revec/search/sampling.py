"""Which queries are asked of a second index: by a salted hash, so that a larger rate keeps the sample.

The unit is the distinct question, not the request: a question that is asked a thousand times lies at one
place between 0 and 1, is in the sample where that is below the rate, and weighs a thousand. So every server
chooses the same questions without a word between them, and 2% ⊂ 5% ⊂ 10%.

A tenant with little traffic would have none among 2%. The first FEW questions of each tenant that a process
meets are taken whatever their hash; no gate counts them before the rate reaches them.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b

from revec.model.filter import Filter
from revec.model.reading import Mode
from revec.search.queries import normalised

FEW = 5
TENANTS = 10_000  # whose first questions are remembered, the longest unheard forgotten
HASH = 16  # bytes
UNIT = 2**64


@dataclass(frozen=True, slots=True)
class Question:
    """What was asked; that of two which are equal one is observed."""

    text: str
    tenant: str | None
    mode: Mode
    where: Filter | None

    def hashed(self, salt: str) -> bytes:
        """Nobody gets the text back from it, and two collections share no hash."""
        parts = (self.tenant or "", self.mode, repr(self.where), normalised(self.text))
        return blake2b("\0".join(parts).encode(), key=salt.encode()[:64], digest_size=HASH).digest()


class Chosen(StrEnum):
    """Why a question is observed."""

    RATE = "rate"
    TENANT = "tenant"  # it is among its tenant's first
    REPLAY = "replay"  # it stands in a log that somebody replays


def place(hashed: bytes) -> float:
    """Where it lies in [0, 1)."""
    return int.from_bytes(hashed[:8]) / UNIT


class Firsts:
    """The first questions of each tenant, whatever the rate is: a larger one drops none of them."""

    def __init__(self) -> None:
        self._of: OrderedDict[tuple[int, str], set[bytes]] = OrderedDict()

    def takes(self, collection_id: int, tenant: str | None, hashed: bytes) -> bool:
        whose = (collection_id, tenant or "")
        first = self._of.setdefault(whose, set())
        self._of.move_to_end(whose)
        if len(self._of) > TENANTS:
            self._of.popitem(last=False)
        if len(first) < FEW:
            first.add(hashed)
        return hashed in first


def chosen(rate: float, hashed: bytes, *, first: bool) -> Chosen | None:
    """Nested: what a rate chooses, every larger one chooses."""
    if place(hashed) < rate:
        return Chosen.RATE
    return Chosen.TENANT if first else None
