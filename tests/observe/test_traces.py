"""Spans and lines of a log say what happened to whom, and nothing of what was written or asked."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from revec.app import App
from revec.model.document import Draft
from revec.model.errors import ProviderError
from revec.model.reading import Mode
from revec.observe import context, events, logs, traces
from tests import steps
from tests.conftest import settings_for
from tests.loopback import Loopback
from tests.web import door

SECRETS = {
    "text": "hush-text-of-a-document",
    "title": "hush-title",
    "query": "hush-what-was-asked",
    "key": "hush-key-of-the-provider",
    "tenant": "hush-tenant",
    "refused": "hush-poison",
}


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """What would be sent to a collector."""
    kept = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    monkeypatch.setattr(traces, "_tracer", provider.get_tracer("revec"))
    yield kept
    provider.shutdown()


class Lines(io.StringIO):
    """What was logged."""

    def read_all(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.getvalue().splitlines()]


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lines]:
    kept = Lines()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", kept)
        logs.configure()
    with events.heard(logs.log_json):
        yield kept


def named(spans: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [each for each in spans.get_finished_spans() if each.name == name]


def whole(spans: InMemorySpanExporter) -> str:
    """All that is in them, errors with their words included."""
    return "".join(each.to_json() for each in spans.get_finished_spans())


async def test_a_search_is_a_span_with_its_stages(
    app: App, loopback: Loopback, spans: InMemorySpanExporter
) -> None:
    """The request to the model by the GenAI conventions, the look by those of databases."""
    await steps.filled(app, 3)
    spans.clear()
    await app.retriever.search("c", "document 1", tenant="default", k=2)
    (search,) = named(spans, "revec search")
    (embed,) = named(spans, "revec search embed")
    (asked,) = named(spans, "embeddings fake-64")
    (find,) = named(spans, "SELECT nearest")
    assert search.attributes == {
        "revec.collection": "c",
        "revec.index": f"{steps.OLD}#1",
        "revec.epoch": 1,
        "revec.how": "answered",
        "revec.hits": 2,
    }
    assert {each.parent.span_id for each in (embed, find)} == {search.context.span_id}
    assert asked.parent.span_id == embed.context.span_id
    assert asked.kind is trace.SpanKind.CLIENT
    assert asked.attributes["gen_ai.operation.name"] == "embeddings"
    assert asked.attributes["gen_ai.provider.name"] == "openai"
    assert asked.attributes["gen_ai.embeddings.dimension.count"] == 64
    assert asked.attributes["gen_ai.usage.input_tokens"] > 0
    assert find.attributes["db.system.name"] == "postgresql"
    assert find.attributes["db.response.returned_rows"] == 2


async def test_a_fill_is_claims_packs_and_steps(
    app: App, loopback: Loopback, spans: InMemorySpanExporter
) -> None:
    """A pack holds the requests that were sent for it; waiting is no step."""
    await steps.filled(app, 3)
    (pack, *_) = [each for each in named(spans, "revec pack") if each.attributes["revec.written"]]
    asked = [each for each in named(spans, "embeddings fake-64") if each.parent]
    assert pack.context.span_id in {each.parent.span_id for each in asked}
    assert any(each.attributes["revec.documents"] for each in named(spans, "revec claim"))
    actions = {each.attributes["revec.action"] for each in named(spans, "revec migration step")}
    assert "register the new index" in actions
    assert not any("wait" in action for action in actions)


async def test_of_an_error_there_is_its_kind(
    app: App, loopback: Loopback, spans: InMemorySpanExporter
) -> None:
    """Its words may quote what was asked."""
    await steps.filled(app, 3)
    loopback.fault("503", times=None)
    spans.clear()
    with pytest.raises(ProviderError):
        await app.retriever.search("c", SECRETS["query"], tenant="default", deadline=0.5)
    (search,) = named(spans, "revec search")
    assert search.status.status_code is StatusCode.ERROR
    assert search.attributes["error.type"] == "ProviderUnavailable"
    assert not search.status.description
    assert not search.events


async def test_nobody_s_words_are_in_a_span_or_a_log(
    dsn: str, loopback: Loopback, spans: InMemorySpanExporter, lines: Lines
) -> None:
    """Documents, queries, tenants and keys, of what went well, was refused, failed and was turned away."""
    loopback.fault("refuse", times=None, match=SECRETS["refused"])
    async with App(settings_for(dsn, loopback.url, openai_api_key=SECRETS["key"])) as app:
        made = await steps.collection(app)
        texts = [
            Draft("1", SECRETS["title"], SECRETS["text"], SECRETS["tenant"]),
            Draft("2", "x", SECRETS["refused"], SECRETS["tenant"]),
        ]
        await steps.put(app, made, texts)
        await steps.drain(app)
        viewer = await door.holder(app, tenant=SECRETS["tenant"])
        async with door.door(app) as client:
            for mode in Mode:
                await door.ask(client, viewer, q=SECRETS["query"], mode=mode)
            await door.ask(client, door.showing("hush-shown"))
            loopback.fault("503", times=2)
            await door.ask(client, viewer, q=SECRETS["query"] + " again", mode="vector")
    assert {"PackDone", "Moved", "TurnedAway"} <= {each["event"] for each in lines.read_all()}
    assert "hush" not in lines.getvalue()
    assert "hush" not in whole(spans)
    assert len(spans.get_finished_spans()) > 10


async def test_a_line_says_whose_it_is(app: App, loopback: Loopback, lines: Lines) -> None:
    """The worker's of what a worker did, the migration's of its steps, the request's of what a request met."""
    await steps.filled(app, 2)
    viewer = await door.holder(app)
    async with door.door(app) as client:
        named = await client.get("/v1/collections", headers={**viewer, "x-request-id": "from-a-proxy.1"})
        rude = await client.get("/v1/collections", headers={**viewer, "x-request-id": "two words"})
        shown = {"authorization": "Bearer nonsense", "x-request-id": "turned"}
        await client.get("/v1/collections", headers=shown)
    assert named.headers["x-request-id"] == "from-a-proxy.1"
    assert "x-request-id" not in rude.headers, "it would be in a log as it was sent"
    found = lines.read_all()
    moved = [each for each in found if each["event"] == "Moved"]
    assert moved
    assert all(len(each["worker"]) == 36 and each["migration"] == 1 for each in moved)
    assert [each["request"] for each in found if each["event"] == "TurnedAway"] == ["turned"]
    assert "Searched" not in {each["event"] for each in found}, "figures are no lines"


def test_a_line_says_of_which_trace_it_is(spans: InMemorySpanExporter, lines: Lines) -> None:
    """So that one leads to the other; ids end with what they are of."""
    with context.of(worker="w"), context.of(migration=3), traces.span("x") as current:
        events.emit(events.TryAgain("a lock"))
    events.emit(events.TryAgain("another"))
    first, second = lines.read_all()
    assert first["trace_id"] == f"{current.get_span_context().trace_id:032x}"
    assert (first["worker"], first["migration"]) == ("w", 3)
    assert not {"trace_id", "worker", "migration"} & second.keys()
