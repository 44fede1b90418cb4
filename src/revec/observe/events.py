"""What happened, as facts with fields: the contract of logs, metrics and dashboards; with nobody's text."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from revec.model.census import Census

ALERT = "RETR_DUAL_VARIANCE_HIGH"  # what dashboards and runbooks of old listen for


@dataclass(frozen=True, slots=True)
class Moved:
    migration: int
    was: str
    became: str
    why: str


@dataclass(frozen=True, slots=True)
class Judged:
    migration: int
    gate: str
    outcome: str
    why: str


@dataclass(frozen=True, slots=True)
class PackDone:
    """One claim was worked off."""

    index: str
    written: int
    copied: int
    chunked: int
    truncated: int
    removed: int
    excluded: int
    buried: int
    superseded: int
    embedded: int
    tokens: int
    seconds: float


@dataclass(frozen=True, slots=True)
class ProviderFailed:
    model: str
    why: str


@dataclass(frozen=True, slots=True)
class StoreFailed:
    """A store elsewhere did not answer, or not as it should."""

    store: str
    why: str


@dataclass(frozen=True, slots=True)
class HeldBack:
    """A pack did not leave: a limit, a budget, a provider that rests."""

    model: str
    why: str


@dataclass(frozen=True, slots=True)
class IndexFaulted:
    index: str
    why: str


@dataclass(frozen=True, slots=True)
class DatabaseLost:
    why: str


@dataclass(frozen=True, slots=True)
class TryAgain:
    """Something was refused for now: a lock, a deadlock, a full disk, an issuer's public keys."""

    why: str


@dataclass(frozen=True, slots=True)
class Braked:
    """The backfill yields, or goes at full speed again."""

    speed: float  # 1 is full
    why: str | None


@dataclass(frozen=True, slots=True)
class Bridged:
    """What a migration's bridge was found to be worth."""

    migration: int
    pairs: int
    holds: bool
    why: str


@dataclass(frozen=True, slots=True)
class Alarmed:
    """A guard fired, or nobody watches; `alert` is the name that an alert rule of old has for it."""

    migration: int
    guard: str
    action: str  # paused, rolled back or alarm
    why: str
    alert: str = ALERT


@dataclass(frozen=True, slots=True)
class NotServedEarly:
    """A search that the index being filled could have answered was answered by the one that serves."""

    collection: str
    why: str


@dataclass(frozen=True, slots=True)
class TurnedAway:
    """Somebody showed a key or a token that opens nothing; what it was is not said."""

    why: str


@dataclass(frozen=True, slots=True)
class RequestFailed:
    """A request met something that nobody had thought of."""

    route: str
    why: str


@dataclass(frozen=True, slots=True)
class Called:
    """A request to a model has ended, however it did."""

    model: str
    lane: str  # live, jit, backfill, proof, query or shadow
    outcome: str  # ok, refused, invalid, or a trouble
    inputs: int
    tokens: int  # as billed, or as counted where nobody says; 0 where it was refused
    dollars: float | None  # None: nobody knows the price
    seconds: float | None  # None: of a batch, whose hours are no latency


@dataclass(frozen=True, slots=True)
class QueryMet:
    """A search wanted a query's vector."""

    how: str  # known (remembered), shared (somebody else's call), asked


@dataclass(frozen=True, slots=True)
class Searched:
    """A search has ended, well or not; what it asked for is nobody's business."""

    collection: str
    index: str
    epoch: int
    how: str  # answered, empty, failed, late
    seconds: float  # all of it
    embed_seconds: float | None  # None: it did not come to an answer
    search_seconds: float | None


@dataclass(frozen=True, slots=True)
class Observed:
    """A question was asked of a second index too, or should have been."""

    collection: str
    how: str  # observed, dropped


@dataclass(frozen=True, slots=True)
class Beaten:
    """A worker's heart has beaten."""

    rss: int  # bytes
    ceiling: int  # bytes
    claims: int  # in hand
    per_second: float  # documents, over the last minute
    speed: float  # of its backfill: what the brake leaves of it


@dataclass(frozen=True, slots=True)
class CensusTaken:
    """This process has counted everything; None: another one does that now."""

    census: Census | None


Event = (
    CensusTaken
    | Called
    | QueryMet
    | Searched
    | Observed
    | Beaten
    | HeldBack
    | Moved
    | Judged
    | PackDone
    | ProviderFailed
    | StoreFailed
    | IndexFaulted
    | DatabaseLost
    | TryAgain
    | Braked
    | Bridged
    | Alarmed
    | NotServedEarly
    | TurnedAway
    | RequestFailed
)

# Of every request or every minute: figures. A log that had them would have nothing else.
FIGURES = (Called, QueryMet, Searched, Observed, Beaten, CensusTaken)

_listeners: list[Callable[[Event], None]] = []
_deaf: list[Callable[[Event], None]] = []  # who failed once, and was told of


def listen(listener: Callable[[Event], None]) -> None:
    """For as long as the process lives."""
    _listeners.append(listener)


@contextmanager
def heard(listener: Callable[[Event], None]) -> Iterator[None]:
    """For as long as the body runs."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def emit(event: Event) -> None:
    """Tell everybody who listens; text of documents is in no event. Who listens stops no work."""
    for listener in _listeners:
        try:
            listener(event)
        except Exception as error:  # noqa: BLE001 - a log on a closed stream, figures on a full disk
            _note_deaf(listener, error)


def _note_deaf(listener: Callable[[Event], None], error: Exception) -> None:
    if listener not in _deaf:
        _deaf.append(listener)
        with suppress(Exception):
            sys.stderr.write(f"revec: an event was not told: {type(error).__name__}\n")
