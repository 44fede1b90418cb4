"""The whole of the work on one collection at a glance: figures, workers, models, limits, the throttle."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from revec.model.index import Collection
from revec.postgres import indexes
from revec.postgres.database import Connection
from revec.work import calls, control, queue
from revec.work.overview import Overview, overview

Breaker = Literal["well", "resting", "probing"]


@dataclass(frozen=True, slots=True)
class Gauge:
    """What a provider counts, a minute: what it lets through, and how much of that is left."""

    what: str  # tokens or requests
    most: float | None  # None: nobody knows of a limit
    flowing: float  # what comes back in a minute, as last estimated
    left: float


@dataclass(frozen=True, slots=True)
class Model:
    name: str
    breaker: Breaker  # resting: nothing is sent; probing: one call at a time finds out
    why: str | None
    failures: int  # since it last answered
    since: datetime | None  # of the first of these
    rests_seconds: float  # still
    gauges: list[Gauge]


@dataclass(frozen=True, slots=True)
class Board:
    work: Overview
    workers: list[dict[str, Any]]
    models: list[Model]
    throttle: dict[str, Any]  # what a person allows; empty: as much as the workers do


async def board(conn: Connection, collection: Collection) -> Board:
    """Within overview.PATIENCE, or not at all."""
    seen = await overview(conn, collection)
    asked = {
        address
        for index in await indexes.writing(conn, collection.id)
        for address in (index.space.address, index.query.address)
    }
    throttle = await control.throttle_of(conn, collection.id)
    return Board(
        work=seen,
        workers=[row._asdict() for row in await queue.workers(conn)],
        models=[_model(row) for row in await calls.providers(conn) if row.model in asked],
        throttle=throttle._asdict() if throttle else {},
    )


def _model(row: Any) -> Model:
    rests = max(0.0, row.resting_seconds or 0.0)
    breaker: Breaker = "well" if row.resting_seconds is None else "resting" if rests else "probing"
    limits = (
        ("tokens", row.tokens_a_minute, row.tokens_flowing, row.tokens),
        ("requests", row.requests_a_minute, row.requests_flowing, row.requests),
    )
    return Model(
        name=row.model,
        breaker=breaker,
        why=row.why,
        failures=row.failures,
        since=row.since,
        rests_seconds=rests,
        gauges=[Gauge(what, most, flowing, max(0.0, left)) for what, most, flowing, left in limits if most],
    )
