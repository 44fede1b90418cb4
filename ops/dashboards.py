"""The dashboards, as Grafana imports them: `python -m ops` writes them down.

Every panel has a unit, a sentence that says what it shows, and a source that the user chooses; nothing has an
id, so an import never meets another dashboard's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

SOURCE = {"type": "prometheus", "uid": "${source}"}
RATE = "$__rate_interval"
WIDTH, HEIGHT = 24, 8  # of the grid, and of a panel
COLLECTION = 'collection=~"$collection"'


@dataclass(frozen=True, slots=True)
class Panel:
    """`asks`: expression → its legend. `limit`: from where on it is red."""

    title: str
    about: str
    unit: str
    asks: dict[str, str]
    limit: float | None = None
    kind: str = "timeseries"
    width: int = 8

    def json(self, x: int, y: int, source: dict[str, str]) -> dict[str, Any]:
        steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
        if self.limit is not None:
            steps.append({"color": "red", "value": self.limit})
        custom = {"thresholdsStyle": {"mode": "line" if self.limit is not None else "off"}, "fillOpacity": 8}
        return {
            "type": self.kind,
            "title": self.title,
            "description": self.about,
            "datasource": source,
            "gridPos": {"x": x, "y": y, "w": self.width, "h": HEIGHT},
            "fieldConfig": {
                "defaults": {
                    "unit": self.unit,
                    "thresholds": {"mode": "absolute", "steps": steps},
                    **({"custom": custom} if self.kind == "timeseries" else {}),
                },
                "overrides": [],
            },
            "options": {"legend": {"displayMode": "list", "placement": "bottom"}}
            if self.kind == "timeseries"
            else {},
            "targets": [
                {
                    "refId": chr(ord("A") + place),
                    "expr": expr,
                    "legendFormat": legend,
                    "instant": self.kind != "timeseries",
                    "range": self.kind == "timeseries",
                    "format": "table" if self.kind == "table" else "time_series",
                    "datasource": source,
                }
                for place, (expr, legend) in enumerate(self.asks.items())
            ],
        }


@dataclass(frozen=True, slots=True)
class Dashboard:
    uid: str
    title: str
    about: str
    panels: Sequence[Panel]

    def json(self) -> str:
        """What is committed, and imported."""
        return json.dumps(self._whole(), indent=1, ensure_ascii=False) + "\n"

    def _whole(self) -> dict[str, Any]:
        return {
            "uid": self.uid,
            "title": self.title,
            "description": self.about,
            "tags": ["revec"],
            "schemaVersion": 39,
            "editable": True,
            "refresh": "30s",
            "time": {"from": "now-6h", "to": "now"},
            "templating": {"list": list(_variables())},
            "panels": list(self._placed()),
        }

    def _placed(self) -> Iterator[dict[str, Any]]:
        x = y = 0
        for panel in self.panels:
            if x + panel.width > WIDTH:
                x, y = 0, y + HEIGHT
            yield panel.json(x, y, SOURCE)
            x += panel.width


def _variables() -> Iterator[dict[str, Any]]:
    yield {"name": "source", "label": "Source", "type": "datasource", "query": "prometheus", "hide": 0}
    yield {
        "name": "collection",
        "label": "Collection",
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": "label_values(revec_documents, collection)", "refId": "collections"},
        "refresh": 2,
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "current": {"text": "All", "value": "$__all"},
        "sort": 1,
    }


def _slow(share: float, name: str, by: str, where: str) -> str:
    """What so many of a hundred stay below."""
    return f"histogram_quantile({share}, sum by ({by}, le) (rate({name}_bucket{{{where}}}[{RATE}])))"


def _rate(name: str, by: str, where: str = "") -> str:
    return f"sum by ({by}) (rate({name}{{{where}}}[{RATE}]))"


def _share(name: str, by: str, where: str) -> str:
    return f"{_rate(name, by, where)} / {_rate(name, by)}"


SEARCH = Dashboard(
    "revec-search",
    "Revec: search and freshness",
    "What users have: how fast, how fresh, how often it fails.",
    [
        Panel(
            "Search, 99 of 100",
            "From the request to its hits, by collection. The goal of old is 0.8 s.",
            "s",
            {
                _slow(
                    0.99, "revec_search_duration_seconds", "collection", f'stage="whole",{COLLECTION}'
                ): "{{collection}}"
            },
            limit=0.8,
        ),
        Panel(
            "Search by stage, 95 of 100",
            "embed: the query's vector, unless it was remembered; find: the database.",
            "s",
            {_slow(0.95, "revec_search_duration_seconds", "stage", COLLECTION): "{{stage}}"},
        ),
        Panel(
            "Searches",
            "By what became of them.",
            "reqps",
            {_rate("revec_searches_total", "how"): "{{how}}"},
        ),
        Panel(
            "Failed and late searches",
            "As a share, by the index that was to answer. More than 1% is an alert.",
            "percentunit",
            {_share("revec_searches_total", "index", 'how=~"failed|late"'): "{{index}}"},
            limit=0.01,
        ),
        Panel(
            "Freshness",
            "How long the longest edit has waited that not every index has. The goal is 30 s, the alert 120 s.",
            "s",
            {f"max by (collection) (revec_lag_seconds{{{COLLECTION}}})": "{{collection}}"},
            limit=120,
        ),
        Panel(
            "Projection lag",
            "How long the oldest change of a table has waited that is no document yet. Five minutes are an alert.",
            "s",
            {f"max by (collection) (revec_projection_lag_seconds{{{COLLECTION}}})": "{{collection}}"},
            limit=300,
        ),
        Panel(
            "Coverage",
            "The share of the documents that each index has as they are now.",
            "percentunit",
            {
                f"max by (collection, index) (revec_coverage_ratio{{{COLLECTION}}})": "{{collection}} {{index}}"
            },
        ),
        Panel(
            "Query vectors",
            "known: remembered, and neither paid nor waited for; shared: in another's call; asked: of the model.",
            "reqps",
            {_rate("revec_query_vectors_total", "how"): "{{how}}"},
        ),
        Panel(
            "Requests over HTTP",
            "By status.",
            "reqps",
            {_rate("revec_http_requests_total", "status"): "{{status}}"},
        ),
        Panel(
            "Slow routes, 95 of 100",
            "From a request's head to the end of its answer.",
            "s",
            {_slow(0.95, "revec_http_request_duration_seconds", "route", ""): "{{route}}"},
        ),
        Panel(
            "Requests in hand",
            "At this moment, by server.",
            "short",
            {"sum by (instance) (revec_http_requests_in_flight)": "{{instance}}"},
        ),
        Panel(
            "Memory",
            "Of every process.",
            "bytes",
            {"max by (job, instance) (process_resident_memory_bytes)": "{{job}} {{instance}}"},
        ),
    ],
)

QUEUE = Dashboard(
    "revec-queue",
    "Revec: queue, models and workers",
    "What is to be done, who does it, what it costs.",
    [
        Panel(
            "Queue by lane",
            "Open work. Ten thousand edits (live and jit) are an alert; a backfill's window is bounded.",
            "short",
            {f"sum by (collection, lane) (revec_queue_documents{{{COLLECTION}}})": "{{collection}} {{lane}}"},
            limit=10_000,
        ),
        Panel(
            "Queue by state",
            "waiting, in hand, later (given back for a while).",
            "short",
            {f"sum by (state) (revec_queue_documents{{{COLLECTION}}})": "{{state}}"},
        ),
        Panel(
            "Oldest open work",
            "By lane; what a person paused is not counted.",
            "s",
            {
                f"max by (collection, lane) (revec_queue_oldest_age_seconds{{{COLLECTION}}})": "{{collection}} {{lane}}"
            },
        ),
        Panel(
            "Documents done",
            "By what became of them, per second.",
            "ops",
            {_rate("revec_embeddings_total", "outcome"): "{{outcome}}"},
        ),
        Panel(
            "Documents that failed",
            "As a share, by index. More than 1% is an alert.",
            "percentunit",
            {_share("revec_embeddings_total", "index", 'outcome="dead"'): "{{index}}"},
            limit=0.01,
        ),
        Panel(
            "Dead letters",
            "They wait for a person. 100 are an alert, 1,000 a call.",
            "short",
            {f"sum by (collection) (revec_dead_letters{{{COLLECTION}}})": "{{collection}}"},
            limit=100,
        ),
        Panel(
            "Requests to models",
            "By outcome: ok, refused, invalid, or a trouble.",
            "reqps",
            {_rate("revec_provider_requests_total", "model, outcome"): "{{model}} {{outcome}}"},
        ),
        Panel(
            "Models, 95 of 100",
            "How long a request takes.",
            "s",
            {_slow(0.95, "revec_provider_request_duration_seconds", "model", ""): "{{model}}"},
        ),
        Panel(
            "Models that rest",
            "1: it has failed, has not answered since, and is waited for.",
            "short",
            {"max by (model) (revec_breaker_open)": "{{model}}"},
            limit=1,
        ),
        Panel(
            "Tokens",
            "Per second, by model and lane.",
            "short",
            {_rate("revec_provider_tokens_total", "model, lane"): "{{model}} {{lane}}"},
        ),
        Panel(
            "Cost of an hour",
            "US dollars, at the pace of this moment.",
            "currencyUSD",
            {f"3600 * {_rate('revec_provider_cost_usd_total', 'model')}": "{{model}}"},
        ),
        Panel(
            "Packs that were held back",
            "By a limit, a budget or a rest.",
            "ops",
            {_rate("revec_provider_held_back_total", "model"): "{{model}}"},
        ),
        Panel(
            "One claim, 95 of 100",
            "From its texts to settled vectors.",
            "s",
            {_slow(0.95, "revec_pack_duration_seconds", "index", ""): "{{index}}"},
        ),
        Panel(
            "Memory of workers",
            "450 MB of the 512 that a worker may take unless it is told otherwise are an alert.",
            "bytes",
            {"max by (instance) (revec_worker_memory_bytes)": "{{instance}}"},
            limit=450e6,
        ),
        Panel(
            "Workers",
            "Whose heart beats; and what the brake leaves of their backfill.",
            "short",
            {
                "max(revec_workers)": "workers",
                "min by (instance) (revec_worker_backfill_speed_ratio)": "speed of {{instance}}",
            },
        ),
    ],
)

MIGRATION = Dashboard(
    "revec-migration",
    "Revec: a migration",
    "How far it is, what it waits for, whether it could go back.",
    [
        Panel(
            "State",
            "Of the last migration of each collection.",
            "short",
            {
                f"max by (collection, migration, state) (revec_migration_state{{{COLLECTION}}})": "{{collection}} {{state}}"
            },
            kind="table",
            width=12,
        ),
        Panel(
            "Gates",
            "The last word on each; only PASSED moves on.",
            "short",
            {
                f"max by (collection, gate, outcome) (revec_gate_verdict{{{COLLECTION}}})": "{{gate}} {{outcome}}"
            },
            kind="table",
            width=12,
        ),
        Panel(
            "Coverage of both indexes",
            "The share of the documents that each has as they are now.",
            "percentunit",
            {
                f"max by (collection, index) (revec_coverage_ratio{{{COLLECTION}}})": "{{collection}} {{index}}"
            },
        ),
        Panel(
            "Backlog of both indexes",
            "Open work, and documents that the backfill will come to.",
            "short",
            {
                f"max by (collection, index) (revec_backlog_documents{{{COLLECTION}}})": "{{collection}} {{index}}"
            },
        ),
        Panel(
            "Pace",
            "Texts that models embedded, per second.",
            "ops",
            {
                f"max by (collection) (revec_embedded_texts_per_second{{{COLLECTION}}})": "{{collection}}",
                "max by (instance) (revec_worker_documents_per_second)": "documents of {{instance}}",
            },
        ),
        Panel(
            "Spent, and the cap",
            "US dollars, on every call for the new index.",
            "currencyUSD",
            {
                f"max by (collection) (revec_migration_spent_usd{{{COLLECTION}}})": "{{collection}} spent",
                f"max by (collection) (revec_migration_budget_usd{{{COLLECTION}}})": "{{collection}} cap",
            },
        ),
        Panel(
            "Overlap in the shadow",
            "Of ten hits, those that both indexes show; floor: the old index with itself.",
            "percentunit",
            {
                f"max by (collection) (revec_shadow_overlap_ratio{{{COLLECTION}}})": "{{collection}} both",
                f"max by (collection) (revec_shadow_floor_overlap_ratio{{{COLLECTION}}})": "{{collection}} floor",
            },
        ),
        Panel(
            "Latency delta in the shadow",
            "How much longer the new index takes. More than 80 ms is an alert.",
            "s",
            {f"max by (collection) (revec_shadow_latency_delta_seconds{{{COLLECTION}}})": "{{collection}}"},
            limit=0.08,
        ),
        Panel(
            "Other first hits, and failures",
            "Of the observations of the last hour.",
            "short",
            {
                f"max by (collection) (revec_shadow_mismatch_ratio{{{COLLECTION}}})": "{{collection}} other first hit",
                f"max by (collection) (revec_shadow_failed_observations{{{COLLECTION}}})": "{{collection}} failed",
            },
        ),
        Panel(
            "Observations",
            "Questions that were asked of both, and those that were dropped.",
            "ops",
            {
                _rate(
                    "revec_shadow_observations_total", "collection, how", COLLECTION
                ): "{{collection}} {{how}}"
            },
        ),
        Panel(
            "Seconds without a guard",
            "While users may see the new index. 60 are an alert.",
            "s",
            {f"max by (collection) (revec_guard_silence_seconds{{{COLLECTION}}})": "{{collection}}"},
            limit=60,
        ),
        Panel(
            "Held, paused, rollback lost",
            "1: it is so.",
            "short",
            {
                f"max by (collection) (revec_migration_held{{{COLLECTION}}})": "{{collection}} held",
                f"max by (collection) (revec_migration_paused{{{COLLECTION}}})": "{{collection}} paused",
                f"max by (collection) (revec_migration_rollback_lost{{{COLLECTION}}})": "{{collection}} rollback lost",
            },
        ),
        Panel(
            "Days until a model is switched off",
            "As far as it was announced. 60 are an alert.",
            "d",
            {"(min by (model) (revec_model_shutdown_timestamp_seconds) - time()) / 86400": "{{model}}"},
        ),
    ],
)

DASHBOARDS = (SEARCH, QUEUE, MIGRATION)
