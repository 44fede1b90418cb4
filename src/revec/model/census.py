"""What a census found: how every collection, every index and every migration stood at one moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime


@dataclass(frozen=True, slots=True)
class Standing:
    """One collection; what a field means stands with the table, in 0029_sample.sql."""

    name: str
    index_id: int | None
    documents: int
    approximate: bool
    done: int
    coverage: float | None
    backlog: int
    oldest: float  # seconds
    unprojected: int
    dead: int
    lag: float  # seconds
    per_second: float


@dataclass(frozen=True, slots=True)
class Open:
    """Open work of one index, lane and state: how much there is, and how long the longest has waited."""

    lane: str  # live, jit, backfill
    state: str  # waiting, in hand, later
    documents: int
    oldest: float  # seconds


@dataclass(frozen=True, slots=True)
class OfIndex:
    """One index that is written."""

    collection: str
    name: str
    open: Sequence[Open]
    to_come: int  # documents that a backfill has not come to
    done: int
    coverage: float
    dead: int
    excluded: int
    is_serving: bool
    fault: bool  # it is not written: its model or its store is not trusted


@dataclass(frozen=True, slots=True)
class OfMigration:
    """The last one of its collection, over or not."""

    collection: str
    id: int
    state: str
    paused: bool
    held: bool  # a guard's hold, which a person clears
    spent: float  # US dollars
    budget: float | None
    rollback_lost: bool  # the old model is gone, or the old index is not written
    unguarded: float | None  # seconds without a guard while users see the new index; None: none is needed
    verdicts: Mapping[str, str]  # gate → outcome


@dataclass(frozen=True, slots=True)
class OfShadow:
    """What the observations of the last hour say of the index in the shadow."""

    collection: str
    observations: int
    overlap: float | None  # of ten hits each, with the old index asked again
    floor: float | None  # of the old index with itself: what is chance
    latency: float | None  # seconds that the new index took longer, on average
    mismatches: float | None  # the share of observations with another first hit
    failed: int  # the new index failed where the old one did not


@dataclass(frozen=True, slots=True)
class OfModel:
    """A model that an index is made with, or that was called."""

    address: str
    is_resting: bool  # the breaker is open
    shutdown: date | None


@dataclass(frozen=True, slots=True)
class Census:
    """All of it, as one transaction saw it."""

    at: datetime
    collections: Mapping[int, Standing]
    unprojected_seconds: Mapping[int, float]  # of collection: how long the oldest change has waited
    indexes: Sequence[OfIndex]
    migrations: Sequence[OfMigration]
    shadows: Sequence[OfShadow]
    models: Sequence[OfModel]
    workers: int
