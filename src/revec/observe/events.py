"""What happened, as facts with fields: the contract of logs now, of metrics and dashboards later."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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


Event = (
    HeldBack
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

_listeners: list[Callable[[Event], None]] = []


def listen(listener: Callable[[Event], None]) -> None:
    _listeners.append(listener)


def emit(event: Event) -> None:
    """Tell everybody who listens; text of documents is in no event."""
    for listener in _listeners:
        listener(event)
