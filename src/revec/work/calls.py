"""Calls to a provider: admitted by its limits, budgets and health, written down, and learnt from.

All workers on all hosts share one bucket a model and resource (token bucket, continuous refill), kept
in the database; its clock is the database's. The provider's own headers correct it: the level at once,
the rate of refill by an exponentially weighted mean, so that neither a wrong declaration nor another
application that draws on the same quota leads to a storm of 429s.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from revec.model.errors import AnswerInvalid, InputRefused, ProviderError, ProviderUnavailable, Trouble
from revec.observe import events, traces
from revec.observe.failpoints import failpoint
from revec.postgres.database import DATABASE_TROUBLE, Connection, Database, first_line
from revec.postgres.queries import beside
from revec.providers.base import Provider, TextInput, Vectors
from revec.work.prices import price
from revec.work.queue import BACKFILL, JIT, LIVE

SQL = beside(__file__)

QUERY = 4  # in the ledger only: a query is not admitted, it has left already
SHADOW = 5  # a query that is asked of a second index, behind its answer
PROOF = 3  # a lane of its own: it sees for itself whether the model answers, but not above its limits
# Of a bucket, left for queries and more urgent lanes.
RESERVE = {LIVE: 0.02, JIT: 0.01, BACKFILL: 0.05, PROOF: 0.0, SHADOW: 0.02}
LANES = {LIVE: "live", JIT: "jit", BACKFILL: "backfill", PROOF: "proof", QUERY: "query", SHADOW: "shadow"}
UNBILLED = {"auth", "quota", "rate", "refused"}  # without a word on it; as the ledger has it
REST = (1.0, 60.0)  # seconds a provider rests after a failure: first, longest
LONGEST_WAIT = 20.0  # seconds a pack waits for its turn; then its documents are given back
PROOFS_WAIT = 120.0  # nothing is given back of a proof: it would begin anew


NOBODY = ""  # texts that are embedded to verify


class NotNow(ProviderUnavailable):
    """The call was not let through, so nothing was sent."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What the database said to a pack that wants to leave."""

    call: int | None  # its number in the ledger, where it may
    wait: float  # seconds, where it may not yet
    next_in: float  # seconds until another one like it might
    denied: str | None  # resting, probing, quota or budget
    why: str | None


@dataclass(frozen=True, slots=True)
class Ask:
    """A pack that wants to leave."""

    model: str
    index_id: int | None
    lane: int
    inputs: int
    tokens: int
    tenants: Mapping[str, int]  # → its share of the tokens
    price: Decimal | None = None  # US dollars per million tokens

    async def admit(self, conn: Connection, *, now: datetime | None = None) -> Turn:
        """One round trip; `now` is the clock of a simulation."""
        row: Any = await (
            await conn.execute(
                SQL.admit,
                {
                    "model": self.model,
                    "index": self.index_id,
                    "lane": self.lane,
                    "inputs": self.inputs,
                    "tokens": self.tokens,
                    "tenants": list(self.tenants),
                    "shares": list(self.tenants.values()),
                    "price": self.price,
                    "reserve": RESERVE[self.lane],
                    "now": now,
                },
            )
        ).fetchone()
        return Turn(*row)

    def tell(self, report: Report, seconds: float) -> None:
        """What came of it, and how long it took."""
        told(
            *(self.model, self.lane, report),
            inputs=self.inputs,
            tokens=self.tokens,
            price=self.price,
            seconds=seconds,
        )


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a call."""

    outcome: str  # ok, refused, invalid, or a Trouble
    billed: int | None = None  # tokens, as the provider counted them
    headers: Mapping[str, str] = field(default_factory=dict)
    retry_after: float | None = None  # seconds
    why: str | None = None

    async def write(self, conn: Connection, call: int, *, now: datetime | None = None) -> None:
        first, longest = REST
        await conn.execute(
            SQL.report,
            {
                "call": call,
                "outcome": self.outcome,
                "billed": self.billed,
                "limits": Jsonb(limits(self.headers)),
                "retry_after": self.retry_after,
                "why": self.why,
                "first_rest": first,
                "longest_rest": longest,
                "now": now,
            },
        )


def limits(headers: Mapping[str, str]) -> dict[str, dict[str, float]]:
    """What an answer's headers say of the limits: resource → limit a minute, remaining.

    The names are OpenAI's; Azure, Groq, Together and most gateways use them too.
    """
    told: dict[str, dict[str, float]] = {}
    for resource in ("tokens", "requests"):
        for what in ("limit", "remaining"):
            try:
                number = float(headers[f"x-ratelimit-{what}-{resource}"])
            except (KeyError, ValueError):
                continue
            if 0 <= number < 1e15:  # noqa: PLR2004 - NaN and nonsense are no limits
                told.setdefault(resource, {})[what] = number
    return told


def told(
    model: str,
    lane: int,
    report: Report,
    *,
    inputs: int,
    tokens: int,
    price: Decimal | None,
    seconds: float | None,
) -> None:
    """An event of a call, for the metrics: by the same rules as its line in the ledger."""
    billed = report.billed
    if billed is None:
        billed = 0 if report.outcome in UNBILLED else tokens
    dollars = None if price is None else float(billed * price / 1_000_000)
    events.emit(events.Called(model, LANES[lane], report.outcome, inputs, billed, dollars, seconds))


def came_of(error: ProviderError) -> Report:
    match error:
        case InputRefused():
            return Report("refused")
        case AnswerInvalid():
            return Report("invalid")
        case ProviderUnavailable():
            return Report(error.trouble, headers=error.headers, retry_after=error.retry_after, why=str(error))
        case _:
            return Report(Trouble.SERVER, why=str(error))


class Caller:
    """Embeds for one process: every pack waits for its turn, and is reported."""

    def __init__(self, database: Database, stopping: asyncio.Event | None = None) -> None:
        self._database = database
        self._stopping = stopping or asyncio.Event()
        self._queues: dict[str, asyncio.Lock] = {}  # model → who of this process asks next
        self._not_before: dict[str, float] = {}  # model → when the loop's clock says asking makes sense

    async def embed(
        self,
        provider: Provider,
        texts: Sequence[str],
        *,
        index_id: int | None,
        lane: int,
        tenants: Mapping[str, int] | None = None,
    ) -> Vectors:
        """The texts' vectors, when it is their turn. `tenants`: whose tokens they are; None: nobody's.

        Raises:
            NotNow: the provider rests, a budget is spent, the worker leaves: nothing was sent.
            ProviderError: as the provider raised it.
        """
        tokens = tenants or {NOBODY: sum(provider.count(texts))}
        ask = Ask(
            model=provider.name,
            index_id=index_id,
            lane=lane,
            inputs=len(texts),
            tokens=sum(tokens.values()),
            tenants=tokens,
            price=price(provider.name),
        )
        call = await self._admitted(ask)
        failpoint("before_send")
        began = time.perf_counter()
        try:
            with traces.embedding(provider.name, len(texts)) as span:
                answer = await provider.embed([TextInput(text) for text in texts])
                traces.embedded(span, answer.tokens, answer.matrix.shape[-1])
        except ProviderError as error:
            await self._report(ask, call, came_of(error), began)
            raise
        failpoint("after_response")
        await self._report(ask, call, Report("ok", answer.tokens, answer.headers), began)
        return answer

    async def _report(self, ask: Ask, call: int, report: Report, began: float) -> None:
        """A report that is lost costs an estimate; never an answer that was paid for."""
        ask.tell(report, time.perf_counter() - began)
        try:
            async with self._database.transaction("worker") as conn:
                await report.write(conn, call)
        except (*DATABASE_TROUBLE, psycopg.DataError) as error:
            events.emit(events.TryAgain(f"call {call} stays unreported: {first_line(error)}"))

    async def _admitted(self, ask: Ask) -> int:
        """The call's number, after as many waits as it takes."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (PROOFS_WAIT if ask.lane == PROOF else LONGEST_WAIT)
        async with self._in_line(ask):
            while True:
                early = self._not_before.get(ask.model, 0.0) - loop.time()
                if early > 0 and ask.lane == BACKFILL:
                    await self._pause(min(early, deadline - loop.time()))
                async with self._database.transaction("worker") as conn:
                    turn = await ask.admit(conn)
                self._not_before[ask.model] = loop.time() + (turn.next_in or turn.wait)
                if turn.call is not None:
                    return turn.call
                patient = turn.denied in ("quota", "probing") and loop.time() + turn.wait < deadline
                if not patient:
                    raise NotNow(f"{ask.model}: {turn.why}", retry_after=turn.wait)
                await self._pause(turn.wait)

    @asynccontextmanager
    async def _in_line(self, ask: Ask) -> AsyncIterator[None]:
        """Of a process's backfill packs one asks at a time; an edit asks at once."""
        if ask.lane != BACKFILL:
            yield
            return
        async with self._queues.setdefault(ask.model, asyncio.Lock()):
            yield

    def is_early(self, model: str) -> bool:
        """Whether a backfill pack for the model would only stand in line."""
        line = self._queues.get(model)
        early = self._not_before.get(model, 0.0) > asyncio.get_running_loop().time()
        return early and line is not None and line.locked()

    async def _pause(self, seconds: float) -> None:
        """Sleep, unless the worker leaves.

        Raises:
            NotNow: it does.
        """
        if seconds > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), seconds)
        if self._stopping.is_set():
            raise NotNow("the worker leaves")


async def note(
    conn: Connection, *, model: str, tenant: str, inputs: int, tokens: int, price: Decimal | None
) -> int:
    """A call that left without asking: its number in the ledger; what it took is drawn from the buckets."""
    await conn.execute(SQL.met, {"model": model})
    row = await (
        await conn.execute(
            SQL.note,
            {
                "model": model,
                "lane": QUERY,
                "inputs": inputs,
                "tokens": tokens,
                "price": price,
                "tenant": tenant,
            },
        )
    ).fetchone()
    assert row is not None
    return int(row.id)


async def bill(conn: Connection, call: int) -> Any:
    """What the ledger has of a call: model, inputs, tokens, price."""
    row = await (await conn.execute(SQL.bill, {"call": call})).fetchone()
    assert row is not None
    return row


async def resting(conn: Connection, collection_id: int | None = None) -> list[Any]:
    """Models that failed, have not answered since and are waited for: model, rest, why, trouble, seconds."""
    return await (await conn.execute(SQL.resting, {"collection": collection_id})).fetchall()


async def providers(conn: Connection) -> list[Any]:
    return await (await conn.execute(SQL.providers)).fetchall()


async def largest_pack(conn: Connection, model: str) -> int | None:
    """Tokens, where a limit is known."""
    row = await (await conn.execute(SQL.largest_pack, {"model": model})).fetchone()
    return None if row is None else max(1, int(row.tokens))


async def spending(conn: Connection) -> list[Any]:
    """By month and model: calls, inputs, tokens, dollars, unanswered calls."""
    return await (await conn.execute(SQL.spending)).fetchall()


async def spending_of_tenants(conn: Connection, collection_id: int, limit: int = 1000) -> list[Any]:
    """By tenant and model of one collection, the dearest first: calls, tokens, dollars."""
    parameters = {"collection": collection_id, "limit": limit}
    return await (await conn.execute(SQL.spending_of_tenants, parameters)).fetchall()


async def reset(conn: Connection, model: str | None) -> list[str]:
    """Let resting models be asked at once; which did."""
    rows = await conn.execute(SQL.reset, {"model": model})
    return [row.model for row in await rows.fetchall()]


async def declare(conn: Connection, model: str, resource: str, limit: float | None) -> None:
    """A person's word on a limit a minute; None forgets it."""
    if limit is None:
        await conn.execute(SQL.undeclare, {"model": model, "resource": resource})
    else:
        await conn.execute(SQL.declare, {"model": model, "resource": resource, "limit": limit, "now": None})


async def expire(conn: Connection) -> None:
    await conn.execute(SQL.expire)
