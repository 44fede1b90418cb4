"""Spans, by OpenTelemetry's API alone: without its SDK in the process they go nowhere and cost microseconds.

Names and attributes are OpenTelemetry's own where there are any (GenAI and database conventions), else
`revec.*`. No text, no query, no key is in them; of an error its kind and not its words, which may quote one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, StatusCode

Value = str | int | float | bool

_tracer = trace.get_tracer("revec")


@contextmanager
def span(name: str, /, **about: Value) -> Iterator[Span]:
    """A span around the body. `about`: attributes of ours."""
    attributes = {f"revec.{key}": value for key, value in about.items()}
    with _around(name, SpanKind.INTERNAL, attributes) as current:
        yield current


@contextmanager
def embedding(address: str, inputs: int) -> Iterator[Span]:
    """A request to a model, by the GenAI conventions. `address`: provider:model."""
    provider, _, model = address.partition(":")
    attributes: dict[str, Value] = {
        "gen_ai.operation.name": "embeddings",
        "gen_ai.provider.name": provider,
        "gen_ai.request.model": model,
        "revec.inputs": inputs,
    }
    with _around(f"embeddings {model}", SpanKind.CLIENT, attributes) as current:
        yield current


def embedded(current: Span, tokens: int | None, dims: int) -> None:
    """What came of it."""
    current.set_attribute("gen_ai.embeddings.dimension.count", dims)
    if tokens is not None:
        current.set_attribute("gen_ai.usage.input_tokens", tokens)


@contextmanager
def find(index_id: int, name: str, limit: int) -> Iterator[Span]:
    """A look for hits, by the database conventions."""
    attributes: dict[str, Value] = {
        "db.system.name": "postgresql",
        "db.collection.name": f"revec.vectors_{index_id}",
        "db.operation.name": "SELECT",
        "db.query.summary": "SELECT nearest",
        "revec.index": name,
        "revec.limit": limit,
    }
    with _around("SELECT nearest", SpanKind.CLIENT, attributes) as current:
        yield current


def found(current: Span, hits: int) -> None:
    current.set_attribute("db.response.returned_rows", hits)


def ids() -> dict[str, str]:
    """Of the span that this happens in, for a line of a log; none where nobody traces."""
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return {}
    return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}


@contextmanager
def _around(name: str, kind: SpanKind, attributes: dict[str, Value]) -> Iterator[Span]:
    with _tracer.start_as_current_span(
        name, kind=kind, attributes=attributes, record_exception=False, set_status_on_exception=False
    ) as current:
        try:
            yield current
        except BaseException as error:
            current.set_attribute("error.type", type(error).__name__)
            current.set_status(StatusCode.ERROR)
            raise
