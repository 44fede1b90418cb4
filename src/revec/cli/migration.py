"""Verbs of a person who holds a migration up, switches what users see, goes back, or ends it."""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal
from typing import Annotated

import cyclopts
from cyclopts import Parameter

from revec.cli.canary import moment, names, told
from revec.cli.door import Exit, Json, Why, Yes, confirmed, of_collection, out, show_json
from revec.model.course import Course, share
from revec.model.errors import BadInput

MOST_DIGITS = 6
Budget = Annotated[
    Decimal | None, Parameter(help="US dollars that the backfill may cost; it pauses before it costs more.")
]
Until = Annotated[str | None, Parameter(help="Pause when this part of the documents is through: 50%.")]
Source = Annotated[str | None, Parameter(help="One table, as revec.toml names it.")]


def register(app: cyclopts.App) -> None:
    for verb in (cutover, rollback, pause, resume, abort, finish):
        app.command(verb)


async def cutover(
    name: str,
    /,
    *,
    yes: Yes = False,
    at: Annotated[str | None, Parameter(help="Not now: 2026-12-01T03:00. A worker does it.")] = None,
    cancel: Annotated[bool, Parameter(help="Take back what was ordered and is not done.")] = False,
    override: Annotated[
        tuple[str, ...],
        Parameter(help="A required gate that counts as passed; wants a --reason."),
    ] = (),
    reason: Why = "",
    json: Json = False,
) -> int:
    """Serve the new index: one row, no lock, no restart. The old one stays current."""
    hour = moment(at) if at else None
    async with of_collection(name) as (app, collection):
        if cancel:
            await app.commands.orders.cancel(collection, why=reason)
            out.print(f"The cutover of {name} that was ordered is cancelled.")
            return Exit.DONE
        fused = await app.commands.switch.fusion_after(collection)
        if fused and not json:
            out.print(f"{fused}.", markup=False)
        confirmed(f"Users of {name} will be served by the new index", name, yes=yes)
        if override:
            await app.commands.override(collection, override, reason)
        came_of_it = await app.commands.orders.cutover(collection, why=reason or "cut over", at=hour)
        index = await app.serving(name)
    if not isinstance(came_of_it, tuple):
        ordered = told(name, came_of_it)
        show_json(ordered) if json else out.print(ordered["said"], markup=False)
        return Exit.DONE
    epoch, seconds = came_of_it
    if json:
        said = {"fusion": fused}
        show_json({"serving": index.name, "epoch": epoch, "seconds": round(seconds, 4), **said})
    else:
        out.print(
            f"{index.name} serves {name} since {seconds * 1000:.1f} ms. "
            f"`revec rollback {name}` goes back, `revec finish {name}` drops the old index."
        )
    return Exit.DONE


async def rollback(
    name: str,
    /,
    *,
    yes: Yes = False,
    now: Annotated[bool, Parameter(help="Ask nobody but the database.")] = False,
    tenants: Annotated[str | None, Parameter(help="Only these: a,b. They stay on the old index.")] = None,
    reason: Why = "rolled back",
    json: Json = False,
) -> int:
    """Serve the old index again. It was written all along: nothing is lost."""
    from revec.migrate.canary import Wanted
    from revec.postgres import ledgers

    async with of_collection(name) as (app, collection):
        confirmed(f"Users of {name} will be served by the old index again", name, yes=yes or now)
        if alone := names(tenants):
            epoch = await app.commands.canary.show(collection, Wanted(hold=alone), why=reason)
            out.print(f"The old index serves {', '.join(alone)} again, since epoch {epoch}.", markup=False)
            return Exit.DONE
        epoch, seconds = await app.commands.switch.rollback(collection, why=reason, now=now)
        index = await app.serving(name)
        async with app.database.transaction() as conn:
            behind = await ledgers.behind(conn, index)
    if json:
        show_json({"serving": index.name, "epoch": epoch, "seconds": round(seconds, 4), "behind": behind})
    else:
        lost = f"{behind:,} documents are not in it as they are now" if behind else "Nothing is lost"
        out.print(f"{index.name} serves {name} again, since {seconds * 1000:.1f} ms. {lost}.")
    return Exit.DONE


async def pause(name: str, /, *, source: Source = None, reason: Why = "a person asked") -> int:
    """Hold the backfill where it is, live writes go on; or leave one table's changes where they are."""
    async with of_collection(name) as (app, collection):
        if source:
            await app.commands.pause_source(collection, source, reason)
            out.print(
                f"{source} is read no more, its changes are kept: `revec resume {name} --source {source}` "
                "goes on.",
                markup=False,
            )
            return Exit.DONE
        await app.commands.pause(collection, reason)
    out.print(f"{name} is paused: `revec resume {name}` goes on.")
    return Exit.DONE


async def resume(
    name: str,
    /,
    *,
    source: Source = None,
    clear: Annotated[str | None, Parameter(help="A failed gate to clear; needs --reason.")] = None,
    reason: Why = "",
    budget: Budget = None,
    until: Until = None,
    tenants: Annotated[
        str | None, Parameter(help="Backfill these as well: a,b; or all. They have waited since `start`.")
    ] = None,
) -> int:
    """Lift a pause, a fault of the model, or a failed gate; read a paused table again; or give more money."""
    if clear and not reason:
        raise BadInput("clearing a failed gate needs --reason: it stays in the history")
    async with of_collection(name) as (app, collection):
        if source:
            why = await app.commands.resume_source(collection, source)
            out.print(f"lifted the pause: {why}" if why else f"{source} was not paused", markup=False)
            return Exit.DONE
        course = Course(tenants=tuple(names(tenants)), until=share(until) if until else None)
        lifted = await app.commands.resume(
            collection, clear=clear, reason=reason, budget=budget, course=course
        )
    for what in lifted or ["nothing: nothing was held"]:
        out.print(f"lifted {what}", markup=False)
    return Exit.DONE


async def abort(name: str, /, *, yes: Yes = False, reason: Why = "given up") -> int:
    """Give the new index up; the old one serves as it did all along."""
    async with of_collection(name) as (app, collection):
        confirmed(f"The new index of {name} and all that was paid for it will be dropped", name, yes=yes)
        await app.commands.abort(collection, reason)
    out.print(f"The migration of {name} is aborted; its table goes with the next worker.")
    return Exit.DONE


async def finish(
    name: str,
    /,
    *,
    yes: Yes = False,
    drop_after: Annotated[str, Parameter(help="Until the drop: 0, 30m, 12h, 7d.")] = "7d",
    cancel: Annotated[bool, Parameter(help="Keep the old index after all.")] = False,
    reason: Why = "",
) -> int:
    """Drop the old index after a while; until then it is current, and --cancel is honest."""
    from revec.postgres import ledgers

    wait = duration(drop_after)
    async with of_collection(name) as (app, collection):
        if cancel:
            await app.commands.switch.cancel_finish(collection, why=reason or "finish was cancelled")
            out.print(f"{name} keeps its old index; it is live as before.")
            return Exit.DONE
        confirmed(f"The old index of {name} will be dropped in {wait}", name, yes=yes)
        migration = await app.commands.switch.finish(
            collection, wait=wait, why=reason or "the old index may go"
        )
        async with app.database.transaction() as conn:
            left = await ledgers.goodbye(conn, migration.old_index)
    out.print(
        f"The old index of {name} is dropped by a worker in {wait}; `revec finish {name} --cancel` keeps it."
    )
    if left:
        out.print(
            "Your column stays. Then, and when nothing reads it any more, take vector and writer out of "
            f"revec.toml and run: {left}",
            markup=False,
        )
    return Exit.DONE


def duration(text: str) -> timedelta:
    """`90d` → its length.

    Raises:
        BadInput: it is none.
    """
    found = re.fullmatch(r"(\d+)\s*([smhd]?)", text.strip())
    if not found:
        raise BadInput(f"{text!r} is no duration: write 0, 30m, 12h or 7d")
    unit = {"": "seconds", "s": "seconds", "m": "minutes", "h": "hours", "d": "days"}[found[2]]
    if len(found[1]) > MOST_DIGITS:
        raise BadInput(f"{text!r} is too long a while: write 7d or 90d")
    return timedelta(**{unit: int(found[1])})
