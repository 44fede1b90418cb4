"""The only place that wires real things together; it opens and closes them."""

from __future__ import annotations

import asyncio
import getpass
import shutil
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any, Self
from uuid import uuid4

from revec import seams
from revec.capture import attach, discover, projector, tenants
from revec.doctor.base import Limits as DoctorLimits
from revec.doctor.base import NotLooked
from revec.doctor.learning import learn
from revec.doctor.visit import Visit
from revec.migrate import outlook, plan, power
from revec.migrate.census import CensusTaker
from revec.migrate.commands import Commands
from revec.migrate.conductor import Conductor
from revec.migrate.deadman import DeadMan
from revec.migrate.gates.base import Tools
from revec.migrate.guarding import Guarding
from revec.migrate.outlook import Limits
from revec.migrate.planning.planned import Plan
from revec.migrate.planning.recipe import AS_IT_IS, Long, recipe
from revec.migrate.telling import Teller
from revec.model import place
from revec.model.course import STRAIGHT_ON, Course
from revec.model.errors import BadInput, MissingExtra, StoreUnavailable, Unavailable
from revec.model.index import Collection, Index, Kind
from revec.model.judging import MARGIN, JudgedQuery, Quality
from revec.model.migration import Migration
from revec.observe import webhooks
from revec.observe.webhooks import Hook
from revec.postgres import schema
from revec.postgres.database import Database, reached
from revec.postgres.server import Server, default_home
from revec.providers.base import Options, Provider
from revec.search import lexical
from revec.search.dual_read import DualReader
from revec.search.early import Early
from revec.search.ledger import Ledger
from revec.search.precedence import Precedence
from revec.search.pulse import Pulse
from revec.search.queries import Queries
from revec.search.retriever import Retriever
from revec.search.traffic import Traffic
from revec.search.wanting import Wanting
from revec.settings import Settings
from revec.stores.base import Here
from revec.stores.by_address import ByAddress
from revec.stores.column import InColumn
from revec.stores.elsewhere import Elsewhere
from revec.stores.patient import Patient
from revec.stores.pgvector import PgVector
from revec.stores.points import Points
from revec.stores.upkeep import Upkeep
from revec.work.batches import Batcher
from revec.work.control import Control
from revec.work.demand import Demand
from revec.work.inline import Inline
from revec.work.memory import Memory, ceiling
from revec.work.reconcile import Reconciler
from revec.work.worker import Pace, Worker

if TYPE_CHECKING:  # it reckons with vectors
    from revec.capture.mapping import Mapping
    from revec.migrate.adopt import Adoptable
    from revec.migrate.compare import Compared

DRAIN_PATIENCE = 60.0  # seconds that a drain waits for the clock
EARLY = 0.4  # of the deadline, for an early answer: what is left is for the other one


class App:
    """Revec on one database: `async with App(settings) as app`."""

    def __init__(self, settings: Settings, *, may_apply: bool = False) -> None:
        self.settings = settings
        self._may_apply = may_apply or not settings.dsn  # the embedded server is ours
        self.schema_applied: list[str] = []  # by this very process
        self._exits = AsyncExitStack()
        self._providers: dict[tuple[str, int | None], Provider] = {}
        self._ceiling = ceiling(settings.memory)
        self._stores: dict[str, Patient] = {}
        self.limits = Limits(
            freshness=settings.freshness,
            deadline=settings.request_deadline,
            sample=settings.fidelity_sample,
            lease=settings.conductor_lease,
            reconcile=settings.reconcile_every,
        )

    async def __aenter__(self) -> Self:
        dsn = self.settings.dsn
        if dsn is None:
            dsn = await self._exits.enter_async_context(_embedded(self.settings))
        try:
            self.database = await self._exits.enter_async_context(Database(dsn))
            self.schema_applied = await schema.ready(self.database, may_apply=self._may_apply)
        except BaseException:
            await self._exits.aclose()
            raise
        self._exits.push_async_callback(self._close_reached)
        self.store: Here = ByAddress(PgVector(), Elsewhere(self.database, self.store_at), InColumn())
        pulse = Pulse(self.database)
        self._exits.push_async_callback(pulse.close)
        self.traffic = Traffic(self.database)
        self._exits.push_async_callback(self.traffic.close)
        wanting = Wanting(self.database, self.settings.jit_per_minute)
        self._exits.push_async_callback(wanting.close)
        ledger = Ledger(self.database)
        self._exits.push_async_callback(ledger.close)
        queries = Queries(self.provider, ledger)
        self._exits.push_async_callback(queries.close)
        self.demand = Demand(
            self.database,
            self.store,
            self.provider,
            Memory(self._ceiling),
            lease=self.settings.lease,
            per_minute=self.settings.jit_per_minute,
        )
        self.inline = Inline(self.database, self.demand, patience=self.settings.inline_wait)
        patience = self.settings.early_seconds or self.settings.request_deadline * EARLY
        early = Early(self.database, self.store, queries, self.demand, patience=patience)
        self._exits.push_async_callback(early.close)
        precedence = Precedence()
        self.dual_reader = DualReader(
            *(self.database, self.store, self.provider),
            lexical=lexical.ranked,
            precedence=precedence,
            deadline=self.settings.request_deadline,
            tell=self.traffic.note,
        )
        self._exits.push_async_callback(self.dual_reader.close)
        self.retriever = Retriever(
            self.database,
            self.store,
            queries,
            pulse.note,
            tell=self.traffic.note,
            want=wanting.note,
            offer=self.dual_reader.offer,
            early=early,
            lexical=lexical.ranked,
            precedence=precedence,
            deadline=self.settings.request_deadline / 2,  # the rest is for the words
        )
        self.tools = Tools(self.database, self.store, self.provider, self.retriever, self.limits)
        self.commands = Commands(self.tools, _who())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.demand.close()
        await self._exits.aclose()

    async def _close_reached(self) -> None:
        """Models and stores: behind whatever still has to do with them, or what is cut off here would look
        like a failure of theirs.
        """
        for provider in self._providers.values():
            await provider.close()
        for store in self._stores.values():
            await store.close()

    async def provider(self, address: str, dims: int | None = None) -> Provider:
        """The model behind an address; one per process."""
        key = (address, dims)
        if key not in self._providers:
            self._providers[key] = _provider(self.settings, address, dims)
        return self._providers[key]

    def store_at(self, address: str) -> Patient:
        """The store elsewhere behind an address; one per process."""
        if address not in self._stores:
            points = self._points_at(address)
            deadline = self.settings.request_deadline / 2  # the rest is for the words
            self._stores[address] = Patient(address, points, deadline, self.settings.store_timeout)
        return self._stores[address]

    def _points_at(self, address: str) -> Points:
        """
        Raises:
            BadInput: that is no address of a store.
            StoreUnavailable: its package or its key is not to be had here; another worker may have it.
        """
        host = place.address(address).key_name
        try:
            key = self.settings.store_key(host)
        except BadInput as error:
            raise StoreUnavailable(str(error)) from error
        try:
            return seams.store(address, key)
        except MissingExtra as error:
            raise StoreUnavailable(str(error)) from error

    async def plan(
        self,
        collection: Collection,
        address: str,
        *,
        dims: int | None = None,
        kind: Kind | None = None,
        query: str | None = None,
        long: Long = AS_IT_IS,
        patient: bool = False,
        serve_early: bool = False,
        store: str | None = None,
        judged: Quality | None = None,
        shadow: float | None = None,
        course: Course = STRAIGHT_ON,
    ) -> Plan:
        """What moving to a model or a store means; queries may be embedded by another one of its family."""
        if store not in (None, place.PG):
            await self.store_at(store).facts()  # it is there, and lets us in
        provider = await self.provider(address, dims)
        asker = await self.provider(query, dims) if query else None
        measured = await power.power(self.tools, collection, judged) if judged else None
        return await plan.plan(
            self.tools,
            collection,
            provider,
            kind=kind,
            query=asker,
            long=long,
            patient=patient,
            serve_early=serve_early,
            store=store,
            power=measured,
            traffic=await power.traffic(self.tools, collection),
            shadow=shadow,
            course=course,
        )

    async def adoptable(self, mapping: Mapping, address: str, *, model_gone: bool = False) -> Adoptable:
        """A column of a user's table, if it is what is said of it; `address`: the model that made it.

        Nothing is written: `Adoptable.adopt` does that.
        """
        from revec.migrate.adopt import looked_at

        async with self.database.transaction() as conn:
            mapping = await attach.checked(conn, mapping)
            found = await discover.column(conn, mapping)
        provider = await self.provider(address, found.dims)
        return await looked_at(self.tools, found, mapping, provider, model_gone=model_gone)

    async def compare(
        self,
        collection: Collection,
        address: str,
        queries: Sequence[JudgedQuery],
        *,
        dims: int | None = None,
        query: str | None = None,
        long: Long = AS_IT_IS,
        margin: float = MARGIN,
    ) -> Compared:
        """Whether a model is worth moving to, from a small part of what moving would cost."""
        from revec.migrate.compare import compare

        provider = await self.provider(address, dims)
        asker = await self.provider(query, dims) if query else None
        of = await recipe(provider, asker, long)
        return await compare(self.tools, collection, provider, of, queries, margin=margin)

    async def start(
        self,
        collection: Collection,
        address: str,
        *,
        budget: Decimal | None = None,
        approvals: int = 1,
        guard_dead: str = "alarm",
        **how: Any,
    ) -> Migration:
        """Begin what `plan` plans, which takes `how`."""
        planned = await self.plan(collection, address, **how)
        return await self.commands.start(planned, budget=budget, approvals=approvals, guard_dead=guard_dead)

    def worker(self, **pace: Any) -> Worker:
        """A worker, with all the duties that run beside it."""
        holder = uuid4()
        concurrency = pace.get("concurrency") or self.settings.concurrency
        memory = Memory(ceiling(pace.get("memory") or self.settings.memory), slots=concurrency)
        batcher = Batcher(
            database=self.database,
            store=self.store,
            provider_for=self.provider,
            memory=memory,
            holder=holder,
            lease=self.settings.lease,
        )
        ticking = Conductor(self.tools, holder)
        guarding = Guarding(self.tools, holder)
        counting = CensusTaker(self.database, seams.shutdown, holder)
        telling = Teller(self.database, self._hook(), holder, lease=self.settings.conductor_lease)
        worker = Worker(
            database=self.database,
            store=self.store,
            provider_for=self.provider,
            duties=[
                partial(projector.project, self.database),
                partial(tenants.refresh, self.database),
                batcher.tick,
                lexical.Folder(self.database).tick,
                ticking.tick,
                guarding.tick,
                Upkeep(self.database, self.store_at).tick,
                Reconciler(self.database, self.store, every=self.settings.reconcile_every).tick,
                telling.tick,
                counting.tick,
            ],
            outstanding=self.outstanding,
            pace=Pace(
                claim=pace.get("claim") or self.settings.claim,
                lease=self.settings.lease,
                concurrency=concurrency,
                idle=self.settings.idle,
                spare=pace.get("spare") or 0,
            ),
            memory=memory,
            control=Control(self.database, braking=self.settings.brake),
            id=holder,
        )
        worker.on_leave(ticking.leave)
        worker.on_leave(guarding.leave)
        worker.on_leave(batcher.leave)
        worker.on_leave(telling.leave)
        worker.on_leave(counting.leave)
        return worker

    def deadman(self) -> DeadMan:
        """For processes that serve: it speaks up when no worker watches any more."""
        return DeadMan(self.tools, silence=self.settings.guard_silence)

    def _hook(self) -> Hook | None:
        return webhooks.hook(self.settings.webhook, self.settings.webhook_signer)

    async def outstanding(self) -> list[str]:
        """What still moves without a person."""
        left = await projector.outstanding(self.database)
        left += await outlook.outstanding(self.database, self.store, self.limits, DRAIN_PATIENCE)
        # A vector that was written into a user's row between these looks may have come back as a change.
        return left or await projector.outstanding(self.database)

    async def serving(self, collection: str) -> Index:
        _, index = await self.retriever.route(collection)
        return index


@asynccontextmanager
async def examining(settings: Settings, *, models: Sequence[str], patience: float) -> AsyncIterator[Visit]:
    """A doctor's visit to a database, whether or not Revec has tables there.

    Raises:
        BadInput: there is no database to look at.
        Unavailable: it does not answer, or not in time.
    """
    home = settings.home or default_home()
    if settings.dsn is None and not home.exists():
        raise BadInput(
            "there is no database to look at: set REVEC_DSN to postgresql://user@host:5432/database"
        )
    named = [*models, *(wanted.model for wanted in settings.collections.values())]
    async with AsyncExitStack() as exits:
        dsn = settings.dsn
        if dsn is None:
            dsn = await exits.enter_async_context(_embedded(settings))
        conn = await exits.enter_async_context(reached(dsn))
        try:
            case = await learn(
                dsn,
                conn,
                DoctorLimits(statement=patience),
                models=list(dict.fromkeys(named)),
                shutdown_of=seams.shutdown,
                free_bytes=None if settings.dsn else shutil.disk_usage(home).free,
            )
        except NotLooked as error:
            raise Unavailable(
                f"the database's catalog cannot be read: {error}. Try a longer --timeout"
            ) from error
        yield Visit(conn, case, partial(_provider, settings))


@asynccontextmanager
async def _embedded(settings: Settings) -> AsyncIterator[str]:
    """Start the embedded server, or join the one that another command started."""
    server = Server(settings.home or default_home())
    dsn = await asyncio.to_thread(server.attach)
    try:
        yield dsn
    finally:
        await asyncio.to_thread(server.detach)


def _provider(settings: Settings, address: str, dims: int | None = None) -> Provider:
    engine = address.partition(":")[0]
    options = Options(
        dims=dims,
        base_url=settings.base_url(engine),
        api_key=settings.api_key(engine),
        timeout=settings.provider_timeout,
        threads=settings.threads,
    )
    return seams.provider(address, options)


def _who() -> str:
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except OSError:  # no such user: a container with a bare uid
        return f"somebody@{socket.gethostname()}"
