"""The alert rules, each with a series that fires it and one that does not: `python -m ops` writes them down."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

MINUTES = 30  # of each story of a test, looked at when it ends
DAY = 86_400  # seconds

Series = Mapping[str, str]  # series → its values, as promtool writes them


@dataclass(frozen=True, slots=True)
class Alert:
    """`about` and `way_out` may name labels as promtool does: {{ $labels.collection }}."""

    name: str
    expr: str
    wait: str  # how long it has to be so
    severity: str  # page: somebody gets up; ticket: somebody looks today
    about: str
    way_out: str
    fires: Series
    labels: Mapping[str, str]  # of the alert that fires
    quiet: Series = field(default_factory=dict)


COLLECTION = {"collection": "articles"}
INDEX = {"collection": "articles", "index": "m#1"}
MODEL = {"model": "openai:m"}
MIGRATION = {"collection": "articles", "migration": "7"}
C = '{collection="articles"}'
CI = '{collection="articles",index="m#1"}'
CM = '{collection="articles",migration="7"}'
M = '{model="openai:m"}'


def _searches(fast: str, slow: str) -> Series:
    """`fast`: searches a minute below 0.5 s; `slow`: those that took up to 2.5 s."""
    bucket = 'revec_search_duration_seconds_bucket{collection="articles",stage="whole",le="%s"}'
    return {bucket % "0.5": fast, bucket % "0.8": fast, bucket % "2.5": slow, bucket % "+Inf": slow}


def _embeddings(written: str, dead: str) -> Series:
    series = 'revec_embeddings_total{index="m#1",outcome="%s"}'
    return {series % "written": written, series % "dead": dead}


def _answers(answered: str, failed: str) -> Series:
    series = 'revec_searches_total{index="m#1",epoch="3",how="%s"}'
    return {series % "answered": answered, series % "failed": failed}


ALERTS = (
    Alert(
        "RevecProjectionLag",
        "max by (collection) (revec_projection_lag_seconds) > 300",
        "1m",
        "page",
        "Changes of tables wait for more than five minutes in {{ $labels.collection }}",
        "`revec status {{ $labels.collection }}` says why; a worker has to run",
        {f"revec_projection_lag_seconds{C}": "0+60x30"},
        COLLECTION,
        {f"revec_projection_lag_seconds{C}": "240x30"},
    ),
    Alert(
        "RevecQueueDeep",
        'sum by (collection) (revec_queue_documents{lane=~"live|jit"}) > 10000',
        "5m",
        "ticket",
        "More than 10,000 edits wait in {{ $labels.collection }}",
        "`revec queue stats {{ $labels.collection }}`, then more workers",
        {'revec_queue_documents{collection="articles",index="m#1",lane="live",state="waiting"}': "10001x30"},
        COLLECTION,
        {
            'revec_queue_documents{collection="articles",index="m#1",lane="live",state="waiting"}': "9000x30",
            'revec_queue_documents{collection="articles",index="m#1",lane="backfill",state="waiting"}': "90000x30",
        },
    ),
    Alert(
        "RevecSearchSlow",
        "histogram_quantile(0.99, sum by (collection, le) "
        '(rate(revec_search_duration_seconds_bucket{stage="whole"}[5m]))) > 0.8',
        "5m",
        "page",
        "One search of a hundred takes more than 0.8 s in {{ $labels.collection }}",
        "The dashboard shows which stage; a model that is slow is another's trouble, a database is yours",
        _searches("0+90x30", "0+100x30"),
        COLLECTION,
        _searches("0+100x30", "0+100x30"),
    ),
    Alert(
        "RevecWorkerMemory",
        "revec_worker_memory_bytes > 450e6 and revec_worker_memory_bytes > 0.83 * revec_worker_memory_ceiling_bytes",
        "5m",
        "ticket",
        "The worker at {{ $labels.instance }} takes more than 450 MB, and nearly all that it may",
        "A larger ceiling (REVEC_MEMORY), fewer claims at once, or another worker",
        {
            'revec_worker_memory_bytes{instance="w1"}': "460e6x30",
            'revec_worker_memory_ceiling_bytes{instance="w1"}': "512e6x30",
        },
        {"instance": "w1"},
        {
            'revec_worker_memory_bytes{instance="w1"}': "460e6x30",
            'revec_worker_memory_ceiling_bytes{instance="w1"}': "2e9x30",
        },
    ),
    Alert(
        "RevecBreakerOpen",
        "max by (model) (revec_breaker_open) == 1",
        "2m",
        "page",
        "{{ $labels.model }} fails, and work waits for it",
        "`revec providers list` says what it answered; `revec providers reset` asks it again at once",
        {f"revec_breaker_open{M}": "1x30"},
        MODEL,
        {f"revec_breaker_open{M}": "0 1 0 1 0x26"},
    ),
    Alert(
        "RevecEmbeddingErrors",
        'sum by (index) (rate(revec_embeddings_total{outcome="dead"}[10m])) '
        "/ sum by (index) (rate(revec_embeddings_total[10m])) > 0.01",
        "5m",
        "ticket",
        "More than one document of a hundred becomes a dead letter in {{ $labels.index }}",
        "`revec queue list NAME failed` says why",
        _embeddings("0+95x30", "0+5x30"),
        {"index": "m#1"},
        _embeddings("0+1000x30", "0+5x30"),
    ),
    Alert(
        "RevecSearchErrors",
        'sum by (index) (rate(revec_searches_total{how=~"failed|late"}[10m])) '
        "/ sum by (index) (rate(revec_searches_total[10m])) > 0.01",
        "5m",
        "page",
        "More than one search of a hundred fails or is late with {{ $labels.index }}",
        "`revec status` says what rests; while a migration is under way `revec rollback` takes users back",
        _answers("0+95x30", "0+5x30"),
        {"index": "m#1"},
        _answers("0+1000x30", "0+5x30"),
    ),
    Alert(
        "RevecDeadLetters",
        "sum by (collection) (revec_dead_letters) > 100",
        "10m",
        "ticket",
        "More than 100 dead letters wait for a person in {{ $labels.collection }}",
        "`revec queue list {{ $labels.collection }} failed`, then `retry` or `accept`",
        {f"revec_dead_letters{CI}": "101x30"},
        COLLECTION,
        {f"revec_dead_letters{CI}": "100x30"},
    ),
    Alert(
        "RevecDeadLettersMany",
        "sum by (collection) (revec_dead_letters) > 1000",
        "5m",
        "page",
        "More than 1,000 dead letters wait for a person in {{ $labels.collection }}",
        "`revec queue list {{ $labels.collection }} failed`: so many have one cause, and it goes on",
        {f"revec_dead_letters{CI}": "1001x30"},
        COLLECTION,
        {f"revec_dead_letters{CI}": "1000x30"},
    ),
    Alert(
        "RETR_DUAL_VARIANCE_HIGH",
        "max by (collection) (revec_shadow_latency_delta_seconds > 0.08) "
        "or max by (collection) (revec_shadow_failed_observations > 0) "
        "or max by (collection) (revec_shadow_overlap_ratio < 0.1 and revec_shadow_floor_overlap_ratio > 0.5)",
        "5m",
        "ticket",
        "The index in the shadow of {{ $labels.collection }} is slower by 80 ms, fails, or shows nothing that "
        "the other one shows",
        "`revec shadow {{ $labels.collection }}` shows what was seen; nothing is cut over meanwhile",
        {f"revec_shadow_latency_delta_seconds{C}": "0.09x30", f"revec_shadow_failed_observations{C}": "0x30"},
        COLLECTION,
        {
            f"revec_shadow_latency_delta_seconds{C}": "0.02x30",
            f"revec_shadow_failed_observations{C}": "0x30",
            f"revec_shadow_overlap_ratio{C}": "0.5x30",
            f"revec_shadow_floor_overlap_ratio{C}": "0.98x30",
        },
    ),
    Alert(
        "RevecNotFresh",
        "max by (collection) (revec_lag_seconds) > 120",
        "5m",
        "page",
        "An edit of {{ $labels.collection }} has waited for four times the freshness goal",
        "`revec status {{ $labels.collection }}` says what it waits for",
        {f"revec_lag_seconds{C}": "121x30"},
        COLLECTION,
        {f"revec_lag_seconds{C}": "30 200 30 200 30x26"},
    ),
    Alert(
        "RevecRollbackLost",
        "max by (collection, migration) (revec_migration_rollback_lost) == 1",
        "1m",
        "page",
        "Migration {{ $labels.migration }} of {{ $labels.collection }} could not be rolled back now",
        "`revec status {{ $labels.collection }}` says why: the old model is gone, or its index is not written",
        {f"revec_migration_rollback_lost{CM}": "1x30"},
        MIGRATION,
        {f"revec_migration_rollback_lost{CM}": "0x30"},
    ),
    Alert(
        "RevecHeld",
        "max by (collection, migration) (revec_migration_held) == 1",
        "0m",
        "page",
        "A guard paused migration {{ $labels.migration }} of {{ $labels.collection }}, or rolled it back",
        "`revec status {{ $labels.collection }}` says why; `revec resume` lets it go on",
        {f"revec_migration_held{CM}": "1x30"},
        MIGRATION,
        {f"revec_migration_held{CM}": "0x30"},
    ),
    Alert(
        "RevecGuardDead",
        "max by (collection, migration) (revec_guard_silence_seconds) > 60",
        "1m",
        "page",
        "Nobody guards migration {{ $labels.migration }} of {{ $labels.collection }}, and users see its index",
        "Run `revec worker`",
        {f"revec_guard_silence_seconds{CM}": "0+60x30"},
        MIGRATION,
        {f"revec_guard_silence_seconds{CM}": "2x30"},
    ),
    Alert(
        "RevecNobodyCounts",
        "time() - max(revec_census_timestamp_seconds) > 180 or absent(revec_census_timestamp_seconds)",
        "5m",
        "page",
        "No worker has counted for minutes: edits wait, nobody guards, and every other figure is old",
        "Run `revec worker --health ADDRESS` and scrape it; where one is scraped, its log says what is wrong",
        {"revec_census_timestamp_seconds": "0x30"},
        {},
        {"revec_census_timestamp_seconds": "0+60x30"},
    ),
    Alert(
        "RevecIndexFaulted",
        "max by (collection, index) (revec_index_faulted) == 1",
        "1m",
        "page",
        "{{ $labels.index }} of {{ $labels.collection }} is not written: its model or its store is not trusted",
        "`revec status {{ $labels.collection }}` says what was seen",
        {f"revec_index_faulted{CI}": "1x30"},
        INDEX,
        {f"revec_index_faulted{CI}": "0x30"},
    ),
    Alert(
        "RevecModelShutdown",
        f"min by (model) (revec_model_shutdown_timestamp_seconds) - time() < {60 * DAY}",
        "1m",
        "ticket",
        "{{ $labels.model }} is switched off in less than 60 days",
        "`revec plan` says what moving away from it takes",
        {f"revec_model_shutdown_timestamp_seconds{M}": f"{59 * DAY}x30"},
        MODEL,
        {f"revec_model_shutdown_timestamp_seconds{M}": f"{61 * DAY}x30"},
    ),
)


def rules() -> str:
    """A file of rules for Prometheus."""
    return "".join(f"{line}\n" for line in _rules())


def _rules() -> Iterator[str]:
    yield "# Written by `python -m ops` from ops/alerts.py; ops/alerts_test.yml tries each one."
    yield "groups:"
    yield "  - name: revec"
    yield "    rules:"
    for alert in ALERTS:
        yield f"      - alert: {alert.name}"
        yield f"        expr: {json.dumps(alert.expr)}"
        yield f"        for: {alert.wait}"
        yield "        labels:"
        yield f"          severity: {alert.severity}"
        yield "        annotations:"
        for name, words in _annotations(alert).items():
            yield f"          {name}: {json.dumps(words)}"


def tests() -> str:
    """What `promtool test rules` reads: of each alert a case where it fires, and one where it does not."""
    return "".join(f"{line}\n" for line in _tests())


def _tests() -> Iterator[str]:
    yield "# Written by `python -m ops` from ops/alerts.py."
    yield "rule_files: [alerts.yml]"
    yield "evaluation_interval: 1m"
    yield "tests:"
    for alert in ALERTS:
        yield from _case(f"{alert.name} fires", alert, alert.fires, fires=True)
        yield from _case(f"{alert.name} is quiet", alert, alert.quiet, fires=False)


def _case(name: str, alert: Alert, series: Series, *, fires: bool) -> Iterator[str]:
    yield f"  - name: {name}"
    yield "    interval: 1m"
    yield "    input_series:"
    for each, values in series.items():
        yield f"      - series: {json.dumps(each)}"
        yield f"        values: {json.dumps(values)}"
    yield "    alert_rule_test:"
    yield f"      - eval_time: {MINUTES}m"
    yield f"        alertname: {alert.name}"
    if not fires:
        yield "        exp_alerts: []"
        return
    yield "        exp_alerts:"
    yield f"          - exp_labels: {json.dumps({'severity': alert.severity, **alert.labels})}"
    yield f"            exp_annotations: {json.dumps(_filled(alert))}"


def _annotations(alert: Alert) -> dict[str, str]:
    return {"summary": alert.about, "way_out": alert.way_out}


def _filled(alert: Alert) -> dict[str, str]:
    """As they read when it fires."""
    found = _annotations(alert)
    for label, value in alert.labels.items():
        found = {name: words.replace(f"{{{{ $labels.{label} }}}}", value) for name, words in found.items()}
    return found
