"""Does the model answer, does the database rank what it says, and what does that cost?

Three texts, and the first of them as a question, go to the real provider, in two calls that leave no line in
the ledger; the database ranks the vectors without storing them.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from revec.doctor.base import Case
from revec.doctor.guarded import guarded
from revec.model.errors import RevecError
from revec.postgres.database import Connection
from revec.postgres.queries import beside
from revec.providers.base import Matrix, Provider, TextInput
from revec.work.prices import MILLION, price

SQL = beside(__file__)
TEXTS = (
    "A password is reset from the sign-in page: a link is sent by mail.",
    "Invoices are due thirty days after the delivery.",
    "The wing's lift grows with the square of the speed.",
)
RIGHT = "a document is found by its own words"
WRONG = "another document is nearer to a document's own words: the model does not say the same twice"


@dataclass(frozen=True, slots=True)
class Smoke:
    """What one document and one search cost. `dollars`: None where nobody knows the price."""

    model: str
    passed: bool
    why: str
    dims: int | None = None
    tokens: int | None = None
    tokens_counted_by: str | None = None  # the provider, or us
    dollars: Decimal | None = None
    embed_ms: float | None = None  # the texts
    query_ms: float | None = None  # the question
    search_ms: float | None = None  # in the database


async def smoke(conn: Connection, case: Case, provider: Provider) -> Smoke:
    """Embed and search, and leave nothing behind; what fails is said, not raised."""
    try:
        return await _tried(conn, case, provider)
    except RevecError as error:
        return Smoke(provider.name, passed=False, why=str(error))


async def _tried(conn: Connection, case: Case, provider: Provider) -> Smoke:
    asks = await provider.traits()
    texts = [asks.document.prefix + text for text in TEXTS]
    question = asks.query.prefix + TEXTS[0]
    began = time.perf_counter()
    documents = await provider.embed([TextInput(text) for text in texts], "document")
    embedded = time.perf_counter()
    query = await provider.embed([TextInput(question)], "query")
    asked = time.perf_counter()
    found = await _nearest(conn, case, documents.matrix, query.matrix)
    ended = time.perf_counter()
    by_provider = documents.tokens is not None and query.tokens is not None
    tokens = (
        (documents.tokens or 0) + (query.tokens or 0)
        if by_provider
        else sum(provider.count([*texts, question]))
    )
    cost = price(provider.name)
    return Smoke(
        provider.name,
        passed=found == 0,
        why=RIGHT if found == 0 else WRONG,
        dims=asks.dims,
        tokens=tokens,
        tokens_counted_by="the provider" if by_provider else "us",
        dollars=None if cost is None else cost * tokens / MILLION,
        embed_ms=_ms(embedded - began),
        query_ms=_ms(asked - embedded),
        search_ms=_ms(ended - asked),
    )


async def _nearest(conn: Connection, case: Case, documents: Matrix, query: Matrix) -> int:
    vectors = [_text(vector) for vector in documents]
    async with guarded(conn, case.limits):
        found: Any = await (
            await conn.execute(SQL.nearest, {"vectors": vectors, "query": _text(query[0])})
        ).fetchone()
    return int(found.text)


def _text(vector: Matrix) -> str:
    return "[" + ",".join(map(str, vector.tolist())) + "]"


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 1)
