"""The fences of the write protocol, and for each one a product without it.

A row of MUTANTS: what is taken away → how → the test that must notice. The test is one of ours,
where it passes on the product as it is. Add yours: one line, and a name that says what is missing.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from uuid import NAMESPACE_OID, uuid4, uuid5

import httpx2
import numpy as np
from psycopg import sql

from revec import langchain, settings
from revec.app import App
from revec.capture import attach, drift, projector, push
from revec.client import remote, twin
from revec.client.client import Client
from revec.client.retrieving import Retrieving
from revec.doctor import examine, guarded, learning
from revec.migrate import (
    adopt,
    backfill,
    census,
    commands,
    conductor,
    decide,
    evidence,
    outlook,
    sample,
    switch,
)
from revec.migrate import canary as showing
from revec.migrate import compare as comparison
from revec.migrate import guard as guard_ticks
from revec.migrate import guarding as guarding_round
from revec.migrate import orders as ordering
from revec.migrate import thresholds as carrying
from revec.migrate.evidence import Evidence
from revec.migrate.gates import base as gates
from revec.migrate.gates import freshness, latency, quality
from revec.migrate.planning import survey
from revec.model.access import Caller, Role
from revec.model.chunking import Count
from revec.model.errors import (
    AnswerInvalid,
    BadInput,
    InputRefused,
    NotFound,
    ProviderUnavailable,
    Refused,
    StoreUnavailable,
    Trouble,
    Unavailable,
)
from revec.model.filter import Either, Filter, read
from revec.model.index import Index
from revec.model.space import QueryRecipe, Space
from revec.model.verdict import Outcome
from revec.observe import census_figures, events
from revec.observe import pages as one_page
from revec.observe.metrics import Metrics
from revec.postgres import (
    audit,
    bridges,
    callers,
    canaries,
    collections,
    documents,
    filters,
    graphs,
    indexes,
    judgements,
    keys,
    leases,
    ledgers,
    migrations,
    outbox,
    overrides,
    pulses,
    sessions,
    shadows,
    tenants,
)
from revec.postgres import guards as guard_rows
from revec.postgres import (
    orders as order_rows,
)
from revec.postgres import samples as minutes
from revec.postgres.database import Connection, Database
from revec.postgres.queries import Queries
from revec.providers import _batches, _gemini_batches, _http
from revec.providers.base import Item
from revec.search import (
    bridge,
    fusion,
    legs,
    lexical,
    precedence,
    pulse,
    queries,
    retriever,
    similar,
    sparing,
    tuning,
    wanting,
    worst,
)
from revec.search import callers as calling
from revec.search import early as searching_early
from revec.search.dual_read import DualReader
from revec.search.retriever import Retriever
from revec.search.sampling import Question
from revec.statistics import guards, margins, paired, samples, sequences
from revec.statistics.guards import RateWatch
from revec.stores import base, elsewhere, pgvector, upkeep
from revec.stores import column as column_store
from revec.stores.base import ChunkSet, Store
from revec.stores.near import Asking
from revec.web import app as web_app
from revec.web import asking, doorkeeper, entrance, problems, streams, tokens
from revec.web.console import again, guests, shelf, visit
from revec.web.console import live as lives
from revec.web.console import visit as console_visit
from revec.web.console.environment import ENVIRONMENT
from revec.web.console.live import Live, View
from revec.web.console.pages import audit as audit_page
from revec.web.console.pages import compare as compare_page
from revec.web.console.pages import queue as page_of_queue
from revec.web.console.pages import settings as settings_page
from revec.work import (
    allowance,
    batches,
    brake,
    calls,
    control,
    demand,
    gather,
    health,
    inline,
    letters,
    memory,
    overview,
    pack,
    queue,
    reading,
    reconcile,
    steering,
    walking,
    worker,
)
from revec.work import drift as index_drift
from revec.work import standing as counting
from revec.work.control import Control
from revec.work.demand import Demand, Unmet
from revec.work.memory import Memory
from revec.work.pack import Worksite
from revec.work.packing import Load
from revec.work.queue import Claim
from revec.work.reading import Piece
from revec.work.worker import Worker
from tests.adopt import test_adopt as adopting
from tests.client import test_contract as client
from tests.client import test_frameworks as frameworks
from tests.client import test_remote as remotely
from tests.client import test_sync as twins
from tests.console import test_audit as audited
from tests.console import test_compare as compared
from tests.console import test_doors as console_doors
from tests.console import test_live as console_live
from tests.console import test_migration as console_migration
from tests.console import test_queue as queue_page
from tests.console import test_search as playground
from tests.console import test_settings as configured
from tests.console import test_shelf as shelved
from tests.console import test_tenants as tenant_pages
from tests.doctor import test_manners as visiting
from tests.doctor import test_telling as diagnosing
from tests.migrate import test_backfill, test_thresholds
from tests.migrate import test_canary as users
from tests.migrate import test_census as counted
from tests.migrate import test_compare as comparing
from tests.migrate import test_course as courses
from tests.migrate import test_early as bridging
from tests.migrate import test_freshness as fresh
from tests.migrate import test_guard as guarding
from tests.migrate import test_old_model as old_models
from tests.migrate import test_orders as ordered
from tests.migrate import test_plan_figures as figures
from tests.migrate import test_quality as judging
from tests.migrate import test_shadowing as shadowing
from tests.migrate import test_telling as telling
from tests.model.test_chunking import by_bytes
from tests.observe import test_census_figures as figured
from tests.providers import test_wires
from tests.search import test_callers as called
from tests.search import test_dual_read as doubled
from tests.search import test_early as early
from tests.search import test_filters, test_lexical, test_queries, test_similar, test_tuning
from tests.search import test_fusion as fused
from tests.search import test_wanting as wished
from tests.statistics import test_guards as watched
from tests.statistics import test_margins as margined
from tests.statistics import test_paired as looked
from tests.statistics import test_samples as sampled
from tests.statistics import test_sequences as followed
from tests.stores import test_elsewhere as away
from tests.stores import test_plans
from tests.web import test_documents as written
from tests.web import test_forged as forged
from tests.web import test_limits as limits
from tests.web import test_similar as near
from tests.web import test_streams as streamed
from tests.web import test_tenants as walls
from tests.web import test_visible as sight
from tests.work import (
    test_batches,
    test_brake,
    test_calls,
    test_chunks,
    test_claims,
    test_control,
    test_health,
    test_interleavings,
    test_packing,
    test_pause_source,
    test_provider_failures,
    test_tenants,
    test_write_protocol,
)
from tests.work import test_inline as directly
from tests.work import test_letters as lettering
from tests.work import test_memory as ceilings
from tests.work import test_overview as desk
from tests.work import test_reconcile as drifting

Patch = Callable[[App], AbstractAsyncContextManager[None]]
PARTS = bridge._parts


@dataclass(frozen=True, slots=True)
class Mutant:
    patch: Patch
    scenario: Callable[..., Awaitable[None]]


def without(queries: Queries, name: str, *parts: str) -> Patch:
    """A named query without these parts of it."""
    return instead(queries, name, *((part, "") for part in parts))


def instead(queries: Queries, name: str, *changes: tuple[str, str]) -> Patch:
    @asynccontextmanager
    async def patch(_: App) -> AsyncIterator[None]:
        was = queries._queries[name]
        queries._queries[name] = sql.SQL(changed(was.as_string(None), changes))  # type: ignore[arg-type]
        try:
            yield
        finally:
            queries._queries[name] = was

    return patch


def rewritten(queries: Queries, name: str, text: str) -> Patch:
    @asynccontextmanager
    async def patch(_: App) -> AsyncIterator[None]:
        was = queries._queries[name]
        queries._queries[name] = sql.SQL(text)  # type: ignore[arg-type]
        try:
            yield
        finally:
            queries._queries[name] = was

    return patch


def function(name: str, *changes: tuple[str, str]) -> Patch:
    """A function of the schema, changed in the test's own database."""

    @asynccontextmanager
    async def patch(app: App) -> AsyncIterator[None]:
        async with app.database.transaction() as conn:
            asked = await conn.execute("SELECT pg_get_functiondef(%s::regproc) AS it", (name,))
            row = await asked.fetchone()
            assert row is not None
            await conn.execute(changed(row.it, changes))  # type: ignore[arg-type]
        yield

    return patch


def ddl(statement: str) -> Patch:
    """The test's own database without a promise of the schema."""

    @asynccontextmanager
    async def patch(app: App) -> AsyncIterator[None]:
        async with app.database.transaction() as conn:
            await conn.execute(statement)  # type: ignore[arg-type]
        yield

    return patch


def attribute(owner: Any, name: str, value: Any) -> Patch:
    @asynccontextmanager
    async def patch(_: App) -> AsyncIterator[None]:
        was = getattr(owner, name)
        setattr(owner, name, value)
        try:
            yield
        finally:
            setattr(owner, name, was)

    return patch


def both(*patches: Patch) -> Patch:
    @asynccontextmanager
    async def patch(app: App) -> AsyncIterator[None]:
        async with AsyncExitStack() as exits:
            for each in patches:
                await exits.enter_async_context(each(app))
            yield

    return patch


def changed(text: str, changes: Sequence[tuple[str, str]]) -> str:
    for old, new in changes:
        assert old in text, f"the mutant is out of date, this is no longer there: {old}"
        text = text.replace(old, new)
    return text


# --- mutants of Python ----------------------------------------------------------------------------


async def nothing(*_: Any, **__: Any) -> None:
    """Instead of something."""


FORGET = queue.close_payment
RANK = comparison.Pool.scores


async def forgotten(
    conn: Any, space: str, token: Any, written: Sequence[bytes], kept: dict[bytes, Any]
) -> None:
    """What was paid for and not written goes like the rest."""
    await FORGET(conn, space, token, [*written, *kept], {})


def of_everybody(pool: comparison.Pool, *of: Any) -> Any:
    """As operators ask."""
    asked = [replace(query, tenant=None) for query in pool.queries]
    return RANK(replace(pool, queries=asked), *of)


async def never(*_: Any) -> bool:
    return False


async def none_of_them(*_: Any) -> list[int]:
    return []


async def nothing_known(*_: Any) -> dict[bytes, Any]:
    return {}


def whole(self: Claim, _: set[int]) -> Claim:
    return self


async def deletions_only(site: Worksite, claim: Claim, gone: set[int]) -> None:
    await REMOVE(site, claim, gone & {job.doc_id for job in claim.jobs if job.action == "delete"})


def called_by(
    what: Callable[[ChunkSet, int], object],
) -> Callable[[elsewhere.Elsewhere, Index, Sequence[ChunkSet]], Awaitable[Sequence[ChunkSet]]]:
    """Points are called by something of theirs that comes again."""

    async def stage(store: elsewhere.Elsewhere, index: Index, sets: Sequence[ChunkSet]) -> Sequence[ChunkSet]:
        ids = iter(
            [
                uuid5(NAMESPACE_OID, f"{index.id} {each.doc_id} {what(each, number)}")
                for each in sets
                for number in range(len(each.vectors))
            ]
        )
        was = elsewhere.uuid4
        elsewhere.uuid4 = lambda: next(ids)  # type: ignore[assignment]
        try:
            return await STAGE(store, index, sets)
        finally:
            elsewhere.uuid4 = was  # type: ignore[assignment]

    return stage


async def paid_again(site: Worksite, claim: Claim, wanted: list[bytes]) -> dict[bytes, Any]:
    try:
        return await COPIED(site, claim, wanted)
    except StoreUnavailable:
        return {}


async def swapped(
    store: pgvector.PgVector, conn: Connection, index: Index, sets: Sequence[ChunkSet]
) -> set[int]:
    """Every document gets its neighbour's vectors; counts, dims and hashes are right."""
    neighbours = [*sets[1:], *sets[:1]]
    pairs = zip(sets, neighbours, strict=True)
    return await REPLACE(store, conn, index, [replace(one, vectors=other.vectors) for one, other in pairs])


async def looked_once(app: App) -> list[str]:
    left = await projector.outstanding(app.database)
    return left + await outlook.outstanding(app.database, app.store, app.limits, 60.0)


async def asked_once(database: Database, store: Store, walk: walking.Walk, by: str) -> Any:
    """Whatever became of the walk meanwhile."""
    page = await walking.lost(database, store, walk)
    async with database.transaction() as conn:
        await walking.note_lost(conn, store, walk, page, heal=True)
        return await reconcile._keep(conn, walk, by)


async def as_they_come(site: Worksite, claim: Claim, pieces: list[Piece], vectors: Any, payment: Any) -> None:
    """One try, in the order of the pack."""
    try:
        sets = await site._staged(pieces, vectors, payment)
        await site._write_once(claim, pieces, sets, vectors, payment)
    except pack.LOCKED as error:
        events.emit(events.TryAgain(str(error)))


async def one_look(site: Worksite, _: Claim, pieces: list[Piece]) -> tuple[dict[bytes, Any], queue.Payment]:
    wanted = sorted({text_hash for piece in pieces for text_hash in piece.hashes})
    async with site.database.transaction("worker") as conn:
        vectors = await site.store.known(conn, site.index.space, wanted)
        missing = [text_hash for text_hash in wanted if text_hash not in vectors]
        payment = await queue.lease_payment(conn, site.index.space.id, missing, site.lease)
    return vectors | payment.vectors, payment


async def all_are_to_blame(items: list[Any], send: Any, bury: Any) -> None:
    try:
        await send(items)
    except InputRefused as error:
        for item in items:
            await bury(item, error)


async def all_places_alike(self: Worker, place: int = 0) -> bool:
    return place != worker.EXPRESS and await EMBED_STEP(self, place)


LEAVE = App.__aexit__


async def models_first(self: App, *_: object) -> None:
    await self._close_reached()
    await LEAVE(self)


def at_a_glance(self: Memory) -> None:
    """Nothing is given back before it is looked."""
    self._base = self._idle = memory.resident() - self._held


def no_ceiling(*_: Any) -> bool:
    return False


def always_fits(*_: Any) -> bool:
    return True


def first_chunk(space: Space, title: str, body: str, _: Count) -> list[str]:
    return RENDERED(replace(space, chunking="none", truncation="at 32 tokens"), title, body, by_bytes)


async def deaf(_: calls.Caller, seconds: float) -> None:
    await asyncio.sleep(max(seconds, 0))


async def in_step(self: Retriever, *arguments: Any, **how: Any) -> Any:
    """The answer leaves when its pulse is written."""
    reading = await SEARCH(self, *arguments, **how)
    await self._note.__self__._flushing  # type: ignore[attr-defined]
    return reading


async def from_the_pool(database: Any) -> str | None:
    async with asyncio.timeout(health.PATIENCE), database.transaction():
        return None


async def in_their_order(self: Any, progress: Any) -> AsyncIterator[Any]:
    """As if the first answer were the first text's; the file of texts is in the order of documents."""
    items = [item async for item in COLLECT(self, progress)]
    for item, name in zip(items, reversed([item.name for item in items]), strict=True):
        yield replace(item, name=name)


async def only_beside_answers(self: Any, files: Sequence[str]) -> None:
    if len(files) > 1:
        await DISCARD(self, files)


def nobodys_is_passed_over(self: Any, line: bytes) -> Item:
    try:
        return ITEM(self, line)
    except AnswerInvalid:
        return Item("nobody's")


def no_word_of_when(sentence: str) -> ProviderUnavailable:
    return ProviderUnavailable(sentence, trouble=Trouble.RATE)


async def all_are_current(_: Connection, ids: Sequence[int], __: Sequence[bytes]) -> set[int]:
    return set(ids)


def one_is_enough(*given: Filter | None) -> Filter | None:
    parts = tuple(each for each in given if each is not None)
    return Either(parts) if parts else None


async def as_far_as_it_went(self: pgvector._Scan, limit: int) -> list[tuple[int, float]]:
    await self.conn.execute(pgvector.SQL.scan_settings, {"limit": limit})
    return pgvector._scored(await self._rows(pgvector.SQL.scan, limit))


CLAIMED = Demand._claimed


async def all_or_none(self: Demand, index: Any, doc_ids: Any, *how: Any) -> Any:
    found = await CLAIMED(self, index, doc_ids, *how)
    demand._require_clear(found[0])
    return found


@asynccontextmanager
async def no_waiting(self: Demand, *_: object) -> AsyncIterator[None]:
    if not self._has_room():
        raise Unmet("cannot be embedded now")
    yield


def any_so_many(_: pgvector._Scan, rows: list[Any], limit: int, chunks: int) -> bool:
    return len(rows) >= limit


def of_no_space(_: str, recipe: QueryRecipe | None, text: str) -> queries.Key:
    return KEY("", recipe, text)


class Unshielded:
    """asyncio, without the shield."""

    create_task, gather, to_thread, Task = (
        asyncio.create_task,
        asyncio.gather,
        asyncio.to_thread,
        asyncio.Task,
    )

    @staticmethod
    def shield(flight: Any) -> Any:
        return flight


async def from_memory(self: Retriever, index: Index, query: str, **_: Any) -> Any:
    return await self._queries.of_query(index, query)


async def all_allowed(_: Connection, __: int, whose: dict[int, str], ___: int) -> list[int]:
    return list(whose)


async def in_any_case(*_: Any, **__: Any) -> bool:
    return True


def whatever_is_embedded(drawn: Any) -> Any:
    return PARTS(drawn | True)


async def holding_on(task: Any, until: float) -> None:
    async with asyncio.timeout_at(until):
        await task


@asynccontextmanager
async def one_layer(app: App) -> AsyncIterator[None]:
    app.database.two_layers = False
    yield


def nothing_imagined(sides: Any, rng: Any) -> Any:
    return WEIGHED([side[..., 1:] for side in sides], rng)


def unread(differences: Any) -> Any:
    return np.asarray(differences, dtype=np.float64)


def of_no_spread(was: Any, d: Any) -> Any:
    *sums, penalty = SUMS(was, d)
    return *sums, 0 * penalty


def forgetful(watch: RateWatch, flags: Any) -> RateWatch:
    return AFTER(replace(watch, enough=False), flags)


def following(**how: Any) -> httpx2.AsyncClient:
    return HTTP(**how | {"follow_redirects": True})


HTTP = httpx2.AsyncClient
ASKED = Retrieving._asked
WEIGHED, SUMS, AFTER = paired._weighed, sequences._sums, RateWatch.after
KEY, START = queries.Key, similar.Start
BATCHES = _batches.HostedBatches
COLLECT, DISCARD, ITEM = BATCHES.collect, BATCHES.discard, BATCHES._item
BY_WORDS, HOLDER = legs.Legs.by_words, keys.holder
EMBED_STEP = Worker._embed_step
STAGE, COPIED = elsewhere.Elsewhere.stage, Worksite._copied
AGAIN = (  # an id that comes again has its tombstone back
    "uuid[]) AS n (id)",
    "uuid[]) AS n (id) ON CONFLICT (index_id, point_id) DO UPDATE SET due = excluded.due, condemned = false",
)
ALL_OF_THEM = "SELECT n.id AS point_id FROM unnest(%(points)s::uuid[]) AS n (id) WHERE %(index)s > 0"
NOT_WRITTEN_DOWN = both(
    rewritten(elsewhere.SQL, "intend", f"{ALL_OF_THEM} AND %(grace)s > 0"),
    rewritten(elsewhere.SQL, "keep", ALL_OF_THEM),
)
REMOVE, REPLACE, RENDERED = Worksite._remove, pgvector.PgVector.replace, reading.rendered
SEARCH = Retriever.search


def flattered(scores: Any, now: int) -> Any:
    """The figures of the queries that chose."""
    return scores[:, tuning.chosen(scores, now)]


# --- the table ------------------------------------------------------------------------------------

REV, TOKEN = " AND w.rev = ANY (%(revs)b::bigint[])", " AND w.token = %(token)s"
CLAIMABLE = "AND (w.lease_until IS NULL OR w.lease_until < now()) AND w.not_before <= now()"
CONFLICT = "not_before = '-infinity', lease_until = NULL, token = NULL"

protocol, claims, fair, pages = test_write_protocol, test_claims, test_tenants, test_backfill
chunks, packing, words = test_chunks, test_packing, test_lexical
orders, failures = test_interleavings, test_provider_failures
filtered, asked, alike, plans, carried = (
    test_filters,
    test_queries,
    test_similar,
    test_plans,
    test_thresholds,
)
LANGUAGE = "AND language = (SELECT language FROM revec.collection WHERE id = %(collection)s)"
tuned = test_tuning
controls, paused, healthy, braking = test_control, test_pause_source, test_health, test_brake


async def as_the_token_says(self: tokens.Secret, header: dict[str, Any]) -> tuple[str, list[str]]:
    return self.secret, [header["alg"]]


@asynccontextmanager
async def as_a_worker(app: App, _: str | None) -> AsyncIterator[Connection]:
    async with app.database.transaction("worker") as conn:
        yield conn


@asynccontextmanager
async def remembering_keys(_: App) -> AsyncIterator[None]:
    """A cache, as somebody might add it for speed."""
    was, known = keys.holder, {}

    async def holder(conn: Connection, key: str) -> Caller | None:
        if key not in known:
            known[key] = await was(conn, key)
        return known[key]

    keys.holder = holder
    try:
        yield
    finally:
        keys.holder = was


async def uncounted(self: entrance.Body) -> Any:
    return await self._receive()


def blind(method: Any) -> Any:
    """A way of reading that forgets what may be seen."""

    async def forgetful(*arguments: Any, visible: Filter | None = None, **how: Any) -> Any:
        del visible
        return await method(*arguments, **how)

    return forgetful


async def whatever_is_there(self: legs.Legs, index: Index, query: str, wanted: legs.Wanted) -> Any:
    return await BY_WORDS(self, index, query, replace(wanted, where=None))


async def with_open_eyes(conn: Connection, key: str) -> Caller | None:
    caller = await HOLDER(conn, key)
    return caller and replace(caller, visible=None)


def or_nothing(text: str) -> Filter | None:
    try:
        return read(text)
    except BadInput:
        return None


async def one_after_the_other(first: Any, then: Any) -> Any:
    reading = await then
    await first
    return reading


def asked_to_end_with_the_request(_: Any) -> None:
    """No last word."""


class Patient(entrance.Entrance):
    def __init__(self, *arguments: Any, deadline: float, **more: Any) -> None:
        super().__init__(*arguments, deadline=100 * deadline, **more)


async def not_waiting(database: Any, collection: Any, ids: Any, _: float) -> list[push.Stand]:
    return await push.stands(database, collection, ids)


async def nobody_apart(_: Connection, __: int) -> dict[str, int]:
    return {}


async def unheard(conn: Connection, event_id: int, _: str) -> None:
    await outbox.heard(conn, event_id)


LOOK = walking.look


async def looking_that_heals(conn: Connection, store: Any, walk: Any, **_: Any) -> None:
    await LOOK(conn, store, walk, heal=True)


@asynccontextmanager
async def always_mine(*_: Any) -> AsyncIterator[bool]:
    yield True


async def no_page(*_: Any, **__: Any) -> drift.Page:
    return drift.Page()


@asynccontextmanager
async def watching_alone(live: Live, key: Any, compute: Any, render: Any) -> AsyncIterator[View]:
    view = View(key)
    rounds = live._begin(_for_itself(live, view, compute, render))
    live._views[object()] = view
    try:
        yield view
    finally:
        rounds.cancel()


LOG_IN = guests.Guests.log_in


async def trying_first(all_: guests.Guests, key: str, address: str) -> tuple[Caller, str]:
    all_._tries.take(address)
    return await LOG_IN(all_, key, address)


async def always_then(*_: Any) -> str:
    return "then"


async def at_once(work: Callable[..., Any], *of: Any) -> Any:
    return work(*of)


NOTED = Metrics.note


def noted_with_its_time(self: Metrics, method: str, route: str, status: int, seconds: float | None) -> None:
    NOTED(self, method, route, status, seconds or 1.0)


WEIGHED_ON_SHELF = shelf.Shelf.weighed


async def kept_for_any(kept: shelf.Shelf, which: Any, queries: Any) -> Any:
    outcome, at = await WEIGHED_ON_SHELF(kept, which, queries)
    if outcome is not None:
        kept._weighed[which] = shelf.fingerprint(queries), outcome
    return outcome, at


async def _for_itself(live: Live, view: View, compute: Any, render: Any) -> None:
    while True:
        await view.round(compute, render)
        await asyncio.sleep(live._every)


MUTANTS: dict[str, Mutant] = {
    "what the projector will see to is drift": Mutant(
        instead(drift.SQL, "rows", (" OR o.key IS NOT NULL", "")),
        drifting.test_what_the_projector_will_see_to_is_no_drift,
    ),
    "open work is drift": Mutant(
        instead(
            index_drift.SQL,
            "page",
            (
                "WHERE NOT EXISTS (SELECT FROM revec.work w WHERE w.index_id = %(index)s AND w.doc_id = d.id)",
                "",
            ),
        ),
        drifting.test_what_the_projector_will_see_to_is_no_drift,
    ),
    "a table that is being read is compared": Mutant(
        attribute(drift, "_stands_before", lambda _: None),
        drifting.test_a_table_that_is_being_read_is_left_to_the_projector,
    ),
    "a dry run heals": Mutant(
        attribute(walking, "look", looking_that_heals),
        drifting.test_a_dry_run_finds_the_same_and_writes_nothing,
    ),
    "rows are looked at from one side": Mutant(
        attribute(drift, "of_documents", no_page), drifting.test_writes_past_the_triggers_are_found_and_healed
    ),
    "a tenant is not compared": Mutant(
        instead(drift.SQL, "rows", ("d.tenant <> t.tenant", "false")),
        drifting.test_writes_past_the_triggers_are_found_and_healed,
    ),
    "no vector is sealed": Mutant(
        attribute(index_drift, "_seal", nothing),
        drifting.test_vectors_that_are_not_as_written_are_found_and_embedded_again,
    ),
    "a wrong vector is left where copies are made of it": Mutant(
        instead(index_drift.SQL, "disown", ("v.text_hash = w.text_hash AND", "v.doc_id = ANY (%(ids)s) AND")),
        drifting.test_a_copy_of_an_edited_vector_is_not_copied_back,
    ),
    "what is found is not enqueued": Mutant(
        instead(drift.SQL, "heal", ("::text[]) AS k", "::text[]) AS k WHERE false")),
        drifting.test_what_was_found_is_not_found_twice,
    ),
    "the workers walk when they like": Mutant(
        instead(reconcile.SQL, "next", ("greatest(0, %(every)s::float8 - took)", "0 * %(every)s::float8")),
        drifting.test_the_workers_walk_by_themselves_within_the_interval,
    ),
    "two workers walk at once": Mutant(
        instead(reconcile.SQL, "next", (" FOR UPDATE SKIP LOCKED", "")),
        drifting.test_one_worker_at_a_time_looks,
    ),
    "a late answer moves a walk": Mutant(
        attribute(reconcile, "_ask_store", asked_once), away.test_a_late_answer_moves_no_walk
    ),
    "what is being filled lacks something": Mutant(
        instead(walking.SQL, "parts", ("NOT m.cursor_done AND", "false AND")),
        drifting.test_an_index_that_is_being_filled_lacks_nothing,
    ),
    "a living worker's leases are taken": Mutant(
        instead(steering.SQL, "rescue", ("k.beat_at < now()", "%(silence)s > 0 OR k.beat_at < now()")),
        desk.test_nothing_is_taken_from_a_worker_that_lives,
    ),
    "a worker that leaves keeps what it holds": Mutant(
        instead(steering.SQL, "rescue", ("ELSE k.id = %(leaves)s::uuid", "ELSE false")),
        desk.test_a_worker_that_leaves_hands_back_what_it_holds,
    ),
    "a worker that leaves takes its neighbour's work along": Mutant(
        instead(steering.SQL, "rescue", ("ELSE k.id = %(leaves)s::uuid", "ELSE true")),
        desk.test_a_worker_that_leaves_hands_back_what_it_holds,
    ),
    "whose a lease is cannot be told": Mutant(
        attribute(queue, "token_of", lambda _=None: uuid4()), desk.test_what_a_dead_worker_holds_is_freed
    ),
    "work in hand is cancelled": Mutant(
        instead(steering.SQL, "cancel", ("AND (w.lease_until IS NULL OR w.lease_until < now())", "")),
        desk.test_what_somebody_has_in_hand_is_not_cancelled,
    ),
    "newer work is cancelled": Mutant(
        instead(steering.SQL, "cancel", (" AND d.rev = w.rev", "")),
        desk.test_an_edit_is_not_cancelled_with_what_it_replaced,
    ),
    "live edits are cancelled with the backfill": Mutant(
        instead(steering.SQL, "cancel", ("w.lane >= %(lane)s", "%(lane)s >= 0")),
        desk.test_edits_are_not_cancelled_with_the_backfill,
    ),
    "an undo takes what another deed did": Mutant(
        instead(
            letters.SQL,
            "undo_retry",
            ("d.deed = %(deed)s", "d.deed IS NOT NULL AND %(deed)s::bigint IS NOT NULL"),
        ),
        lettering.test_an_undo_touches_its_own_only,
    ),
    "a retry locks a letter before it has made the work": Mutant(
        without(letters.SQL, "retry", " AND (SELECT count(*) FROM made) >= 0"),
        lettering.test_a_retry_and_a_burial_wait_for_each_other_in_one_order,
    ),
    "a retry leaves the work of letters that it did not get": Mutant(
        instead(letters.SQL, "unmake", (" WHERE ", " WHERE false AND ")),
        lettering.test_a_retry_that_waits_for_a_discard_brings_nothing_back,
    ),
    "an undo takes anybody's last deed": Mutant(
        instead(letters.SQL, "lock", ("AND who = %(who)s", "AND %(who)s::text <> ''")),
        lettering.test_an_undo_without_a_number_is_of_one_s_own_last_deed,
    ),
    "an undo takes what a worker has in hand": Mutant(
        without(letters.SQL, "undo_retry", "AND w.token IS NULL AND w.attempts = 0"),
        lettering.test_what_was_touched_since_is_not_taken_back,
    ),
    "an undo takes an edit's work": Mutant(
        without(letters.SQL, "undo_retry", "AND w.rev = d.rev"),
        lettering.test_what_was_touched_since_is_not_taken_back,
    ),
    "an undo brings a letter back of a text that is gone": Mutant(
        without(
            letters.SQL,
            "undo_discard",
            "AND d.input_hash = s.input_hash",
            "AND NOT EXISTS (SELECT FROM revec.work w WHERE w.index_id = s.index_id AND w.doc_id = s.doc_id)",
        ),
        lettering.test_a_discard_is_taken_back,
    ),
    "a page of tenants ends where it found none": Mutant(
        instead(tenants.SQL, "listed", ("horizon.tenant AS horizon", "NULL AS horizon")),
        tenant_pages.test_a_word_that_few_have_is_found,
    ),
    "an operator acts on the queue": Mutant(
        attribute(console_visit, "_require", lambda *_: None),
        queue_page.test_who_may_not_act_sees_why_and_cannot,
    ),
    "who writes inline is answered before": Mutant(
        attribute(inline.Inline, "_embedded", nothing), directly.test_who_writes_inline_needs_no_worker
    ),
    "a reader of an adopted column sees everybody's": Mutant(
        without(
            ledgers.SQL,
            "view",
            "\n   AND (current_user <> 'revec_reader' OR l.tenant = (SELECT current_setting('revec.tenant', true)))",
        ),
        adopting.test_a_reader_sees_his_tenants_vectors_only,
    ),
    "a text that changed alone counts as embedded": Mutant(
        without(ledgers.SQL, "note", "\n WHERE l.vector_hash <> excluded.vector_hash"),
        adopting.test_an_edit_is_current_when_its_vector_is,
    ),
    "a column that others write makes work": Mutant(
        function(
            "revec.document_changed",
            ("i.writing\n                                       AND i.writer = 'revec'", "i.writing"),
        ),
        adopting.test_an_edit_is_current_when_its_vector_is,
    ),
    "a vector is copied by what its ledger said before": Mutant(
        rewritten(pgvector.SQL, "as_noted", "true"),
        adopting.test_a_vector_ahead_of_its_ledger_is_not_copied,
    ),
    "our own hand is a change": Mutant(
        rewritten(attach.SQL, "by_us", "NULL"), adopting.test_our_own_hand_is_no_change
    ),
    "a trigger of the user's goes unseen behind our hand": Mutant(
        instead(
            attach.SQL,
            "by_us",
            (
                "IF to_jsonb(OLD) - {vector} = to_jsonb(NEW) - {vector} THEN RETURN NULL; END IF;",
                "RETURN NULL;",
            ),
        ),
        adopting.test_our_own_hand_is_no_change,
    ),
    "a drain looks for changes once": Mutant(
        attribute(App, "outstanding", looked_once),
        adopting.test_a_change_that_a_write_of_ours_made_is_waited_for,
    ),
    "a user's row is waited for": Mutant(
        without(column_store.SQL, "lock", "SKIP LOCKED"),
        adopting.test_a_row_in_its_users_hand_is_left_at_once,
    ),
    "triggers are woken that need not be": Mutant(
        rewritten(column_store.SQL, "may_be_silent", "SELECT false AS may"),
        adopting.test_who_may_be_silent_wakes_no_trigger,
    ),
    "a column is left to others during a migration": Mutant(
        attribute(ledgers, "take_over", nothing), adopting.test_another_writer_may_be_chosen_later
    ),
    "a key is a row's, whatever the source": Mutant(
        both(
            without(column_store.SQL, "write", " AND d.source_id = %(source)s"),
            without(column_store.SQL, "lock", " AND d.source_id = %(source)s"),
        ),
        adopting.test_a_pushed_document_is_of_no_row,
    ),
    "another source's document makes work for a column": Mutant(
        function("revec.document_changed", ("a.index_id IS NULL OR a.source_id = fresh.source_id", "true")),
        adopting.test_a_pushed_document_is_of_no_row,
    ),
    "a column's collection takes another source": Mutant(
        instead(collections.SQL, "column_of_another", ("AND i.writing", "AND false")),
        adopting.test_a_pushed_document_is_of_no_row,
    ),
    "an older text's vector goes over a newer one": Mutant(
        without(column_store.SQL, "write", " AND c.input_hash = n.input_hash"),
        adopting.test_an_older_texts_vector_is_not_written_over_a_newer_one,
    ),
    "an abort keeps the column": Mutant(
        attribute(ledgers, "give_back", nothing), adopting.test_an_abort_gives_the_column_back
    ),
    "a forgotten column is looked at": Mutant(
        instead(ledgers.SQL, "forget", (" - 'vector' - 'vector_hash'", "")),
        adopting.test_what_finish_prints_may_be_run,
    ),
    "a view is made again for nothing": Mutant(
        rewritten(ledgers.SQL, "made_of", "SELECT NULL AS made_of, %(vectors)s AS vectors"),
        adopting.test_init_again_keeps_no_search_waiting,
    ),
    "a sample is not looked at": Mutant(
        attribute(adopt, "MOST", 0.0), adopting.test_another_model_or_text_is_refused
    ),
    "a point is called by its text": Mutant(
        both(
            attribute(elsewhere.Elsewhere, "stage", called_by(lambda each, n: each.text_hashes[n].hex())),
            instead(elsewhere.SQL, "intend", AGAIN),
        ),
        away.test_a_late_deletion_hits_nothing_that_came_back,
    ),
    "a point is called by its document's revision": Mutant(
        both(
            attribute(elsewhere.Elsewhere, "stage", called_by(lambda each, n: (each.input_hash.hex(), n))),
            instead(elsewhere.SQL, "intend", AGAIN),
        ),
        away.test_a_point_put_again_at_the_same_revision_is_another_point,
    ),
    "points are put before they are written down": Mutant(
        NOT_WRITTEN_DOWN, away.test_killed_anywhere_it_is_done_again
    ),
    "points that may be gone are referred to": Mutant(
        rewritten(elsewhere.SQL, "keep", ALL_OF_THEM),
        away.test_a_writer_that_slept_too_long_writes_nothing,
    ),
    "condemned points are written": Mutant(
        without(elsewhere.SQL, "keep", " AND NOT condemned"),
        away.test_a_condemned_point_is_written_no_more,
    ),
    "points that come after their deletion are forgotten": Mutant(
        attribute(elsewhere.Elsewhere, "abandon", nothing),
        away.test_what_is_put_after_its_deletion_is_found,
    ),
    "a deletion is believed": Mutant(
        attribute(upkeep.Upkeep, "_require_gone", nothing),
        away.test_a_deletion_is_believed_when_it_is_seen,
    ),
    "what a store has lost was never there": Mutant(
        attribute(elsewhere.Elsewhere, "_lost", none_of_them), away.test_no_gate_passes_what_a_store_has_lost
    ),
    "a store that kept a search waiting is asked again": Mutant(
        attribute(Asking, "_blamed", lambda *_: nullcontext()),
        away.test_a_search_that_ran_out_of_time_blames_whom_it_asked,
    ),
    "what a store has lost is waited for": Mutant(
        attribute(elsewhere, "StoreLost", NotFound),
        away.test_a_backfill_does_not_wait_for_what_a_store_has_lost,
    ),
    "the sweep takes what is being written": Mutant(
        without(
            elsewhere.SQL,
            "strays",
            "\n   AND NOT EXISTS (SELECT FROM revec.tombstone t WHERE t.index_id = %(index)s AND t.point_id = n.id)",
        ),
        away.test_the_sweep_leaves_a_write_in_flight_alone,
    ),
    "the sweep takes what is known": Mutant(
        without(
            elsewhere.SQL, "strays", "NOT EXISTS (SELECT FROM {vectors} v WHERE v.point_id = n.id)\n   AND "
        ),
        away.test_the_sweep_finds_what_nobody_knows,
    ),
    "a backfill pays where it could copy later": Mutant(
        attribute(Worksite, "_copied", paid_again),
        away.test_a_backfill_waits_for_the_store_that_it_copies_from,
    ),
    # looking
    "a migration is looked at piece by piece": Mutant(
        instead(outlook.SQL, "one_moment", ("REPEATABLE READ", "READ COMMITTED")),
        pages.test_a_page_between_two_looks_is_in_both_or_in_none,
    ),
    # serving early
    "who was rolled back is served early": Mutant(
        both(
            function("revec.routed", (" AND m.new_index IS DISTINCT FROM r.previous", "")),
            attribute(bridges, "close", nothing),
        ),
        early.test_a_cutover_and_a_rollback_end_it,
    ),
    "a pause closes nothing": Mutant(
        function("revec.routed", ("AND m.paused_why IS NULL AND m.hold IS NULL", "")),
        early.test_a_pause_closes_the_way,
    ),
    "anybody goes over any bridge": Mutant(
        both(function("revec.routed", (" AND b.holds", "")), without(bridges.SQL, "way", " AND b.holds")),
        early.test_where_the_bridge_does_not_hold_nobody_goes_over_it,
    ),
    "a search claims what others have in hand": Mutant(
        without(queue.SQL, "claim_these", CLAIMABLE), early.test_what_somebody_has_in_hand_is_left_there
    ),
    "a search has anybody's documents embedded": Mutant(
        without(demand.SQL, "due", "AND (%(tenant)s::text IS NULL OR d.tenant = %(tenant)s)"),
        early.test_a_demand_for_somebody_else_s_documents_is_none,
    ),
    "nothing limits what a tenant's searches have embedded": Mutant(
        attribute(allowance, "first", all_allowed), early.test_a_tenant_s_allowance_is_its_own
    ),
    "searches spend what no budget pays for": Mutant(
        function("revec.admit", ("in_lane IN (1, 2)", "in_lane = 2")),
        early.test_the_migration_s_budget_is_the_searches_too,
    ),
    "a paused migration goes on for searches": Mutant(
        instead(queue.SQL, "ready", ("lane.n > 0 AND", "lane.n = 2 AND")),
        early.test_the_jit_lane_waits_while_the_migration_is_paused,
    ),
    "an answer leaves out what it could not embed": Mutant(
        both(
            instead(demand.SQL, "due", ("THEN 'a dead letter'", "THEN NULL")),
            attribute(Demand, "require_none", nothing),
        ),
        early.test_a_document_that_the_model_refuses_is_missed_by_nobody,
    ),
    "an answer may be shorter than the old index's": Mutant(
        attribute(searching_early, "_require_enough", lambda *_: None),
        early.test_a_document_that_the_model_refuses_is_missed_by_nobody,
    ),
    "whoever leaves takes the documents with him": Mutant(
        attribute(demand, "_wait", holding_on), early.test_whoever_leaves_takes_nobody_with_him
    ),
    "a document without an old vector has the bridge fitted for ever": Mutant(
        instead(bridges.SQL, "kept", ("pairs, counted,", "pairs, pairs AS counted,")),
        bridging.test_a_document_without_an_old_vector_is_no_reason_to_fit_for_ever,
    ),
    "a bridge is measured by what came first": Mutant(
        attribute(bridge, "_parts", whatever_is_embedded),
        bridging.test_later_verdicts_are_of_the_sample_too,
    ),
    "a fit outlives its migration": Mutant(
        without(bridges.SQL, "close", "version = version + 1, "),
        bridging.test_a_fit_that_ends_after_the_cutover_puts_nothing_back,
    ),
    "an index without its graph is read whole": Mutant(
        attribute(pgvector.PgVector, "is_ready", in_any_case),
        early.test_an_index_without_its_graph_is_not_searched_for_a_large_tenant,
    ),
    "an early answer takes as long as it likes": Mutant(
        attribute(asyncio, "timeout_at", lambda _: asyncio.timeout(None)),
        early.test_a_search_that_takes_too_long_is_given_up,
    ),
    "an index that is given up is demanded": Mutant(
        instead(demand.SQL, "due", ("NOT i.writing", "false")),
        early.test_a_demand_for_an_index_that_is_given_up_is_none,
    ),
    "one document's obstacle is everybody's": Mutant(
        attribute(Demand, "_claimed", all_or_none),
        directly.test_one_document_that_cannot_be_there_keeps_no_other_one_out,
    ),
    "a write without room is told that it cannot be": Mutant(
        attribute(Demand, "_room", no_waiting), directly.test_a_write_waits_for_room
    ),
    "what nobody has room for is made urgent": Mutant(
        attribute(Demand, "_has_room", lambda _: True), early.test_without_room_nothing_is_made_urgent
    ),
    "a search waits for another one's allowance": Mutant(
        instead(allowance.SQL, "briefly", ("100ms", "0")),
        early.test_no_search_waits_for_another_one_s_allowance,
    ),
    "the last fit wins": Mutant(
        without(bridges.SQL, "put", " AND version = %(seen)s"),
        bridging.test_a_fit_of_yesterday_does_not_replace_todays,
    ),
    # words
    "a posting is found though its document was edited": Mutant(
        without(
            lexical.SQL, "search", "WHERE NOT EXISTS (SELECT FROM recent WHERE recent.doc_id = p.doc_id)"
        ),
        words.test_an_edit_and_a_delete_are_seen_at_once,
    ),
    "documents are counted when they are folded": Mutant(
        instead(
            lexical.SQL, "search", ("count(lexemes) - count(old_lexemes), sum(length - old_length)", "0, 0")
        ),
        words.test_a_fold_keeps_no_writer_and_no_reader_waiting,
    ),
    "a fold leaves old words": Mutant(
        instead(
            lexical.SQL,
            "fold",
            ("unnest(d.old_lexemes) AS u (lexeme)", "unnest(d.old_lexemes) AS u (lexeme) LIMIT 0"),
        ),
        words.test_an_edit_and_a_delete_are_seen_at_once,
    ),
    "two fold one tenant": Mutant(
        instead(
            lexical.SQL,
            "claim",
            ("SELECT pg_try_advisory_xact_lock", "SELECT true OR pg_try_advisory_xact_lock"),
        ),
        words.test_a_fold_keeps_no_writer_and_no_reader_waiting,
    ),
    "words are read anew beside a fold": Mutant(
        instead(lexical.SQL, "share", ("pg_advisory_xact_lock_shared", "hashint8")),
        words.test_reading_anew_waits_for_a_fold,
    ),
    "every update is an edit of the words": Mutant(
        function("revec.document_words", (" AND s.rev <> d.rev", "")),
        words.test_what_does_not_change_the_text_is_no_work,
    ),
    # reading
    "a field that is missing makes a condition NULL": Mutant(
        instead(filters.SQL, "one_of", ("coalesce(", "("), (", false)", ")")),
        filtered.test_any_filter_means_what_the_pages_say,
    ),
    "types are not told apart": Mutant(
        instead(
            filters.SQL, "one_of", ("d.metadata -> {field}::text", "to_jsonb(d.metadata ->> {field}::text)")
        ),
        filtered.test_any_filter_means_what_the_pages_say,
    ),
    "what is asked for widens what may be seen": Mutant(
        attribute(retriever, "both", one_is_enough), filtered.test_what_may_be_seen_is_not_widened
    ),
    "what a leg found is not asked again": Mutant(
        without(documents.SQL, "hydrate", " AND {matching}"),
        filtered.test_a_leg_that_forgets_the_filter_shows_nothing_more,
    ),
    "what the store cannot do is dropped": Mutant(
        attribute(retriever, "require", lambda *_: None), filtered.test_what_the_store_cannot_do_is_refused
    ),
    "a small tenant goes through everybody's graph": Mutant(
        attribute(pgvector, "SMALL_TENANT", 0), plans.test_a_small_tenant_is_scanned_wholly
    ),
    "a walk that ended early is the answer": Mutant(
        attribute(pgvector._Scan, "approximately", as_far_as_it_went),
        plans.test_where_the_walk_ends_early_all_rows_are_scanned,
    ),
    "signs rank by themselves": Mutant(
        instead(pgvector.SQL, "scan", ("v.embedding <=> %(query)b AS distance", "{nearness} AS distance")),
        plans.test_signs_find_and_vectors_rank,
    ),
    "no more are looked at than are wanted": Mutant(
        both(attribute(pgvector, "SIGNS_ENOUGH", 0), attribute(pgvector, "LEAST_BY_SIGNS", 0)),
        plans.test_signs_find_and_vectors_rank,
    ),
    "a walk orders by what no graph is of": Mutant(
        instead(graphs.SQL, "between_signs", ("::bit({dims})", "::bit varying")),
        plans.test_signs_find_and_vectors_rank,
    ),
    "the planner is free to sort": Mutant(
        instead(pgvector.SQL, "no_sort", ("'off'", "'on'")),
        plans.test_vectors_outside_the_table_are_not_all_read,
    ),
    "nobody may sort after a walk": Mutant(
        instead(pgvector.SQL, "sort_again", ("enable_sort TO DEFAULT", "enable_sort TO off")),
        plans.test_vectors_outside_the_table_are_not_all_read,
    ),
    "a document's chunks are looked at as one": Mutant(
        attribute(pgvector._Scan, "_is_enough", any_so_many),
        plans.test_signs_are_looked_at_beyond_the_chunks_of_a_few,
    ),
    "queries that are written differently are different": Mutant(
        attribute(queries, "normalised", str), asked.test_equal_queries_are_paid_for_once
    ),
    "what is remembered is of no space": Mutant(
        attribute(queries, "Key", of_no_space), asked.test_another_space_or_recipe_is_another_query
    ),
    "a failed call is remembered": Mutant(
        attribute(queries.Queries, "_landed", lambda *_: None),
        asked.test_a_failed_call_is_everybody_s_and_is_not_remembered,
    ),
    "who leaves takes the call along": Mutant(
        attribute(queries, "asyncio", Unshielded), asked.test_a_waiter_that_leaves_takes_nobody_with_it
    ),
    "what is remembered has no weight": Mutant(
        attribute(queries, "_weight", lambda *_: 0), asked.test_what_is_remembered_is_bounded_by_its_bytes
    ),
    "a rehearsal is content with what is remembered": Mutant(
        attribute(Retriever, "embedded", from_memory), asked.test_the_rehearsal_asks_the_model_itself
    ),
    "a rehearsal that was overridden asks nobody": Mutant(
        attribute(Retriever, "read", nothing), old_models.test_nobody_gives_up_the_way_there
    ),
    "a model that rests is asked": Mutant(
        attribute(Retriever, "_require_awake", lambda *_: None), asked.test_a_model_that_rests_is_not_asked
    ),
    "a query draws on no limit": Mutant(
        instead(calls.SQL, "note", ("- c.cost", "- 0")),
        asked.test_a_query_draws_on_the_limit_and_does_not_wait_for_it,
    ),
    "a hidden document may be asked about": Mutant(
        without(documents.SQL, "of_key", " AND {matching}"),
        alike.test_what_may_not_be_seen_is_no_start_either,
    ),
    "a tenant may ask about another's document": Mutant(
        both(
            instead(documents.SQL, "of_key", ("d.tenant = %(tenant)s", "true")),
            without(pgvector.SQL, "vectors", " AND (%(tenant)s::text IS NULL OR tenant = %(tenant)s)"),
            one_layer,
        ),
        alike.test_a_tenant_finds_its_own_and_starts_from_its_own,
    ),
    "a document finds itself": Mutant(
        attribute(similar, "Start", lambda vectors, *_: START(vectors)), alike.test_like_a_document
    ),
    "a vector of another space is compared": Mutant(
        attribute(similar, "of_vector", lambda _, like: START([base.vector(like.vector)])),
        alike.test_a_vector_of_another_space_is_refused,
    ),
    "a threshold of another space counts": Mutant(
        attribute(similar, "threshold_of", nothing),
        alike.test_a_threshold_of_another_space_is_not_used,
    ),
    "the threshold goes along as it is": Mutant(
        attribute(carrying, "carried", lambda _, threshold: threshold),
        carried.test_a_cutover_keeps_the_hit_rate,
    ),
    "a share of another space counts": Mutant(
        without(fusion.SQL, "kept", " AND space_id = %(space)s"), tuned.test_a_share_is_of_its_space
    ),
    "a share of another language's words counts": Mutant(
        without(fusion.SQL, "kept", LANGUAGE), tuned.test_a_share_is_of_its_words_and_of_its_queries
    ),
    "a share of another recipe's queries counts": Mutant(
        without(fusion.SQL, "kept", " AND query = %(recipe)s"),
        tuned.test_a_share_is_of_its_words_and_of_its_queries,
    ),
    "who chose a share judges it": Mutant(
        attribute(tuning, "held_out", flattered), tuned.test_who_chooses_does_not_judge
    ),
    "whatever is best on these queries is set": Mutant(
        attribute(tuning, "_said", lambda *_, **__: (Outcome.PASSED, "it is the best")),
        tuned.test_judgements_without_a_rhyme_change_nothing,
    ),
    "few judgements are enough": Mutant(
        attribute(tuning, "FEWEST", 10), tuned.test_few_judgements_change_nothing
    ),
    "a share is kept over what came meanwhile": Mutant(
        without(fusion.SQL, "keep", "WHERE f.alpha IS NOT DISTINCT FROM %(seen)s"),
        tuned.test_of_two_who_tune_one_is_told,
    ),
    "pairs are of two tenants": Mutant(
        both(
            without(documents.SQL, "mates", " AND tenant = %(tenant)s"),
            without(pgvector.SQL, "vectors", " AND (%(tenant)s::text IS NULL OR tenant = %(tenant)s)"),
            one_layer,
        ),
        carried.test_pairs_are_of_one_tenant_and_in_both_indexes,
    ),
    # acknowledging
    "what was claimed is acknowledged, by key": Mutant(
        both(without(queue.SQL, "settle", REV, TOKEN), attribute(Claim, "only", whole)),
        protocol.test_an_edit_while_its_neighbour_is_written,
    ),
    "settle ignores the revision": Mutant(
        without(queue.SQL, "settle", REV), claims.test_only_the_claimed_revision_is_acknowledged
    ),
    "settle ignores the token": Mutant(
        without(queue.SQL, "settle", TOKEN), claims.test_a_zombie_cannot_touch_another_ones_claim
    ),
    "release ignores the token": Mutant(
        without(queue.SQL, "release", TOKEN), claims.test_a_zombie_cannot_touch_another_ones_claim
    ),
    "bury ignores the token": Mutant(
        without(queue.SQL, "bury", TOKEN), claims.test_a_zombie_cannot_touch_another_ones_claim
    ),
    "extend ignores the token": Mutant(
        without(queue.SQL, "extend", TOKEN), claims.test_a_zombie_cannot_touch_another_ones_claim
    ),
    "an edit leaves the claim as it is": Mutant(
        function("revec.document_changed", (CONFLICT, "not_before = '-infinity'")),
        claims.test_an_edit_ends_the_claim,
    ),
    # writing
    "the content is not compared": Mutant(
        instead(documents.SQL, "lock_current", ("d.input_hash = n.input_hash", "true")),
        protocol.test_an_edit_while_the_old_text_is_embedded,
    ),
    "the document is not locked": Mutant(
        without(documents.SQL, "lock_current", "FOR SHARE OF d SKIP LOCKED"),
        orders.test_write_and_edit,
    ),
    "a busy document is waited for": Mutant(
        without(documents.SQL, "lock_current", "SKIP LOCKED"),
        protocol.test_a_busy_document_is_given_back,
    ),
    "a longer chunk set leaves chunks behind": Mutant(
        instead(pgvector.SQL, "remove", ("WHERE ", "WHERE chunk_no < 2 AND ")),
        protocol.test_a_chunk_set_is_replaced_whole,
    ),
    "only the first chunk is written": Mutant(
        attribute(reading, "rendered", first_chunk), chunks.test_a_shrinking_document_leaves_no_chunk_behind
    ),
    "two writers of one document are one too many": Mutant(
        attribute(pack, "TOGETHER", RecursionError), orders.test_write_and_write
    ),
    "vectors change places": Mutant(
        attribute(pgvector.PgVector, "replace", swapped),
        protocol.test_collections_of_one_space_pay_once,
    ),
    "an exclusion outlives its text": Mutant(
        attribute(queue, "absolve", nothing),
        protocol.test_an_empty_text_is_left_out_until_it_is_filled,
    ),
    "work for a document that is gone stays": Mutant(
        attribute(Worksite, "_remove", deletions_only),
        protocol.test_work_for_a_document_that_is_gone_is_laid_to_rest,
    ),
    # triggers and the barrier
    "registering takes no barrier": Mutant(
        instead(indexes.SQL, "barrier", ("pg_advisory_xact_lock(", "hashtextextended('', ")),
        orders.test_register_and_insert,
    ),
    "a retry does not see an index being retired": Mutant(
        without(letters.SQL, "retry", " ORDER BY i.id FOR SHARE"), orders.test_retire_and_retry
    ),
    "what was left out comes back into an index being retired": Mutant(
        without(steering.SQL, "readmit", " ORDER BY i.id FOR SHARE"), orders.test_retire_and_readmit
    ),
    "an undo does not see an index being retired": Mutant(
        without(letters.SQL, "undo_discard", " ORDER BY i.id FOR SHARE"), orders.test_retire_and_undo
    ),
    "retiring takes no barrier": Mutant(
        instead(indexes.SQL, "barrier", ("pg_advisory_xact_lock(", "hashtextextended('', ")),
        orders.test_retire_and_insert,
    ),
    "writing a document takes no barrier": Mutant(
        function(
            "revec.document_barrier",
            ("PERFORM pg_advisory_xact_lock_shared(hashtextextended('revec.document', 0));", ""),
        ),
        orders.test_register_and_insert,
    ),
    "any snapshot may write documents": Mutant(
        function("revec.document_barrier", ("<> 'read committed'", "= 'none'")),
        protocol.test_an_older_snapshot_may_not_write_documents,
    ),
    "metadata makes work": Mutant(
        function("revec.document_changed", (" AND stale.rev <> fresh.rev", "")),
        protocol.test_metadata_alone_makes_no_work,
    ),
    "a delete makes no work": Mutant(
        function(
            "revec.document_changed",
            ("FROM stale JOIN revec.index i ON", "FROM stale JOIN revec.index i ON false AND"),
        ),
        protocol.test_a_tenant_change_is_a_delete_and_an_insert,
    ),
    # claiming
    "a lease never runs out": Mutant(
        without(queue.SQL, "claim", " OR w.lease_until < now()"),
        claims.test_a_zombie_cannot_touch_another_ones_claim,
    ),
    "leases are not looked at": Mutant(without(queue.SQL, "claim", CLAIMABLE), orders.test_claim_and_claim),
    "work is claimed during a build": Mutant(
        both(
            without(queue.SQL, "ready", " AND NOT i.held"),
            without(queue.SQL, "claim", " AND NOT i.held"),
        ),
        claims.test_an_index_that_is_being_built_is_left_alone,
    ),
    "a claim and a hold may miss each other": Mutant(
        without(queue.SQL, "claim", " FOR SHARE"), orders.test_claim_and_hold
    ),
    "one tenant at a time": Mutant(
        instead(queue.SQL, "claim", ("t.n < 64", "t.n < 1")),
        claims.test_a_large_tenant_does_not_keep_small_ones_waiting,
    ),
    "tenants whose work is taken count": Mutant(
        instead(queue.SQL, "claim", (f"{CLAIMABLE}\n                ORDER BY", "ORDER BY")),
        claims.test_tenants_whose_work_is_taken_hide_nobody,
    ),
    "the backfill goes first": Mutant(
        instead(queue.SQL, "ready", ("ORDER BY lane.n", "ORDER BY -lane.n")),
        claims.test_an_edit_does_not_wait_behind_a_backfill,
    ),
    # tenants in turn
    "no place is kept for edits": Mutant(
        attribute(Worker, "_embed_step", all_places_alike), fair.test_an_edit_waits_for_no_pack_of_a_backfill
    ),
    "the express takes what comes": Mutant(
        attribute(worker.queue, "BACKFILL", -1), fair.test_the_express_place_takes_no_backfill
    ),
    "every weight is one": Mutant(
        instead(queue.SQL, "claim", ("coalesce(p.weight, 1)", "1")), fair.test_shares_go_by_weight
    ),
    "a share may be nothing": Mutant(
        instead(queue.SQL, "claim", ("greatest(1, ", "greatest(0, ")),
        fair.test_the_lightest_tenant_gets_something,
    ),
    "what a division leaves over is nobody's": Mutant(
        instead(queue.SQL, "claim", (" - %(size)s::bigint * (upto - weight) / total", " * weight / upto")),
        fair.test_a_claim_is_as_large_as_it_may_be,
    ),
    "every claim begins with the first tenant": Mutant(
        instead(queue.SQL, "claim", ("%(after)s::text AS tenant", "left(%(after)s::text, 0) AS tenant")),
        fair.test_everybody_has_a_turn_before_anybody_has_two,
    ),
    "the lane of the backfill knows no priority": Mutant(
        instead(backfill.SQL, "next_page", ("p.tenant, %(priority)s", "p.tenant, 0 * %(priority)s")),
        pages.test_a_high_priority_overtakes_what_is_enqueued,
    ),
    "paused tenants are claimed": Mutant(
        instead(
            queue.SQL,
            "claim",
            ("p.paused_why IS NOT NULL,\n", "false,\n"),
            ("AND p.paused_why IS NOT NULL LIMIT 1", "AND false LIMIT 1"),
        ),
        fair.test_of_a_paused_tenant_nothing_is_claimed,
    ),
    "a paused tenant hides those behind it": Mutant(
        instead(queue.SQL, "ready", ("WHERE walk.paused\n", "WHERE walk.tenant = ''\n")),
        fair.test_of_a_paused_tenant_nothing_is_claimed,
    ),
    "a paused tenant's deletions wait": Mutant(
        instead(queue.SQL, "claim", ("     WHERE fair.paused\n", "     WHERE false\n")),
        fair.test_what_a_paused_tenant_deletes_is_removed,
    ),
    "a drain waits for paused tenants": Mutant(
        attribute(queue.Open, "moving", property(lambda seen: seen.open)),
        fair.test_a_drain_does_not_wait_for_a_paused_tenant,
    ),
    "whoever waits lowers what is live": Mutant(
        instead(queue.SQL, "enqueue", ("w.lane > %(lane)s", "w.lane <> %(lane)s")),
        fair.test_what_is_live_stays_live,
    ),
    "whoever waits takes it out of a worker's hands": Mutant(
        without(queue.SQL, "enqueue", "AND (w.lease_until IS NULL OR w.lease_until < now())"),
        fair.test_a_document_that_is_waited_for_comes_before_the_backfill,
    ),
    # pages
    "a page is of all priorities": Mutant(
        instead(backfill.SQL, "turn", ("AND b.priority = (", "AND b.priority <= (")),
        pages.test_priorities_complete_in_order,
    ),
    "a page goes beyond the end of its course": Mutant(
        instead(backfill.SQL, "room", ("until IS NULL", "true")),
        courses.test_it_stops_where_it_was_told_to,
    ),
    "the end of a course goes over a person's word": Mutant(
        without(migrations.SQL, "stop", " AND paused_why IS NULL AND until = %(until)s"),
        courses.test_a_person_s_pause_stands,
    ),
    "nobody comes first": Mutant(
        function("revec.backfill_turn", ("2000000 - array_position(asked, of_tenant)", "NULL::integer")),
        courses.test_the_order_that_was_asked_for_goes_before_priorities,
    ),
    "a word on a tenant takes its place away": Mutant(
        function("revec.tenant_changed", ("priority = turn.priority", "priority = NEW.priority")),
        courses.test_a_word_on_a_tenant_leaves_its_place_in_the_order,
    ),
    "those who are to wait are backfilled": Mutant(
        function("revec.backfill_turn", ("cardinality(named) > 0", "false")),
        courses.test_only_the_named_tenants_are_backfilled,
    ),
    "a plan pays for equal texts twice": Mutant(
        instead(survey.SQL, "survey", ("PARTITION BY input_hash) > 1", "PARTITION BY input_hash) < 1")),
        figures.test_the_interval_holds_the_true_number_of_tokens,
    ),
    "a page knows no weight": Mutant(
        instead(backfill.SQL, "turn", ("coalesce(t.weight, 1)", "1")), pages.test_a_page_is_shared_by_weight
    ),
    "a page begins with the first tenants": Mutant(
        instead(backfill.SQL, "turn", ("ORDER BY b.served_at, b.tenant", "ORDER BY b.tenant")),
        pages.test_who_waited_longest_comes_first,
    ),
    "paused tenants are enqueued": Mutant(
        both(
            without(backfill.SQL, "turn", " AND NOT b.paused", " AND NOT top.paused"),
            without(backfill.SQL, "can_go_on", " AND NOT b.paused"),
        ),
        pages.test_a_paused_tenant_waits_and_the_others_go_on,
    ),
    "a new priority waits for the next migration": Mutant(
        function("revec.tenant_changed", ("AND b.tenant = NEW.tenant", "AND false")),
        pages.test_a_new_priority_counts_from_the_next_page_on,
    ),
    "what is said may miss the enumeration": Mutant(
        function("revec.tenant_changed", ("FOR NO KEY UPDATE", "")), orders.test_page_and_priority
    ),
    "a page does not look ahead": Mutant(
        instead(
            backfill.SQL,
            "next_page",
            ("p.n <= turn.share AS taken", "true AS taken"),
            ("bool_and(coalesce(found.taken, true))", "count(found.id) < 1"),
            ("turn.share + 1", "turn.share"),
        ),
        pages.test_many_small_tenants_take_few_pages,
    ),
    "paused tenants fill the window": Mutant(
        instead(queue.SQL, "open", ("p.tenant IS NOT NULL AND w.lane = 2", "false")),
        pages.test_a_tenant_that_is_paused_in_mid_page_holds_up_no_window,
    ),
    # giving back
    "giving back waits for writers": Mutant(
        without(queue.SQL, "release", "SKIP LOCKED"),
        protocol.test_an_edit_in_the_making_stalls_no_worker,
    ),
    "renewing waits for writers": Mutant(
        without(queue.SQL, "extend", "SKIP LOCKED"),
        claims.test_giving_back_and_renewing_wait_for_no_writer,
    ),
    "burying waits for writers": Mutant(
        without(queue.SQL, "bury", "SKIP LOCKED"),
        claims.test_giving_back_and_renewing_wait_for_no_writer,
    ),
    "an outage burns attempts": Mutant(
        instead(queue.SQL, "release", ("w.attempts - %(blameless)s::int", "w.attempts")),
        failures.test_an_outage_burns_nobody,
    ),
    "a locked table is a lost payment": Mutant(
        attribute(pack, "LOCKED", ()), claims.test_a_locked_table_costs_no_payment
    ),
    "documents are written in any order": Mutant(
        attribute(Worksite, "_write", as_they_come), claims.test_documents_are_written_in_one_order
    ),
    # paying
    "the bucket is not looked at": Mutant(
        function("revec.admit", ("IF wait > 0 THEN", "IF false THEN")),
        test_calls.test_two_workers_never_take_the_same_tokens,
    ),
    "no reserve is kept for edits": Mutant(
        function("revec.until_affordable", ("w.want + reserve * w.holds", "w.want")),
        test_calls.test_an_edit_may_dip_into_what_the_backfill_must_leave,
    ),
    "a share of a minute is kept of a bucket of a second": Mutant(
        function("revec.until_affordable", ("reserve * w.holds", "reserve * q.capacity")),
        test_calls.test_what_is_left_for_others_is_a_share_of_what_the_bucket_holds,
    ),
    "a bucket that is always full is taken for a trickle": Mutant(
        function("revec.learn", ("least(q.capacity, q.fullest)", "q.capacity")),
        test_calls.test_a_bucket_of_less_than_a_minute_makes_nobody_slower,
    ),
    "what is on its way is forgotten": Mutant(
        function("revec.learn", ("said_left - (q.spent - c_spent)", "said_left")),
        test_calls.test_the_providers_own_word_counts,
    ),
    "an old answer counts": Mutant(
        function("revec.learn", ("c_spent > q.said_spent OR q.said IS NULL", "true")),
        test_calls.test_an_old_answer_corrects_nothing,
    ),
    "everybody probes": Mutant(
        function("revec.admit", ("AND probing AND p.probe_until > moment", "AND false")),
        test_calls.test_a_failing_provider_is_probed_by_one_call_at_a_time,
    ),
    "a provider never rests": Mutant(
        function(
            "revec.admit",
            ("AND p.resting_until > moment", "AND false"),
            ("probing := p.resting_until IS NOT NULL", "probing := false"),
        ),
        test_calls.test_a_person_may_end_a_rest,
    ),
    "the budget is not looked at": Mutant(
        function("revec.admit", ("m.spent + n_tokens", "0 * n_tokens")),
        test_calls.test_a_budget_stops_before_the_next_pack,
    ),
    "half of a refused request is accused": Mutant(
        attribute(pack, "send_all", all_are_to_blame),
        test_calls.test_a_poison_text_delays_no_other,
    ),
    "everybody pays": Mutant(
        instead(queue.SQL, "pay_lease", ("p.token = %(token)s AS mine", "true AS mine")),
        protocol.test_two_workers_with_one_text_pay_once,
    ),
    "a text may be written between two looks": Mutant(
        attribute(Worksite, "_known", one_look), orders.test_write_and_pay
    ),
    "the right to pay is not renewed": Mutant(
        attribute(queue, "extend_payment", nothing),
        protocol.test_the_right_to_pay_lasts_as_long_as_the_work,
    ),
    "what could not be written is forgotten": Mutant(
        instead(queue.SQL, "pay_keep", ("SET vector = n.vector", "SET vector = NULL")),
        protocol.test_a_superseded_vector_is_used_by_whoever_needs_the_text,
    ),
    "other indexes of the space are not asked": Mutant(
        attribute(pgvector.PgVector, "known", nothing_known),
        protocol.test_collections_of_one_space_pay_once,
    ),
    "what was paid of a long document is forgotten": Mutant(
        attribute(Worksite, "_let_go", nothing),
        chunks.test_a_failure_in_the_middle_of_a_long_document,
    ),
    # packs and memory
    "the limits of a pack are ignored": Mutant(
        attribute(Load, "within", always_fits), packing.test_a_pack_is_one_call
    ),
    "a long document is not spread": Mutant(
        attribute(Load, "within", always_fits), chunks.test_a_document_larger_than_a_pack
    ),
    "claims are always of one size": Mutant(
        attribute(worker, "claim_size", lambda *_: 256), packing.test_claims_follow_what_fills_a_pack
    ),
    "the ceiling is ignored": Mutant(
        attribute(Memory, "refuses", no_ceiling), chunks.test_a_text_beyond_the_ceiling_is_never_read
    ),
    "what was freed counts as taken": Mutant(
        attribute(Memory, "_look", at_a_glance),
        ceilings.test_the_leavings_of_a_long_text_do_not_refuse_the_next,
    ),
    "what is never read is judged beside others": Mutant(
        attribute(Memory, "most", property(lambda self: self.room)),
        ceilings.test_what_looks_full_beside_others_is_refused_to_nobody_for_good,
    ),
    "what was measured is not what is read": Mutant(
        without(documents.SQL, "contents", "d.input_hash = n.input_hash AND "),
        chunks.test_a_text_that_grew_meanwhile_is_not_read,
    ),
    "chunks count as documents": Mutant(
        instead(pgvector.SQL, "scan", ("count(*) AS chunks", "0 AS chunks")),
        chunks.test_k_documents_are_found_among_many_chunks,
    ),
    # batches
    "a batch that may be there is not looked for": Mutant(
        attribute(BATCHES, "find", nothing),
        test_batches.test_an_answer_that_is_lost_is_no_second_batch,
    ),
    "what was dropped is not looked for": Mutant(
        attribute(batches, "SENT", frozenset()),
        test_batches.test_an_answer_that_is_lost_is_no_second_batch,
    ),
    "a document may be in two batches": Mutant(
        ddl("ALTER TABLE revec.batch_member DROP CONSTRAINT batch_member_pkey"),
        test_batches.test_a_document_is_in_one_batch_at_a_time,
    ),
    "texts that are in flight are sent again": Mutant(
        instead(gather.SQL, "in_flight", ("b.state IN", "false AND b.state IN")),
        test_batches.test_equal_texts_are_in_one_batch_only,
    ),
    "a batch's answers are taken in their order": Mutant(
        attribute(BATCHES, "collect", in_their_order),
        test_batches.test_answers_come_in_any_order,
    ),
    "an answer of a batch that is nobody's is passed over": Mutant(
        attribute(BATCHES, "_item", nobodys_is_passed_over),
        test_batches.test_an_answer_that_is_none_stops_the_index,
    ),
    "a batch may be larger than there is room for": Mutant(
        attribute(gather.Load, "_has_room", always_fits),
        test_batches.test_a_batch_is_no_larger_than_the_provider_has_room_for,
    ),
    "texts stay where no batch was taken": Mutant(
        attribute(BATCHES, "discard", only_beside_answers),
        test_batches.test_a_batch_that_nobody_takes_leaves_no_file,
    ),
    "texts of a batch that was given up stay": Mutant(
        attribute(BATCHES, "discard", only_beside_answers),
        test_batches.test_an_abort_cancels_the_batch,
    ),
    "a provider without room for a batch is asked again at once": Mutant(
        attribute(_gemini_batches, "no_room", no_word_of_when),
        test_wires.test_gemini_without_room_for_a_batch_is_left_alone_for_a_while,
    ),
    "texts follow wherever a provider sends them": Mutant(
        attribute(_http, "same_server", always_fits),
        test_wires.test_gemini_may_not_send_a_file_elsewhere,
    ),
    "what a batch paid for is not kept": Mutant(
        attribute(batches.Batcher, "_keep", nothing),
        test_batches.test_a_patient_backfill_ends_like_any_other,
    ),
    "what a batch paid for is written without asking": Mutant(
        attribute(documents, "lock_current", all_are_current),
        test_batches.test_an_edit_as_a_batch_is_written,
    ),
    "patient work is due at once": Mutant(
        instead(backfill.SQL, "next_page", ("WHEN %(patient)s", "WHEN %(patient)s AND false")),
        test_batches.test_a_patient_backfill_ends_like_any_other,
    ),
    "whoever is waited for waits for the batch": Mutant(
        instead(queue.SQL, "enqueue", ("WHEN w.not_before = 'infinity'", "WHEN false")),
        test_batches.test_whoever_is_waited_for_does_not_wait_for_a_batch,
    ),
    "batches are not tried for ever": Mutant(
        attribute(batches, "TRIES", 1_000_000),
        test_batches.test_after_some_tries_the_rest_is_embedded_at_once,
    ),
    "batches cost what others do": Mutant(
        attribute(gather, "DISCOUNT", 1),
        test_batches.test_batches_are_in_the_ledger_at_half_the_price,
    ),
    "payments are locked in any order": Mutant(
        without(queue.SQL, "pay_done", "ORDER BY p.text_hash "),
        claims.test_payments_are_locked_in_one_order,
    ),
    # throttle
    "each worker has a bucket of its own": Mutant(
        without(control.SQL, "spend", " - %(documents)s"),
        controls.test_documents_a_second_are_shared_by_all_workers,
    ),
    "a bucket without a bottom": Mutant(
        instead(control.SQL, "set_rate", ("greatest(2, %(rate)s * 3)", "1e9")),
        controls.test_documents_a_second_are_shared_by_all_workers,
    ),
    "edits are throttled": Mutant(
        attribute(control, "BACKFILL", queue.LIVE), controls.test_edits_are_never_throttled
    ),
    "a throttle is read once": Mutant(
        attribute(control, "LOOK_EVERY", 3600.0), controls.test_a_running_worker_obeys
    ),
    "a throttle is not read": Mutant(
        instead(control.SQL, "throttles", ("t.claim, ", "NULL::int AS claim, ")),
        controls.test_a_claim_is_no_larger_than_allowed,
    ),
    "every place works": Mutant(
        instead(control.SQL, "throttles", ("t.concurrency, ", "NULL::int AS concurrency, ")),
        controls.test_only_so_many_claims_at_once,
    ),
    "a throttled drain is called stuck": Mutant(
        attribute(Control, "holds_back", property(lambda _: False)),
        controls.test_a_throttled_drain_is_not_stuck,
    ),
    "what is not named is lifted": Mutant(
        instead(control.SQL, "set", ("coalesce(excluded.claim, t.claim)", "excluded.claim")),
        controls.test_a_throttle_keeps_what_is_not_named_and_never_stops,
    ),
    # brake
    "the brake stops": Mutant(
        attribute(brake, "FLOOR", 0.0), braking.test_it_never_stops_a_backfill_and_says_why_it_slows_it
    ),
    "the brake is slammed": Mutant(attribute(brake, "STRONGEST", 0.01), braking.test_one_look_changes_little),
    "the brake is let go at once": Mutant(
        attribute(brake, "RELEASE", 20.0), braking.test_one_look_changes_little
    ),
    "one slow search is enough": Mutant(
        attribute(brake, "ENOUGH", {pulses.SEARCH: 1, pulses.DATABASE: 1}),
        braking.test_a_few_searches_prove_nothing,
    ),
    "the brake stays on": Mutant(attribute(brake, "RELEASE", 1.0), braking.test_it_lets_go_by_itself),
    "the brake is not felt": Mutant(
        attribute(Control, "_rests", lambda *_: False), controls.test_a_backfill_yields_to_searches
    ),
    "the database is not felt": Mutant(
        instead(
            pulses.SQL,
            "lately",
            ("p.kind = 'search' OR p.name = %(host)s", "p.kind = 'search' AND %(host)s <> ''"),
        ),
        controls.test_a_backfill_yields_to_the_database,
    ),
    "a backfill's seconds are quiet": Mutant(
        instead(pulses.SQL, "learn", ("coalesce((", "least('-infinity', (")),
        controls.test_what_is_usual_is_learnt_in_quiet_times_only,
    ),
    "the seconds after a backfill are quiet": Mutant(
        attribute(pulses, "ECHO", 0.0), controls.test_what_is_usual_is_learnt_in_quiet_times_only
    ),
    "nobody says that a backfill is under way": Mutant(
        attribute(pulses, "put_backfill", nothing),
        controls.test_what_is_usual_is_learnt_in_quiet_times_only,
    ),
    # pulse
    "all times are kept": Mutant(
        attribute(pulse, "SAMPLE", 10_000), controls.test_searches_tell_how_long_they_take
    ),
    "a search waits for its pulse": Mutant(
        attribute(Retriever, "search", in_step), controls.test_a_pulse_that_cannot_be_written_hurts_no_search
    ),
    "pulses are kept for ever": Mutant(
        attribute(pulses, "KEPT", 1e6), controls.test_old_pulses_go_with_new_ones
    ),
    # a source held back
    "a paused source is read": Mutant(
        both(
            without(projector.SQL, "pending", " AND s.paused_why IS NULL"),
            without(projector.SQL, "lock", " AND paused_why IS NULL"),
        ),
        paused.test_a_paused_source_keeps_its_changes,
    ),
    "a projector under way overlooks the pause": Mutant(
        without(projector.SQL, "lock", " AND paused_why IS NULL"),
        paused.test_nothing_is_read_after_the_pause_was_acknowledged,
    ),
    "completeness overlooks the pause": Mutant(
        without(collections.SQL, "unread", " OR paused_why IS NOT NULL"),
        paused.test_no_completeness_while_a_source_is_paused,
    ),
    "a migration overlooks the pause": Mutant(
        attribute(decide, "_unread", lambda _: None),
        paused.test_a_migration_waits_for_a_paused_source_and_says_so,
    ),
    "a cutover overlooks the pause": Mutant(
        attribute(collections, "unread", nothing), paused.test_no_cutover_while_a_source_is_paused
    ),
    # health
    "readiness waits for the pool": Mutant(
        attribute(health, "unready", from_the_pool), healthy.test_a_worker_that_is_busy_answers
    ),
    "everybody asks the database": Mutant(
        attribute(health, "ASK_EVERY", -1.0),
        healthy.test_strangers_cost_the_database_one_question_a_second,
    ),
    "everybody is listened to": Mutant(
        attribute(health, "MOST_CONNECTIONS", 1000), healthy.test_only_so_many_are_listened_to_at_once
    ),
    # told to leave
    "a pack waits for its turn, whoever leaves": Mutant(
        attribute(calls.Caller, "_pause", deaf),
        controls.test_a_worker_whose_packs_wait_for_their_turn_leaves_at_once,
    ),
    # the door
    "a key is remembered": Mutant(remembering_keys, forged.test_a_revoked_key_opens_nothing_from_then_on),
    "a revoked key is good": Mutant(
        without(keys.SQL, "holder", " AND k.revoked_at IS NULL"),
        forged.test_a_revoked_key_opens_nothing_from_then_on,
    ),
    "an expired key is good": Mutant(
        without(keys.SQL, "holder", "\n   AND (k.expires_at IS NULL OR k.expires_at > clock_timestamp())"),
        forged.test_an_expired_key_opens_nothing,
    ),
    "a token names its algorithm": Mutant(
        attribute(tokens.Secret, "key", as_the_token_says), forged.test_a_forged_token_opens_nothing
    ),
    "any published key will do": Mutant(
        attribute(tokens.PublicKeys, "_is_ours", lambda *_: True),
        forged.test_a_token_forged_for_public_keys_opens_nothing,
    ),
    "a token need not end": Mutant(
        attribute(tokens, "REQUIRED", ["iat", "iss", "aud", "sub"]), forged.test_a_forged_token_opens_nothing
    ),
    "the request names the tenant": Mutant(
        attribute(asking, "tenant", lambda caller, asked: asked or caller.tenant),
        walls.test_the_tenant_is_never_the_request_s_to_choose,
    ),
    "who asks what is similar names the tenant": Mutant(
        attribute(asking, "tenant", lambda caller, asked: asked or caller.tenant),
        near.test_another_tenant_s_key_is_like_none,
    ),
    "a vector has the room of a question": Mutant(
        attribute(entrance, "MOST_LIKENESS", entrance.MOST_BODY),
        near.test_a_vector_of_a_large_model_has_room,
    ),
    "the words wait for the model": Mutant(
        attribute(retriever, "_after", one_after_the_other),
        streamed.test_the_words_do_not_wait_for_the_model,
    ),
    "a deadline ends the events without a word": Mutant(
        attribute(streams, "_end", asked_to_end_with_the_request),
        streamed.test_what_goes_wrong_later_is_an_event,
    ),
    "an index that is gone is a failure": Mutant(
        attribute(legs, "NotFound", Refused), streamed.test_both_events_are_of_one_index
    ),
    "a search forgets what may be seen": Mutant(
        attribute(Retriever, "search", blind(Retriever.search)),
        sight.test_no_way_of_reading_shows_what_is_hidden,
    ),
    "what is similar may be hidden": Mutant(
        attribute(Retriever, "similar", blind(Retriever.similar)),
        sight.test_no_way_of_reading_shows_what_is_hidden,
    ),
    "a hidden document is a start over HTTP": Mutant(
        without(documents.SQL, "of_key", " AND {matching}"),
        sight.test_no_way_of_reading_shows_what_is_hidden,
    ),
    "another index shows what is hidden": Mutant(
        attribute(Retriever, "read", blind(Retriever.read)),
        sight.test_no_way_of_reading_shows_what_is_hidden,
    ),
    "an empty query shows what is hidden": Mutant(
        without(fusion.SQL, "recent", "AND {matching}"),
        sight.test_no_way_of_reading_shows_what_is_hidden,
    ),
    "the first event shows what is hidden": Mutant(
        attribute(legs.Legs, "by_words", whatever_is_there),
        sight.test_no_way_of_reading_shows_what_is_hidden,
    ),
    "a document is shown that is hidden": Mutant(
        without(documents.SQL, "one", " AND {matching}"),
        sight.test_no_way_of_reading_shows_what_is_hidden,
    ),
    "vectors are given of what is hidden": Mutant(
        without(documents.SQL, "ids_of_hits", " AND {matching}"),
        sight.test_vectors_of_what_is_hidden_are_not_given,
    ),
    "a key's filter is not looked at": Mutant(
        attribute(keys, "holder", with_open_eyes), sight.test_a_viewer_is_bound
    ),
    "a token's filter is not looked at": Mutant(
        attribute(tokens.Tokens, "_visible", lambda *_: None), sight.test_a_token_says_what_may_be_seen
    ),
    "a filter that cannot be read hides nothing": Mutant(
        attribute(keys.filters, "read", or_nothing), sight.test_what_cannot_be_read_opens_nothing
    ),
    "who does not see everything writes": Mutant(
        attribute(asking, "require_sight", lambda *_: None),
        sight.test_who_does_not_see_everything_writes_nothing,
    ),
    # what searches want
    "what an index has is made again": Mutant(
        instead(wanting.SQL, "lacking", ("v.doc_id = d.id", "false")),
        wished.test_what_is_there_is_not_made_again,
    ),
    "what is left out is made all the same": Mutant(
        instead(wanting.SQL, "lacking", ("e.doc_id = d.id", "false")),
        wished.test_what_is_there_is_not_made_again,
    ),
    "what is dead is made all the same": Mutant(
        instead(wanting.SQL, "lacking", ("x.doc_id = d.id", "false")),
        wished.test_what_is_there_is_not_made_again,
    ),
    "a paused migration is filled by searches": Mutant(
        function("revec.routed", (" AND m.paused_why IS NULL", "")),
        wished.test_nothing_is_wanted_where_nothing_is_filled,
    ),
    "what is with a batch is made by searches too": Mutant(
        function("revec.routed", (" AND NOT m.patient", "")),
        wished.test_nothing_is_wanted_where_nothing_is_filled,
    ),
    "a migration that is through is filled by searches": Mutant(
        function("revec.routed", (" AND m.state = 'backfilling'", "")),
        wished.test_nothing_is_wanted_where_nothing_is_filled,
    ),
    "a tenant wants without end": Mutant(
        instead(allowance.SQL, "take", ("a.level - n.documents", "a.level")),
        wished.test_a_tenant_has_its_allowance,
    ),
    "what is waited for is wanted again": Mutant(
        instead(wanting.SQL, "lacking", ("w.doc_id = d.id", "false")),
        wished.test_a_tenant_has_its_allowance,
    ),
    "what searches want has no bound": Mutant(
        attribute(wanting, "MOST_WAITING", 10**9), wished.test_what_waits_is_bounded
    ),
    "models are closed before what still asks them": Mutant(
        attribute(App, "__aexit__", models_first),
        doubled.test_who_leaves_in_mid_call_says_nothing_bad_of_the_model,
    ),
    "a shadow that is off reads": Mutant(
        function("revec.routed", (" AND h.rate > 0", "")), doubled.test_nothing_is_observed_when_it_is_off
    ),
    "a paused migration is read twice": Mutant(
        function("revec.routed", ("m.paused_why IS NOT NULL", "false")),
        doubled.test_nothing_is_observed_when_it_is_off,
    ),
    "an index that is given up shadows": Mutant(
        function("revec.routed", ("x.writing AND ", "")), doubled.test_nothing_is_observed_when_it_is_off
    ),
    "after a cutover as much is read twice as before": Mutant(
        function("revec.routed", ("least(h.rate, reverse_rate)", "h.rate")),
        doubled.test_after_a_cutover_the_old_index_shadows_a_little,
    ),
    "a query's text is kept": Mutant(
        attribute(Question, "hashed", lambda self, _: self.text.encode()),
        doubled.test_of_the_query_only_a_salted_hash_is_kept,
    ),
    "a dead process has the last word on a query": Mutant(
        without(shadows.SQL, "put", " AND token = %(token)s AND done_at IS NULL"),
        doubled.test_a_claim_whose_process_was_killed_is_taken_over,
    ),
    "a process that leaves keeps its claim": Mutant(
        attribute(shadows, "release", nothing), doubled.test_closing_leaves_nothing_behind
    ),
    "every process observes a query": Mutant(
        instead(shadows.SQL, "claim", ("o.token = %(token)s AS mine", "true AS mine")),
        doubled.test_a_replay_is_the_same_evidence,
    ),
    "a shadow goes on while searches are slow": Mutant(
        attribute(DualReader, "_is_slow", never), doubled.test_it_rests_while_searches_are_slow
    ),
    "a shadow does not wait for live searches": Mutant(
        attribute(precedence.Precedence, "given", nothing),
        doubled.test_it_takes_no_step_while_a_live_search_is_under_way,
    ),
    "a shadow asks a model that rests": Mutant(
        attribute(sparing, "SHADOW", calls.PROOF), doubled.test_a_model_that_rests_is_not_asked
    ),
    "a time-out is no time": Mutant(
        attribute(latency, "TIMED", {"ok", "empty"}), shadowing.test_a_timeout_is_a_time
    ),
    "what another pair showed counts": Mutant(
        without(shadows.SQL, "seen", " AND o.candidate = %(candidate)s"),
        shadowing.test_other_pairs_do_not_count,
    ),
    "what was written between the arms counts": Mutant(
        attribute(Evidence, "unchanged", property(lambda self: self.rows)),
        shadowing.test_variance_is_required_of_one_space_alone,
    ),
    "an unsound sample proves something": Mutant(
        attribute(Evidence, "doubt", None), shadowing.test_what_is_unsound_proves_nothing
    ),
    "where the old index failed the new one did well": Mutant(
        attribute(Evidence, "compared", property(lambda self: self.rows)),
        shadowing.test_where_the_old_index_fails_nothing_is_compared,
    ),
    "a rung rises on pairs that both failed": Mutant(
        instead(
            shadows.SQL,
            "rung",
            ("count(*) FILTER (WHERE o.again_outcome NOT IN ('error', 'timeout')) AS", "count(*) AS"),
            ("IN ('error', 'timeout')) AS failed", "IN ('')) AS failed"),
        ),
        shadowing.test_a_rung_is_not_left_on_pairs_that_both_failed,
    ),
    "a rung ends before its evidence is there": Mutant(
        attribute(evidence, "A_RUNG", 50), shadowing.test_a_migration_waits_for_its_searches
    ),
    "another collection is there": Mutant(
        attribute(asking, "require_reach", lambda *_: None), walls.test_another_collection_is_like_none
    ),
    "a document is read as a worker": Mutant(
        attribute(asking, "reading", as_a_worker), walls.test_row_security_alone_keeps_tenants_apart
    ),
    "a document is anybody's": Mutant(
        without(documents.SQL, "one", " AND (%(tenant)s::text IS NULL OR d.tenant = %(tenant)s)"),
        walls.test_the_queries_alone_keep_tenants_apart,
    ),
    "everybody may do everything": Mutant(
        attribute(Role, "covers", lambda *_: True), walls.test_what_each_role_may
    ),
    "a head is not looked at": Mutant(
        attribute(entrance, "_require_small_and_plain", lambda *_: None), limits.test_a_large_head_is_refused
    ),
    "a body is not counted": Mutant(
        attribute(entrance.Body, "receive", uncounted), limits.test_a_large_body_is_refused
    ),
    "nothing ends a request": Mutant(
        attribute(web_app, "Entrance", Patient), limits.test_an_answer_that_takes_too_long
    ),
    "all tenants have one purse": Mutant(
        attribute(Caller, "purse", property(lambda _: "all")), limits.test_the_share_of_each_tenant
    ),
    "any name leads to this machine": Mutant(
        attribute(doorkeeper, "_require_loopback", lambda *_: None),
        limits.test_on_this_machine_anybody_may_if_that_was_asked_for,
    ),
    # the console
    "any form is ours": Mutant(
        attribute(visit, "require_own_form", lambda *_: None),
        console_doors.test_a_form_needs_the_token_of_its_page,
    ),
    "a page of another site may send a form of ours": Mutant(
        attribute(guests, "split", lambda _: SimpleNamespace(netloc="127.0.0.1")),
        console_doors.test_a_form_needs_the_token_of_its_page,
    ),
    "a session outlives its key": Mutant(
        without(sessions.SQL, "holder", " AND k.revoked_at IS NULL"),
        console_doors.test_a_revoked_key_ends_its_sessions_at_once,
    ),
    "an open stream outlives its key": Mutant(
        without(sessions.SQL, "good", " AND k.revoked_at IS NULL"),
        console_live.test_a_stream_ends_with_the_key_that_it_stands_on,
    ),
    "who is logged in may do anything": Mutant(
        attribute(visit, "_require", lambda *_: None),
        console_migration.test_who_may_not_act_sees_why_and_cannot,
    ),
    "each tab has a computation": Mutant(
        attribute(Live, "watching", watching_alone), console_live.test_fifty_tabs_are_one_computation
    ),
    "bad keys shut the door for good ones": Mutant(
        attribute(guests.Guests, "log_in", trying_first), console_doors.test_who_tries_keys_has_to_wait
    ),
    "bad keys cost nothing": Mutant(
        attribute(guests.Purses, "take", lambda *_: None), console_doors.test_who_tries_keys_has_to_wait
    ),
    "a filter's key reads the audit": Mutant(
        attribute(audit_page, "_require_whole", lambda _: None),
        audited.test_who_does_not_see_every_document_reads_no_audit,
    ),
    "streams without end": Mutant(
        attribute(lives, "MOST", 1 << 40), console_live.test_streams_are_so_many_and_so_many_of_one
    ),
    "one has all streams": Mutant(
        attribute(Live, "_require_room", lambda *_: None),
        console_live.test_one_stream_too_many_is_an_answer_and_no_stream,
    ),
    "what was done during a look is forgotten": Mutant(
        attribute(View, "outdate", lambda view: setattr(view, "at", float("-inf"))),
        console_live.test_what_is_done_during_a_look_is_seen_by_the_next,
    ),
    "a weighing is kept for other rankings": Mutant(
        attribute(shelf.Shelf, "weighed", kept_for_any),
        shelved.test_rankings_that_come_during_a_weighing_are_weighed_themselves,
    ),
    "nobody waits": Mutant(
        attribute(inline, "settled", not_waiting), written.test_who_waits_reads_what_it_wrote
    ),
    "a wait is for every index": Mutant(
        without(push.SQL, "standing", "w.index_id IN (coalesce(o.index_id, r.serving), r.canary) AND "),
        written.test_a_wait_is_for_the_index_that_serves,
    ),
    "contents without end": Mutant(
        attribute(legs.Wanted, "room", property(lambda wanted: wanted.contents << 40)),
        client.test_contents_have_an_end,
    ),
    "hits are read past the filter": Mutant(
        without(fusion.SQL, "hydrated", " AND {matching}"),
        fused.test_hits_pass_the_filter_where_they_are_read,
    ),
    "a deletion meets any tenant's": Mutant(
        without(documents.SQL, "delete_keys", "AND (%(tenant)s::text IS NULL OR tenant = %(tenant)s)"),
        client.test_a_tenants_client_touches_nobody_else_s,
    ),
    "an id is taken over from another tenant": Mutant(
        instead(documents.SQL, "foreign", ("tenant <> %(tenant)s", "tenant <> %(tenant)s AND false")),
        client.test_a_tenants_client_touches_nobody_else_s,
    ),
    "a client forgets its tenant": Mutant(
        attribute(Client, "_whose", lambda _, asked: asked), client.test_a_tenants_client_asks_for_its_own
    ),
    "a tenant's client asks for any": Mutant(
        attribute(Client, "_whose", lambda own, asked: asked or own._tenant),
        client.test_a_tenants_client_asks_for_its_own,
    ),
    "a tenant's client writes for any": Mutant(
        attribute(push, "_require_own", nothing),
        client.test_a_tenants_client_writes_for_its_own,
    ),
    "the tenant does not travel": Mutant(
        attribute(remote, "_tenant", lambda _: None), client.test_a_tenants_client_asks_for_its_own
    ),
    "an error is no more than its status": Mutant(
        attribute(remote, "errors", None), client.test_an_error_is_the_same_down_to_its_own_kind
    ),
    "every error is the server's": Mutant(
        attribute(remote, "_error", lambda _, sentence, *__: Unavailable(sentence)),
        client.test_the_same_error,
    ),
    "a server sends us on": Mutant(
        attribute(httpx2, "AsyncClient", following), remotely.test_a_key_goes_where_it_was_sent
    ),
    "who was interrupted is still worked for": Mutant(
        attribute(twin.Future, "cancel", lambda _: False), twins.test_who_was_interrupted_leaves_no_task
    ),
    "what one call asks is dropped": Mutant(
        attribute(Retrieving, "_asked", lambda own, _: ASKED(own, {})),
        frameworks.test_one_call_of_langchain_may_ask_otherwise,
    ),
    "what was set for a tenant outlives the flip": Mutant(
        function("revec.routed", (" AND o.epoch = r.epoch", "")), users.test_one_rollback_takes_everybody_back
    ),
    "the next flip forgets who is held": Mutant(
        attribute(overrides, "in_force", nobody_apart), users.test_whole_tenants_see_it_and_others_are_held
    ),
    "a place is drawn anew for each request": Mutant(
        function("revec.place", ("candidate || ':' || sticky", "random()::text")),
        users.test_a_share_of_the_users_sees_the_new_index,
    ),
    "a finish under a tenant": Mutant(
        attribute(switch, "require_nobody_on_the_old", nothing), users.test_finish_waits_for_the_last_tenant
    ),
    "a drop under a tenant": Mutant(
        attribute(conductor, "require_nobody_on_the_old", nothing), users.test_no_drop_under_a_tenant
    ),
    "a canary on yesterday's proof": Mutant(
        attribute(switch, "_require_fresh", lambda *_: None), users.test_less_of_a_canary_needs_no_proof
    ),
    "a canary on what was proven before the rehearsal": Mutant(
        attribute(switch.Switch, "still_proven", nothing), users.test_a_gate_that_fails_while_it_is_rehearsed
    ),
    "a canary on a route that somebody moved": Mutant(
        attribute(showing, "_require_unmoved", lambda *_, **__: None), users.test_who_takes_users_back_wins
    ),
    "answers of another epoch are quiet ones": Mutant(
        without(canaries.SQL, "answered", " AND epoch = %(epoch)s"), users.test_no_step_while_a_guard_holds
    ),
    "one person cuts over": Mutant(
        attribute(switch, "require_approval", nothing), ordered.test_no_way_around_the_second_person
    ),
    "one person is two on two hosts": Mutant(
        attribute(ordering, "person", lambda who: who), ordered.test_it_takes_two_people
    ),
    "an order outlives a rollback": Mutant(
        attribute(order_rows, "forget", nothing), ordered.test_an_order_ends_with_a_rollback
    ),
    "a guard rolls back again and again": Mutant(
        attribute(migrations, "guarded_back", nothing), guarding.test_a_flapping_metric_rolls_back_once
    ),
    "a guard waits for the conductor's lease": Mutant(
        attribute(guarding_round, "LEASE", conductor.LEASE),
        guarding.test_it_guards_while_the_conductor_is_busy,
    ),
    "an alarm is told and never acted on": Mutant(
        attribute(guard_ticks, "_can_roll_back", lambda *_: False),
        guarding.test_an_alarm_rolls_back_once_it_can,
    ),
    "a guard does not hold": Mutant(
        attribute(migrations, "latch", nothing), guarding.test_a_flapping_metric_rolls_back_once
    ),
    "a guard acts on what it only counted": Mutant(
        attribute(guard_rows, "keep", nothing), guarding.test_a_killed_guard_goes_on
    ),
    "a paused tenant is a backlog": Mutant(
        instead(guard_rows.SQL, "waits", ("p.paused_why IS NOT NULL", "p.paused_why IS NULL")),
        guarding.test_paused_tenants_are_no_backlog,
    ),
    "what was told is told again": Mutant(
        attribute(outbox, "heard", nothing), telling.test_every_move_is_told
    ),
    "what was not taken is forgotten": Mutant(
        attribute(outbox, "again", unheard),
        telling.test_a_receiver_that_is_not_there_stops_nothing,
    ),
    "metadata says whose it is": Mutant(
        attribute(langchain, "metadata", lambda hit: {"tenant": hit.tenant, **hit.metadata}),
        frameworks.test_nobodys_metadata_takes_our_words,
    ),
    "nobody imagines a lost query": Mutant(
        attribute(paired, "_weighed", nothing_imagined),
        looked.test_fifty_queries_without_a_difference_prove_nothing,
    ),
    "NaN is a difference": Mutant(
        attribute(paired, "checked", unread), looked.test_what_is_no_difference_is_refused
    ),
    "any margin will do": Mutant(
        attribute(margins, "_require_margin", lambda _: None), margined.test_no_number_is_never_a_pass
    ),
    "a sequence knows the value that it bets on": Mutant(
        attribute(sequences, "_before", lambda sums, _: sums), followed.test_against_the_formula_of_the_paper
    ),
    "a sequence takes no account of spread": Mutant(
        attribute(sequences, "_sums", of_no_spread), followed.test_against_the_formula_of_the_paper
    ),
    "an alarm is forgotten": Mutant(attribute(RateWatch, "after", forgetful), watched.test_an_alarm_stays),
    "a new bet is free": Mutant(
        attribute(RateWatch, "wanted", property(lambda watch: 1 / watch.alpha)),
        watched.test_all_bets_together_err_with_alpha,
    ),
    "a pair counts that says nothing": Mutant(
        attribute(guards, "_alone", lambda _, slow_new: slow_new),
        watched.test_a_wrong_threshold_never_lets_a_slower_arm_pass,
    ),
    "half a request is a flag": Mutant(
        attribute(guards, "_flags", np.atleast_1d), watched.test_what_is_no_flag_is_refused
    ),
    "a query counts whenever it is asked": Mutant(
        attribute(samples, "_first_asked", lambda asked: (True for _ in asked)),
        sampled.test_a_query_counts_once_and_a_session_once,
    ),
    "every look is the first": Mutant(
        attribute(migrations, "looked", nothing),
        judging.test_the_same_set_and_vectors_are_looked_at_once,
    ),
    "later looks err as often": Mutant(
        attribute(quality, "ALPHA", 0.1), judging.test_too_few_queries_hold_the_migration
    ),
    "an index in doubt is looked at": Mutant(
        attribute(gates.Case, "doubted", None), judging.test_an_index_that_is_in_doubt_is_not_looked_at
    ),
    "a segment blocks nothing": Mutant(
        attribute(quality, "_segments", lambda *_: []), judging.test_a_segment_that_lost_too_much_blocks
    ),
    "a proof's judgements are dropped": Mutant(
        instead(judgements.SQL, "needed", ("state <> ALL (%(final)s)", "false")),
        judging.test_a_set_that_proves_a_migration_is_not_dropped,
    ),
    "a comparison pays for more": Mutant(
        attribute(sample, "PART", 0.5), comparing.test_a_comparison_costs_three_percent_and_is_paid_once
    ),
    "what a comparison paid for is forgotten": Mutant(
        attribute(sample.queue, "close_payment", forgotten),
        comparing.test_a_comparison_costs_three_percent_and_is_paid_once,
    ),
    "another tenant's documents are ranked": Mutant(
        attribute(comparison.Pool, "scores", of_everybody),
        comparing.test_a_tenant_s_queries_see_its_own_documents,
    ),
    "nothing is ever late": Mutant(
        attribute(freshness, "JIT_GOAL", float("inf")), fresh.test_each_lane_has_its_goal
    ),
    "the doctor may write": Mutant(
        instead(guarded.SQL, "read_only", ("SET TRANSACTION READ ONLY", "SELECT 1")),
        visiting.test_whatever_a_look_asks_nothing_is_written,
    ),
    "a look has no end": Mutant(
        instead(guarded.SQL, "limits", ("'statement_timeout', %(statement)s", "'revec.x', %(statement)s")),
        visiting.test_a_look_has_an_end,
    ),
    "the doctor queues for locks": Mutant(
        instead(guarded.SQL, "limits", ("'lock_timeout', %(lock)s", "'revec.x', %(lock)s")),
        visiting.test_a_locked_table_is_waited_for_no_longer_than_said,
    ),
    "hidden rows are no rows": Mutant(
        instead(learning.SQL, "size", ("THEN true ELSE", "THEN false ELSE")),
        visiting.test_rows_that_are_hidden_are_no_pass,
    ),
    "what was not looked at is clean": Mutant(
        attribute(examine.Report, "blind", lambda _: []),
        diagnosing.test_who_asks_to_fail_is_not_told_a_pass_of_what_was_not_seen,
    ),
    "markup in a name is markup": Mutant(
        attribute(one_page, "text", str), diagnosing.test_the_page_needs_nothing_and_runs_nothing
    ),
    "zeros are the best hit": Mutant(
        without(pgvector.SQL, "scan_exactly", "HAVING min(distance) <> 'NaN' "),
        adopting.test_a_vector_of_zeros_is_near_to_nothing,
    ),
    "zeros are a document's score": Mutant(
        without(pgvector.SQL, "scored", "HAVING min(embedding <=> %(query)b) <> 'NaN' "),
        adopting.test_a_vector_of_zeros_is_near_to_nothing,
    ),
    "zeros reach a caller's threshold": Mutant(
        function("revec.nearest", ("HAVING min(near.distance) <> ''NaN'' ORDER", "ORDER")),
        adopting.test_a_vector_of_zeros_is_near_to_nothing,
    ),
    "zeros reach a caller's threshold by a graph": Mutant(
        function(
            "revec.nearest",
            (
                "AS near GROUP BY near.doc_id HAVING min(near.distance) <> ''NaN''",
                "AS near GROUP BY near.doc_id",
            ),
        ),
        adopting.test_a_vector_of_zeros_is_near_to_nothing,
    ),
    "a caller's rows are counted in the user's table": Mutant(
        function("revec.nearest", ("there.counted", "there.relation")),
        adopting.test_rows_of_a_column_are_counted_by_its_ledger,
    ),
    "callers may look for themselves": Mutant(
        ddl("GRANT USAGE ON SCHEMA revec TO PUBLIC"),
        called.test_an_application_without_rights_here_finds_its_own_rows,
    ),
    "a caller's search reads as the owner": Mutant(
        ddl("ALTER FUNCTION revec.nearest OWNER TO CURRENT_USER"),
        called.test_the_search_reads_as_one_tenant_s_reader,
    ),
    "a row that moved is still its old tenant's": Mutant(
        without(
            callers.SQL,
            "search",
            "AND coalesce(nullif(({row_tenant})::text, ''), {nobody}) = revec_asked.tenant",
        ),
        called.test_what_the_row_is_now_counts,
    ),
    "a row that was deleted softly is shown": Mutant(
        without(callers.SQL, "search", "AND coalesce(({filter})::boolean, false)"),
        called.test_what_the_row_is_now_counts,
    ),
    "a caller's transaction keeps our settings": Mutant(
        function("revec.nearest", ("was[2]", "'relaxed_order'")),
        called.test_the_caller_s_transaction_is_left_as_it_was,
    ),
    "an index answers callers before it is whole": Mutant(
        function("revec.destination_of", ("fits[1].waits IS NOT NULL", "false")),
        called.test_both_models_are_answered_from_ready_until_the_drop,
    ),
    "whose vector it is, is guessed": Mutant(
        function("revec.destination_of", ("spaces > 1", "false")),
        called.test_spaces_of_one_size_are_told_apart_by_word,
    ),
    "a function that cannot tell spaces apart is made": Mutant(
        attribute(calling, "_require_space", nothing),
        called.test_spaces_of_one_size_are_told_apart_by_word,
    ),
    "a start does not ask whether callers can tell": Mutant(
        attribute(commands, "_require_told_apart", nothing),
        called.test_spaces_of_one_size_are_told_apart_by_word,
    ),
    "a registration does not ask whether callers can tell": Mutant(
        attribute(conductor.Conductor, "_is_held_up", nothing),
        called.test_a_function_made_between_start_and_registration_is_seen,
    ),
    "a judgement is nobody's": Mutant(
        instead(judgements.SQL, "put_judgements", ("%(who)s", "NULL")),
        compared.test_a_judgement_on_the_page_changes_what_the_gate_says_next,
    ),
    "a judgement is of any document": Mutant(
        attribute(judgements, "documents_of_tenant", nothing),
        compared.test_a_judged_document_is_one_of_that_tenant,
    ),
    "who does not see every document judges": Mutant(
        attribute(compare_page, "_require_judge", lambda _: None),
        compared.test_who_does_not_see_every_document_sees_no_set,
    ),
    "a viewer compares in any tenant": Mutant(
        attribute(asking, "tenant", lambda caller, asked: asked or caller.tenant),
        compared.test_a_viewer_compares_in_their_own_tenant_and_judges_nothing,
    ),
    "a judged set is shown as it was read once": Mutant(
        attribute(judgements, "changed_at", always_then),
        compared.test_a_set_is_read_again_only_where_something_went_into_it,
    ),
    "a judged set is hashed while others wait": Mutant(
        attribute(worst, "asyncio", SimpleNamespace(to_thread=at_once)),
        compared.test_hashing_a_set_holds_nobody_up,
    ),
    "a page that is open is a slow request": Mutant(
        attribute(Metrics, "note", noted_with_its_time),
        console_live.test_how_long_a_page_stays_open_is_no_request_s_time,
    ),
    "rankings are weighed by what was judged then": Mutant(
        attribute(shelf, "fingerprint", lambda _: ""),
        compared.test_a_set_is_weighed_and_weighed_again_by_what_was_judged_since,
    ),
    "a copied word is quoted by hand": Mutant(
        attribute(again, "word", lambda text: f"'{text}'"),
        playground.test_a_copied_command_says_what_was_asked_and_nothing_else,
    ),
    "a key is of whichever source has it": Mutant(
        instead(letters.SQL, "retry", ("WHERE name = %(source)s", "WHERE true")),
        queue_page.test_of_two_documents_with_one_key_only_the_one_looked_at_is_touched,
    ),
    "a copied key is read by the shell": Mutant(
        attribute(ENVIRONMENT, "filters", {**ENVIRONMENT.filters, "word": str}),
        queue_page.test_a_copied_command_shows_the_very_document,
    ),
    "the live figures are anybody's": Mutant(
        attribute(page_of_queue, "_of_all", lambda visit: visit.of_collection()),
        queue_page.test_the_live_figures_are_for_whom_the_page_is,
    ),
    "a character that nobody can hold is the server's fault": Mutant(
        attribute(problems, "is_of_what_was_sent", lambda _: False),
        console_doors.test_a_value_that_gets_through_is_the_callers_and_a_query_s_own_fault_is_ours,
    ),
    "what happened at one moment is on one page": Mutant(
        without(audit.SQL, "page", " OR md5('event ' || e.id) < %(tie)s"),
        audited.test_pages_of_any_size_are_the_whole_once,
    ),
    "a collection's operator reads of all keys": Mutant(
        without(audit.SQL, "page", "AND (%(collection)s::text IS NULL OR few.collection = %(collection)s)"),
        audited.test_only_who_may_see_all_tenants_reads_it_and_of_their_collection,
    ),
    "a cell of the audit runs": Mutant(
        attribute(audit, "_inert", str),
        audited.test_no_cell_is_a_formula,
    ),
    "a key makes one that is for more": Mutant(
        attribute(settings_page, "_require_unbound", lambda _: None),
        configured.test_no_key_makes_one_that_is_for_more,
    ),
    "a setting is a secret by its type alone": Mutant(
        attribute(settings, "SECRET", re.compile(r"\b\B")),
        configured.test_of_secrets_no_more_is_said_than_that_they_are_set,
    ),
    "a threshold is the same in every space": Mutant(
        function(
            "revec.nearest", ("revec.rescaled(threshold, scale.home_scores, scale.scores)", "threshold")
        ),
        called.test_a_threshold_means_as_much_in_the_next_space_and_the_one_after,
    ),
    "every worker counts": Mutant(
        attribute(leases, "held", always_mine), counted.test_one_worker_counts_and_the_next_one_when_it_leaves
    ),
    "what a person paused is late": Mutant(
        without(counting.SQL, "open", "FILTER (WHERE p.tenant IS NULL)"),
        counted.test_an_edit_of_a_paused_tenant_is_nobodys_lag,
    ),
    "a new collection waits for the minute": Mutant(
        instead(census.SQL, "lacking", ("SELECT EXISTS", "SELECT false AND EXISTS")),
        counted.test_a_new_collection_is_counted_at_once,
    ),
    "samples are kept for ever": Mutant(
        instead(minutes.SQL, "put", ("%(days)s", "%(days)s + 99")),
        counted.test_samples_are_kept_for_eight_days,
    ),
    "edits are looked at among all work": Mutant(
        without(overview.SQL, "lanes", "AND w.lane = lane.n"),
        desk.test_a_long_backfill_hides_neither_edits_nor_leases,
    ),
    "leases of a long lane are shared out": Mutant(
        attribute(overview, "SHARES", (*overview.SHARES, *overview.LEAST)),
        desk.test_leases_of_a_long_lane_are_not_multiplied,
    ),
    "a count that takes too long takes the census with it": Mutant(
        attribute(counting, "_in_time", counting._all),
        counted.test_what_cannot_be_counted_takes_nothing_else_with_it,
    ),
    "the last census is told for ever": Mutant(
        attribute(census_figures, "OLD", timedelta.max),
        figured.test_a_worker_that_cannot_count_any_more_tells_nothing,
    ),
}
