"""Events → Prometheus: the counters and histograms of this process, and the census where it is taken here.

A registry of its own, so nothing of an application that holds us is in it. Labels are bounded: names that
operators give, and our own words; never a tenant, a query, an id of a document or words of an error.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from revec.observe import events
from revec.observe.census_figures import CensusFigures
from revec.observe.events import Event

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
METHODS = frozenset({"GET", "POST", "PUT", "DELETE"})
MOST_SEARCHED = 1_000  # pairs of index and epoch: an epoch is drawn with each flip

REQUESTS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # seconds
SEARCHES = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    0.8,
    1.0,
    2.5,
    5.0,
)  # with the goals of old
CALLS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
PACKS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)

# A time of creation beside every counter would double what is scraped.
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """One for a process, which hears its events (see `listening`); `exposition()` at each scrape."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        if os.path.isdir("/proc/self"):  # noqa: PTH112 - asked once, of Linux
            ProcessCollector(registry=self.registry)
        self._census = CensusFigures()
        self._epochs: set[tuple[str, int]] = set()  # of searches, with their index
        self.registry.register(self._census)
        self._web()
        self._searching()
        self._providers()
        self._working()
        self._moving()
        self._troubles()

    def exposition(self) -> bytes:
        """In the text format 0.0.4."""
        return generate_latest(self.registry)

    def note(self, method: str, route: str, status: int, seconds: float | None) -> None:
        """A request was answered; None: as long as somebody watched. Routes are named by templates."""
        self._requests.labels(method if method in METHODS else "other", route, str(status)).inc()
        if seconds is not None:
            self._request_seconds.labels(route).observe(seconds)

    def hear(self, event: Event) -> None:
        """A listener; what has no figure here is for the log."""
        match event:
            case events.Searched():
                self._searched(event)
            case events.QueryMet():
                self._queries.labels(event.how).inc()
            case events.Observed():
                self._observations.labels(event.collection, event.how).inc()
            case events.Called():
                self._called(event)
            case events.PackDone():
                self._packed(event)
            case events.Beaten():
                self._beaten(event)
            case events.CensusTaken():
                self._census.latest = event.census
            case _:
                self._happened(event)

    def _happened(self, event: Event) -> None:
        match event:
            case events.Moved():
                self._moves.labels(event.became).inc()
            case events.Judged():
                self._judged.labels(event.gate, event.outcome).inc()
            case events.Alarmed():
                self._alarms.labels(event.guard, event.action).inc()
            case events.HeldBack():
                self._held_back.labels(event.model).inc()
            case events.ProviderFailed():
                self._failed.labels(event.model).inc()
            case events.StoreFailed():
                self._store_failed.labels(event.store.partition(":")[0]).inc()  # not where it is
            case events.Braked():
                self._speed.set(event.speed)
            case events.NotServedEarly():
                self._not_early.labels(event.collection).inc()
            case _:
                self._trouble.labels(type(event).__name__).inc()

    # --- what there is ------------------------------------------------------------

    def _web(self) -> None:
        self.in_flight = self._gauge("http_requests_in_flight", "Requests that are being answered.")
        self._requests = self._counter(
            "http_requests_total", "Requests that were answered.", ("method", "route", "status")
        )
        self._request_seconds = self._histogram(
            "http_request_duration_seconds",
            "From a request's head to the end of its answer.",
            ("route",),
            REQUESTS,
        )

    def _searching(self) -> None:
        self._searches = self._counter(
            "searches_total",
            "Searches by the index that was to answer, epoch, and outcome.",
            ("index", "epoch", "how"),
        )
        self._search_seconds = self._histogram(
            "search_duration_seconds",
            "Searches by stage: embed (the query), find (in the database), whole.",
            ("collection", "stage"),
            SEARCHES,
        )
        self._queries = self._counter(
            "query_vectors_total",
            "Vectors that searches wanted: known (remembered), shared (in another's call), asked.",
            ("how",),
        )
        self._not_early = self._counter(
            "searches_not_early_total",
            "Searches that the index being filled could not answer early.",
            ("collection",),
        )
        self._observations = self._counter(
            "shadow_observations_total",
            "Questions for the shadow: observed, or dropped for want of room.",
            ("collection", "how"),
        )
        for how in ("known", "shared", "asked"):
            self._queries.labels(how)

    def _providers(self) -> None:
        self._calls = self._counter(
            "provider_requests_total",
            "Requests to models by lane and outcome: ok, refused, invalid, or a trouble.",
            ("model", "lane", "outcome"),
        )
        self._call_seconds = self._histogram(
            "provider_request_duration_seconds",
            "Requests to models that were answered or given up.",
            ("model",),
            CALLS,
        )
        self._inputs = self._counter(
            "provider_inputs_total", "Texts that models were asked for.", ("model", "lane")
        )
        self._tokens = self._counter(
            "provider_tokens_total", "Tokens that were billed, or counted.", ("model", "lane")
        )
        self._dollars = self._counter(
            "provider_cost_usd_total", "US dollars, where the price is known.", ("model", "lane")
        )
        self._held_back = self._counter(
            "provider_held_back_total", "Packs that a limit, a budget or a rest held back.", ("model",)
        )
        self._failed = self._counter(
            "provider_failures_total", "Times that a model's failure stopped work.", ("model",)
        )

    def _working(self) -> None:
        self._embeddings = self._counter(
            "embeddings_total",
            "Documents by what became of them: written, copied (without paying), removed, excluded, dead, "
            "superseded.",
            ("index", "outcome"),
        )
        self._truncated = self._counter(
            "embeddings_truncated_total", "Of those written, without the end of their text.", ("index",)
        )
        self._pack_seconds = self._histogram(
            "pack_duration_seconds", "One claim, from its texts to settled vectors.", ("index",), PACKS
        )
        # Of a worker alone: registered when its heart beats, for a server takes no memory as a worker.
        self._rss = Gauge("revec_worker_memory_bytes", "What this worker takes.", registry=None)
        self._ceiling = Gauge(
            "revec_worker_memory_ceiling_bytes", "What this worker may take.", registry=None
        )
        self._claims = Gauge("revec_worker_claims_in_hand", "Claims that this worker is at.", registry=None)
        self._pace = Gauge(
            "revec_worker_documents_per_second", "Its documents, over the last minute.", registry=None
        )
        self._speed = Gauge(
            "revec_worker_backfill_speed_ratio", "What the brake leaves of its backfill.", registry=None
        )
        self._is_worker = False

    def _moving(self) -> None:
        self._moves = self._counter("migration_moves_total", "Moves of migrations.", ("became",))
        self._judged = self._counter("gate_judgements_total", "Verdicts of gates.", ("gate", "outcome"))
        self._alarms = self._counter("guard_alarms_total", "Guards that fired.", ("guard", "action"))

    def _troubles(self) -> None:
        self._store_failed = self._counter(
            "store_failures_total", "Stores elsewhere that did not answer, by kind.", ("store",)
        )
        self._trouble = self._counter(
            "events_total", "Everything else that was told, by its name.", ("event",)
        )
        for event in (events.DatabaseLost, events.TryAgain, events.IndexFaulted, events.RequestFailed):
            self._trouble.labels(event.__name__)

    def _counter(self, name: str, about: str, labels: Sequence[str] = ()) -> Counter:
        return Counter(f"revec_{name}", about, labels, registry=self.registry)

    def _gauge(self, name: str, about: str, labels: Sequence[str] = ()) -> Gauge:
        return Gauge(f"revec_{name}", about, labels, registry=self.registry)

    def _histogram(self, name: str, about: str, labels: Sequence[str], bounds: Sequence[float]) -> Histogram:
        return Histogram(f"revec_{name}", about, labels, buckets=bounds, registry=self.registry)

    # --- what an event changes ----------------------------------------------------

    def _searched(self, event: events.Searched) -> None:
        if self._has_room(event.index, event.epoch):
            self._searches.labels(event.index, str(event.epoch), event.how).inc()
        stages = {"whole": event.seconds, "embed": event.embed_seconds, "find": event.search_seconds}
        for stage, seconds in stages.items():
            if seconds is not None:
                self._search_seconds.labels(event.collection, stage).observe(seconds)

    def _has_room(self, index: str, epoch: int) -> bool:
        if (index, epoch) not in self._epochs and len(self._epochs) >= MOST_SEARCHED:
            return False
        self._epochs.add((index, epoch))
        return True

    def _called(self, event: events.Called) -> None:
        self._calls.labels(event.model, event.lane, event.outcome).inc()
        self._inputs.labels(event.model, event.lane).inc(event.inputs)
        self._tokens.labels(event.model, event.lane).inc(event.tokens)
        if event.dollars is not None:
            self._dollars.labels(event.model, event.lane).inc(event.dollars)
        if event.seconds is not None:
            self._call_seconds.labels(event.model).observe(event.seconds)

    def _packed(self, event: events.PackDone) -> None:
        outcomes = {
            "written": event.written - event.copied,
            "copied": event.copied,
            "removed": event.removed,
            "excluded": event.excluded,
            "dead": event.buried,
            "superseded": event.superseded,
        }
        for outcome, documents in outcomes.items():
            self._embeddings.labels(event.index, outcome).inc(max(0, documents))
        self._truncated.labels(event.index).inc(event.truncated)
        self._pack_seconds.labels(event.index).observe(event.seconds)

    def _beaten(self, event: events.Beaten) -> None:
        if not self._is_worker:
            self._is_worker = True
            for gauge in (self._rss, self._ceiling, self._claims, self._pace, self._speed):
                self.registry.register(gauge)
        self._rss.set(event.rss)
        self._ceiling.set(event.ceiling)
        self._claims.set(event.claims)
        self._pace.set(event.per_second)
        self._speed.set(event.speed)


def listening() -> Metrics:
    """Those of this process, from here on."""
    metrics = Metrics()
    events.listen(metrics.hear)
    return metrics
