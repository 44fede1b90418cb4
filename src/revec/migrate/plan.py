"""The plan: what a migration would do, take, cost and need. Writes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date

from revec.migrate.decide import way_on
from revec.migrate.evidence import ERRORS, LATENCY, VARIANCE, require_rate
from revec.migrate.gates.base import COMPLETENESS, FIDELITY, RECALL, Tools
from revec.migrate.outlook import QUALITY
from revec.migrate.planning import advice, bill, shape, survey, tokens
from revec.migrate.planning.planned import Plan, fate_of_long_texts, is_copy
from revec.migrate.planning.recipe import AS_IT_IS, Long, recipe
from revec.migrate.planning.survey import Turn
from revec.migrate.power import Power, Traffic
from revec.model.course import STRAIGHT_ON, Course
from revec.model.errors import Refused, RevecError
from revec.model.index import Collection, Index, Kind
from revec.model.place import HERE, PG, new_place
from revec.model.space import QueryRecipe, Space
from revec.postgres import documents, indexes, migrations
from revec.postgres.database import Connection
from revec.providers.base import Provider
from revec.search import fusion
from revec.work import queue
from revec.work.gather import require_batches


async def plan(
    tools: Tools,
    collection: Collection,
    provider: Provider,
    *,
    kind: Kind | None = None,
    query: Provider | None = None,
    long: Long = AS_IT_IS,
    patient: bool = False,
    serve_early: bool = False,
    store: str | None = None,
    power: Power | None = None,
    traffic: Traffic | None = None,
    shadow: float | None = None,
    course: Course = STRAIGHT_ON,
) -> Plan:
    """What moving the collection to the provider's model means.

    Args:
        patient: the backfill goes through the provider's batch API.
        serve_early: the model answers before the backfill is over, where that is no loss.
        store: where the new index lives; None: where the one that serves does.
        power: of the declared judgements, which the quality gate then requires.
        shadow: live reads are compared before it is ready, at first this share of them.
        course: whose documents the backfill takes first, whose at all, and how far it goes.

    Raises:
        Refused: another migration is under way, or the space is the one that serves.
        BadInput: the kind of index cannot hold the dims, `query` is of another space, the model cannot
            hold the chunks, or takes no batches; or a tenant has no documents.
        ProviderError: the model does not answer.
    """
    space, asking = await recipe(provider, query, long)
    if patient:
        await require_batches(provider)
    now = await _now(tools, collection, space, asking, course)
    at = store or (now.old.place.store if now.old else PG)
    _require_a_change(collection, now.old, (space.id, asking, at), kind)
    chosen, why = shape.kind_of(space, now.largest_tenant, kind) if at == PG else shape.native(at, kind)
    async with tools.database.transaction("worker") as conn:
        seen = await survey.survey(conn, collection, now.old, now.documents)
    counted = await tokens.counted(tools, collection, provider, space, seen, copies=is_copy(now.old, space))
    async with tools.database.transaction() as conn:
        reckoned = await bill.reckoned(conn, provider, counted, tools.limits.sample)
    return Plan(
        collection=collection,
        old=now.old,
        space=space,
        query=asking,
        documents=now.documents,
        largest_tenant=now.largest_tenant,
        kind=chosen,
        why_kind=why,
        gates=(
            *_of_itself(chosen, power),
            *_of_traffic(collection, now.old, space, asking, shadow),
        ),
        seen=seen,
        bill=reckoned,
        size=shape.size_of(chosen, space.dims, counted.rows),
        turns=now.turns,
        risks=advice.risks(
            collection.name,
            seen,
            reckoned,
            old=now.old,
            gone=(await _gone(tools, now.old), (await provider.traits()).shutdown),
            long_texts=fate_of_long_texts(counted.sampled, space) if counted.sampled.longer else None,
            workers=now.workers,
            two_layers=tools.database.two_layers,
        ),
        course=course,
        now_bytes=round(now.bytes / seen.embedded, 1) if now.bytes and seen.embedded else None,
        patient=patient,
        fusion=now.fusion,
        serve_early=serve_early,
        place=HERE if at == PG else new_place(at),
        power=power,
        traffic=traffic if now.old else None,
        shadow=shadow,
    )


@dataclass(frozen=True, slots=True)
class _Now:
    """How the collection stands before it moves."""

    old: Index | None  # that serves
    bytes: int  # of its vectors
    fusion: str | None  # what becomes of it at the cutover
    documents: int
    largest_tenant: int
    turns: Sequence[Turn]
    workers: int


async def _now(
    tools: Tools, collection: Collection, space: Space, asking: QueryRecipe, course: Course
) -> _Now:
    """
    Raises:
        Refused: another migration is under way.
        BadInput: a tenant of the course has no documents.
    """
    async with tools.database.transaction() as conn:
        await _require_idle(conn, collection)
        route = await indexes.route_of(conn, collection.id)
        old = None if route.serving is None else await indexes.by_id(conn, route.serving)
        await survey.require_documents(conn, collection, course.tenants)
        return _Now(
            old=old,
            bytes=await tools.store.bytes_stored(conn, old) if old else 0,
            fusion=await fusion.after(conn, collection.name, old, space, asking),
            documents=await documents.count(conn, collection.id),
            largest_tenant=await documents.largest_tenant(conn, collection.id),
            turns=await survey.turns(conn, collection, course),
            workers=len(await queue.workers(conn)),
        )


async def _require_idle(conn: Connection, collection: Collection) -> None:
    if active := await migrations.active(conn, collection.id):
        raise Refused(
            f"{collection.name} is being migrated to {active[0].target} ({active[0].state}): "
            f"{way_on(active[0].state, collection.name)}"
        )


def _require_a_change(
    collection: Collection, old: Index | None, new: tuple[str, QueryRecipe, str], kind: Kind | None
) -> None:
    """`new`: its space, how it is asked, and its store. A column of the user's may become a table of ours."""
    if old is None or old.column is not None or (old.space.id, old.query, old.place.store) != new:
        return
    if kind in {None, old.kind}:
        raise Refused(
            f"{collection.name} is served by {old.space.address} already, by the same recipe: "
            f"there is nothing to migrate; `revec verify {collection.name}` judges it"
        )


async def _gone(tools: Tools, old: Index | None) -> date | None:
    """When the model that serves is switched off, as far as its engine is here to say so."""
    if old is not None:
        with suppress(RevecError):
            provider = await tools.provider_for(old.space.address, old.space.dims)
            return (await provider.traits()).shutdown
    return None


def _of_itself(kind: Kind, power: Power | None) -> tuple[str, ...]:
    """The gates that the new index makes necessary, and the judgements that were declared."""
    recall, quality = [RECALL] if kind.is_approximate else [], [QUALITY] if power else []
    return (COMPLETENESS, FIDELITY, *recall, *quality)


def _of_traffic(
    collection: Collection, old: Index | None, space: Space, query: QueryRecipe, shadow: float | None
) -> tuple[str, ...]:
    """The gates that live reads make necessary: of one space the answers have to be equal, too."""
    if shadow is None:
        return ()
    require_rate(shadow)
    if old is None:
        raise Refused(
            f"nothing serves {collection.name} yet, so there are no answers to compare: leave --shadow out"
        )
    is_same = (old.space.id, old.query) == (space.id, query)
    return (LATENCY, ERRORS, *([VARIANCE] if is_same else []))
