"""A census as gauges: made anew at each scrape, so what is gone leaves no figure behind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, time, timedelta

from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from revec.model.census import Census, OfMigration

Rows = Sequence[tuple[Sequence[str], float | None]]  # labels, and the value; None: nobody knows


OLD = timedelta(seconds=180)  # three minutes without a census: another worker may have its lease


class CensusFigures(Collector):
    """Nothing as long as this process takes no census, nor of one that is OLD.

    A worker that lost the database does not hear that another one counts: sums would be twice what there is.
    """

    def __init__(self) -> None:
        self.latest: Census | None = None

    def collect(self) -> Iterator[Metric]:
        census = self.latest
        if census is not None and _now() - census.at < OLD:
            yield _gauge(
                "census_timestamp_seconds", "When this was counted.", (), [((), census.at.timestamp())]
            )
            yield _gauge("workers", "Workers whose heart beats.", (), [((), census.workers)])
            yield from _of_collections(census)
            yield from _of_work(census)
            yield from _of_indexes(census)
            yield from _of_migrations(census.migrations)
            yield from _of_verdicts(census.migrations)
            yield from _of_shadows(census)
            yield from _of_models(census)


def _now() -> datetime:
    return datetime.now(UTC)


def _of_collections(census: Census) -> Iterator[Metric]:
    stands = {each.name: each for each in census.collections.values()}
    lags = {each.name: census.unprojected_seconds.get(id_, 0.0) for id_, each in census.collections.items()}
    of = ("collection",)
    yield _gauge("documents", "Documents.", of, [((n,), s.documents) for n, s in stands.items()])
    yield _gauge(
        "lag_seconds",
        "How long an edit has waited that not every index has.",
        of,
        [((n,), s.lag) for n, s in stands.items()],
    )
    yield _gauge(
        "projection_lag_seconds",
        "How long a change of a table has waited that is no document yet.",
        of,
        [((n,), seconds) for n, seconds in lags.items()],
    )
    yield _gauge(
        "unprojected_changes",
        "Changes of tables that are no documents yet, counted up to 100,000.",
        of,
        [((n,), s.unprojected) for n, s in stands.items()],
    )
    yield _gauge(
        "embedded_texts_per_second",
        "Texts that models embedded for the collection's indexes, over the last minute.",
        of,
        [((n,), s.per_second) for n, s in stands.items()],
    )


def _of_work(census: Census) -> Iterator[Metric]:
    of = ("collection", "index", "lane", "state")
    work = [((i.collection, i.name, o.lane, o.state), o) for i in census.indexes for o in i.open]
    yield _gauge(
        "queue_documents",
        "Open work by lane (live, jit, backfill) and state (waiting, in hand, later).",
        of,
        [(labels, o.documents) for labels, o in work],
    )
    yield _gauge(
        "queue_oldest_age_seconds",
        "How long the longest of it has waited; what a person paused is not counted.",
        of,
        [(labels, o.oldest) for labels, o in work],
    )


def _of_indexes(census: Census) -> Iterator[Metric]:
    of = ("collection", "index")
    found = [((i.collection, i.name), i) for i in census.indexes]
    yield _gauge(
        "backlog_documents",
        "Open work of an index, and documents that a backfill will come to.",
        of,
        [(labels, i.to_come + sum(o.documents for o in i.open)) for labels, i in found],
    )
    yield _gauge(
        "coverage_ratio",
        "The share of the documents that an index has as they are now.",
        of,
        [(labels, i.coverage) for labels, i in found],
    )
    yield _gauge(
        "dead_letters", "Dead letters that wait for a person.", of, [(labels, i.dead) for labels, i in found]
    )
    yield _gauge(
        "excluded_documents",
        "Documents that an index leaves out, with a reason.",
        of,
        [(labels, i.excluded) for labels, i in found],
    )
    yield _gauge("index_serving", "1: it answers.", of, [(labels, i.is_serving) for labels, i in found])
    yield _gauge(
        "index_faulted",
        "1: it is not written until a person has looked.",
        of,
        [(labels, i.fault) for labels, i in found],
    )


def _of_migrations(migrations: Sequence[OfMigration]) -> Iterator[Metric]:
    of = ("collection", "migration")
    found = [((m.collection, str(m.id)), m) for m in migrations]
    yield _gauge(
        "migration_state",
        "1: the last migration of the collection is in this state.",
        (*of, "state"),
        [((*labels, m.state), 1) for labels, m in found],
    )
    yield _gauge("migration_paused", "1: it is paused.", of, [(labels, m.paused) for labels, m in found])
    yield _gauge(
        "migration_held",
        "1: a guard holds it until a person clears that.",
        of,
        [(lb, m.held) for lb, m in found],
    )
    yield _gauge(
        "migration_rollback_lost",
        "1: the old index could not take over again.",
        of,
        [(labels, m.rollback_lost) for labels, m in found],
    )
    yield _gauge("migration_spent_usd", "US dollars.", of, [(labels, m.spent) for labels, m in found])
    yield _gauge("migration_budget_usd", "US dollars.", of, [(labels, m.budget) for labels, m in found])
    yield _gauge(
        "guard_silence_seconds",
        "How long nobody has watched, though users may see the new index.",
        of,
        [(labels, m.unguarded) for labels, m in found],
    )


def _of_verdicts(migrations: Sequence[OfMigration]) -> Iterator[Metric]:
    yield _gauge(
        "gate_verdict",
        "1: the last word on a gate is this outcome.",
        ("collection", "migration", "gate", "outcome"),
        [((m.collection, str(m.id), gate, said), 1) for m in migrations for gate, said in m.verdicts.items()],
    )


def _of_shadows(census: Census) -> Iterator[Metric]:
    of, found = ("collection",), [((each.collection,), each) for each in census.shadows]
    yield _gauge(
        "shadow_overlap_ratio",
        "Of ten hits, those that both indexes show; observations of the last hour.",
        of,
        [(labels, s.overlap) for labels, s in found],
    )
    yield _gauge(
        "shadow_floor_overlap_ratio",
        "The same of the old index with itself: what is chance.",
        of,
        [(labels, s.floor) for labels, s in found],
    )
    yield _gauge(
        "shadow_latency_delta_seconds",
        "How much longer the new index took, on average; observations of the last hour.",
        of,
        [(labels, s.latency) for labels, s in found],
    )
    yield _gauge(
        "shadow_mismatch_ratio",
        "Observations of the last hour with another first hit.",
        of,
        [(labels, s.mismatches) for labels, s in found],
    )
    yield _gauge(
        "shadow_failed_observations",
        "Of the last hour: the new index failed where the old one did not.",
        of,
        [(labels, s.failed) for labels, s in found],
    )


def _of_models(census: Census) -> Iterator[Metric]:
    yield _gauge(
        "breaker_open",
        "1: the model has failed, has not answered since, and is waited for.",
        ("model",),
        [((m.address,), m.is_resting) for m in census.models],
    )
    yield _gauge(
        "model_shutdown_timestamp_seconds",
        "When the provider switches the model off, as far as that was announced.",
        ("model",),
        [
            ((m.address,), datetime.combine(m.shutdown, time(), UTC).timestamp() if m.shutdown else None)
            for m in census.models
        ],
    )


def _gauge(name: str, about: str, labels: Sequence[str], rows: Rows) -> Metric:
    family = GaugeMetricFamily(f"revec_{name}", about, labels=labels)
    for values, value in rows:
        if value is not None:
            family.add_metric(values, float(value))
    return family
