"""Migrations: what they did, and a person's verbs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request

from revec.migrate.canary import Wanted
from revec.migrate.commands import Commands
from revec.model.errors import NotFound
from revec.model.index import Collection
from revec.model.judging import Quality
from revec.postgres import migrations
from revec.web import bodies
from revec.web.asking import Admin, CollectionName, Overseer, TheApp, collection
from revec.web.entrance import extend

router = APIRouter(prefix="/v1/collections/{name}/migrations", tags=["migrations"])
MOST = 100  # migrations listed
PATIENCE = 60.0  # seconds: a model may be asked


def _wanted(order: bodies.Order) -> Wanted:
    share = None if order.percent is None else order.percent / 100
    later = [percent / 100 for percent in order.steps]
    return Wanted(share=share, steps=later, tenants=order.tenants, hold=order.hold)


async def _cut_over(commands: Commands, of: Collection, order: bodies.Order) -> Any:
    if order.override:
        await commands.override(of, order.override, order.reason)
    return await commands.orders.cutover(of, why=order.reason, at=order.at)


async def _rolled_back(commands: Commands, of: Collection, order: bodies.Order) -> Any:
    if order.tenants:
        return await commands.canary.show(of, Wanted(hold=order.tenants), why=order.reason)
    return await commands.switch.rollback(of, why=order.reason)


Verb = Callable[[Commands, Collection, bodies.Order], Awaitable[Any]]
VERBS: dict[str, Verb] = {
    "pause": lambda commands, of, order: commands.pause(of, order.reason),
    "resume": lambda commands, of, order: commands.resume(of, reason=order.reason),
    "abort": lambda commands, of, order: commands.abort(of, order.reason),
    "canary": lambda commands, of, order: commands.canary.show(of, _wanted(order), why=order.reason),
    "cutover": _cut_over,
    "approve": lambda commands, of, order: commands.orders.approve(of, why=order.reason),
    "cancel-cutover": lambda commands, of, order: commands.orders.cancel(of, why=order.reason),
    "rollback": _rolled_back,
    "finish": lambda commands, of, order: commands.switch.finish(
        of, wait=timedelta(seconds=order.drop_after), why=order.reason
    ),
    "cancel-finish": lambda commands, of, order: commands.switch.cancel_finish(of, why=order.reason),
}


@router.get("")
async def listed(app: TheApp, caller: Overseer, name: CollectionName) -> bodies.Migrations:
    """The collection's last hundred, the newest first."""
    found = await collection(app, caller, name)
    async with app.database.transaction("worker") as conn:
        rows = await migrations.listed(conn, found.id, MOST)
    return bodies.Migrations(migrations=[_shown(row) for row in rows])


@router.get("/{number}/history")
async def history(
    app: TheApp,
    caller: Overseer,
    name: CollectionName,
    number: Annotated[int, Path(ge=1, le=2**31 - 1)],
) -> bodies.History:
    """Who moved it, from where to where, why, on what evidence."""
    found = await collection(app, caller, name)
    async with app.database.transaction("worker") as conn:
        rows = await migrations.listed(conn, found.id, MOST)
        for row in rows:
            if row.id == number:
                events = [event._asdict() for event in await migrations.events(conn, row)]
                return bodies.History(migration=number, events=[bodies.Event(**event) for event in events])
    raise NotFound(f"{name} has no migration {number}")


@router.post("", status_code=201)
async def start(
    *, request: Request, app: TheApp, caller: Admin, name: CollectionName, wanted: bodies.Start
) -> bodies.Migration:
    """Begin to move the collection to another model; it is served as before meanwhile."""
    extend(request, PATIENCE)
    found = await collection(app, caller, name)
    plan = await app.plan(
        found,
        wanted.to,
        dims=wanted.dims,
        kind=wanted.index,
        serve_early=wanted.serve_early,
        judged=Quality(wanted.judged, wanted.margin) if wanted.judged else None,
    )
    return _shown(await replace(app.commands, who=caller.name).start(plan))


@router.post("/current/{verb}")
async def act(
    *,
    request: Request,
    app: TheApp,
    caller: Admin,
    name: CollectionName,
    verb: Annotated[str, Path(json_schema_extra={"enum": sorted(VERBS)})],
    order: bodies.Order,
) -> bodies.Migration:
    """Pause, resume, abort, canary, cutover, approve, cancel-cutover, rollback, finish or cancel-finish."""
    if verb not in VERBS:
        raise NotFound(f"there is no verb {verb!r} ({', '.join(VERBS)})")
    extend(request, PATIENCE)
    found = await collection(app, caller, name)
    await VERBS[verb](replace(app.commands, who=caller.name), found, order)
    async with app.database.transaction("worker") as conn:
        (row,) = await migrations.listed(conn, found.id, 1)
    return _shown(row)


def _shown(row: Any) -> bodies.Migration:
    return bodies.Migration(
        id=row.id,
        state=row.state,
        target=row.target,
        paused=row.paused_why,
        hold=row.hold,
        started_at=row.started_at,
        changed_at=row.changed_at,
    )
