"""Metrics: as Prometheus wants them, of what happened, and with nobody's names or words in them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from revec.app import App
from revec.model.access import Role
from revec.observe import events
from revec.observe.metrics import MOST_SEARCHED, Metrics
from tests import steps
from tests.loopback import Loopback
from tests.observe import watched
from tests.web import door

SEARCHED = events.Searched("c", "m#1", 3, "answered", 0.02, 0.01, 0.005)


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_who_cannot_listen_stops_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    """A log whose stream is closed: the others hear of it, the work goes on, and it is said once."""
    heard: list[events.Event] = []

    def deaf(_: events.Event) -> None:
        raise BrokenPipeError

    with events.heard(deaf), events.heard(heard.append):
        events.emit(SEARCHED)
        events.emit(SEARCHED)
    assert heard == [SEARCHED, SEARCHED]
    assert capsys.readouterr().err.count("BrokenPipeError") == 1


async def test_a_server_shows_what_it_did_without_names(app: App, loopback: Loopback) -> None:
    """Its output passes promtool; tenants, queries, ids and texts are nowhere in it."""
    await door.two_tenants(app)
    viewer, operator = await door.holder(app), await door.holder(app, Role.OPERATOR)
    async with door.door(app) as client:
        for q in ("what canary sings", "what canary sings", "which bird"):
            await door.ask(client, viewer, q=q)
        text = (await client.get("/metrics", headers=operator)).text
    assert not watched.promtool("check", "metrics", said=text)
    lines = text.splitlines()
    assert 'revec_query_vectors_total{how="known"} 1.0' in lines
    assert 'revec_query_vectors_total{how="asked"} 2.0' in lines
    assert 'revec_search_duration_seconds_count{collection="c",stage="find"} 3.0' in lines
    for hidden in ("acme", "globex", "canary", "bird", "text of", "revec_worker_memory"):
        assert hidden not in text


async def test_what_a_worker_did_is_counted(app: App, loopback: Loopback) -> None:
    """Documents by outcome, requests by status, tokens; and what was embedded for a bill is the bill."""
    loopback.fault("refuse", times=None, match="poison")
    with watched.listening() as metrics:
        made = await steps.filled(app, 5)
        await steps.put(app, made, steps.drafts(1, start=50, word="poison"))
        await steps.drain(app)
        index = f"{steps.OLD}#1"
        assert value(metrics, "revec_embeddings_total", index=index, outcome="written") == 5
        assert value(metrics, "revec_embeddings_total", index=index, outcome="dead") == 1
        spent = await steps.rows(
            app, "SELECT lane, outcome, count(*) AS n, sum(tokens) AS t FROM revec.call GROUP BY 1, 2"
        )
        lanes = ("live", "jit", "backfill", "proof", "query", "shadow")
        for row in spent:
            of = {"model": steps.OLD, "lane": lanes[row.lane]}
            assert value(metrics, "revec_provider_requests_total", outcome=row.outcome, **of) == row.n
        for lane in {row.lane for row in spent}:
            tokens = sum(row.t for row in spent if row.lane == lane)
            of = {"model": steps.OLD, "lane": lanes[lane]}
            assert value(metrics, "revec_provider_tokens_total", **of) == tokens
        assert value(metrics, "revec_worker_memory_bytes") > 0
        await steps.delete(app, made, "50")  # the dead letter
        await steps.drain(app)
    await steps.assert_oracle(app, made)


async def test_the_database_is_shown_by_whoever_counts(app: App, loopback: Loopback) -> None:
    """And by no other process; from the moment that it is another's turn, no more."""
    await steps.filled(app, 3)
    counting, other = Metrics(), Metrics()
    with events.heard(counting.hear):
        await watched.census(app)
    assert value(counting, "revec_documents", collection="c") == 3
    assert value(other, "revec_documents", collection="c") is None
    counting.hear(events.CensusTaken(None))
    assert value(counting, "revec_documents", collection="c") is None


def test_labels_are_bounded() -> None:
    """However often the route is flipped."""
    metrics = Metrics()
    for epoch in range(3 * MOST_SEARCHED):
        metrics.hear(events.Searched("c", "m#1", epoch, "answered", 0.02, None, None))
    assert metrics.exposition().count(b"\nrevec_searches_total{") == MOST_SEARCHED
    assert (
        value(metrics, "revec_search_duration_seconds_count", collection="c", stage="whole")
        == 3 * MOST_SEARCHED
    )


def test_an_error_s_words_are_no_label() -> None:
    """Nor the place of a store."""
    metrics = Metrics()
    words = "the secret text of a document"
    for event in (
        events.TryAgain(words),
        events.ProviderFailed("m", words),
        events.HeldBack("m", words),
        events.StoreFailed("chroma://user@inner.example:8000", words),
        events.RequestFailed("/v1/x", words),
        events.TurnedAway(words),
        events.IndexFaulted("m#1", words),
        events.Moved(1, "a", "b", words),
    ):
        metrics.hear(event)
    text = metrics.exposition().decode()
    assert "secret" not in text
    assert "inner.example" not in text
    assert 'revec_store_failures_total{store="chroma"} 1.0' in text


def test_help_does_not_load_what_watches() -> None:
    """It has to be quick."""
    said = (
        "import sys\nfrom revec.cli.main import run\n"
        "try: run(['--help'])\nexcept SystemExit: pass\n"
        "assert not {'prometheus_client', 'opentelemetry', 'structlog'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", said], check=True, capture_output=True)
