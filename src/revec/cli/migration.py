"""Verbs of the migration: look, begin, watch, switch, go back, end."""

from __future__ import annotations

import re
from dataclasses import asdict
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal

import cyclopts
from cyclopts import Parameter

from revec.cli.canary import moment, names, told
from revec.cli.collection import Chunk, Dims, Kind, Truncate, long_of
from revec.cli.door import Exit, Json, Why, Yes, confirmed, err, of_collection, opened, out, show_json, table
from revec.model.errors import BadInput
from revec.model.verdict import Outcome, together

MOST_DIGITS = 6
Budget = Annotated[
    Decimal | None, Parameter(help="US dollars that the backfill may cost; it pauses before it costs more.")
]
Source = Annotated[str | None, Parameter(help="One table, as revec.toml names it.")]
Patient = Annotated[
    bool, Parameter(help="Backfill by the provider's batch API: half the price, within a day.", negative=())
]
Early = Annotated[
    bool,
    Parameter(help="The new model answers before the backfill is over, where it loses nothing.", negative=()),
]
To = Annotated[str, Parameter(name="--to", help="The model to move to.")]
QueryModel = Annotated[
    str | None, Parameter(help="A model of the same family that embeds the queries, e.g. a cheaper one.")
]


def register(app: cyclopts.App) -> None:
    for verb in (
        plan,
        start,
        verify,
        cutover,
        rollback,
        pause,
        resume,
        abort,
        finish,
        check,
        history,
    ):
        app.command(verb)


async def plan(
    name: str,
    /,
    *,
    to: To,
    dims: Dims = None,
    index: Kind = None,
    query_model: QueryModel = None,
    chunk: Chunk = None,
    truncate: Truncate = None,
    patient: Patient = False,
    serve_early: Early = False,
    json: Json = False,
) -> int:
    """Show what a migration would do, take and need. Writes nothing."""
    async with of_collection(name) as (app, collection):
        long = long_of(name, chunk, truncate)
        planned = await app.plan(
            collection,
            to,
            dims=dims,
            kind=index,
            query=query_model,
            long=long,
            patient=patient,
            serve_early=serve_early,
        )
    if json:
        show_json(planned.facts)
        return Exit.DONE
    facts = planned.facts
    out.print(f"[bold]{name}[/bold]: {facts['from'] or 'nothing'} → {to}, {facts['dims']} dims")
    out.print(f"documents   {facts['documents']:,} (largest tenant {facts['largest_tenant']:,})")
    out.print(f"index       {facts['index']}: {facts['why_index']}")
    disk = (facts["bytes_vectors"] + facts["bytes_ann"]) / 2**20
    out.print(f"disk        {disk:,.1f} MB more, until the old index is dropped")
    out.print(f"long texts  {facts['long_texts']}", markup=False)
    if facts["patient"]:
        out.print("patient     the backfill waits for the provider's batches: half the price, within a day")
    if facts["fusion"]:
        out.print(f"fusion      {facts['fusion']}", markup=False)
    if facts["serve_early"]:
        out.print(f"early       {facts['early']}", markup=False)
    out.print(f"gates       {', '.join(facts['gates'])}")
    for number, lock in enumerate(facts["locks"]):
        out.print(f"{'locks' if not number else '':12}{lock}", markup=False)
    for number, statement in enumerate(facts["sql"]):
        out.print(f"{'SQL' if not number else '':12}{statement};", markup=False)
    way = (" --patient" if patient else "") + (" --serve-early" if serve_early else "")
    out.print(f"Nothing was written. `revec start {name} --to {to}{way}` begins.")
    return Exit.DONE


async def start(
    name: str,
    /,
    *,
    to: To,
    dims: Dims = None,
    index: Kind = None,
    query_model: QueryModel = None,
    chunk: Chunk = None,
    truncate: Truncate = None,
    patient: Patient = False,
    serve_early: Early = False,
    budget: Budget = None,
    approvals: Annotated[Literal[1, 2], Parameter(help="People that the cutover takes.")] = 1,
    guard_dead: Annotated[
        Literal["alarm", "rollback"], Parameter(help="When nobody watches while users see the new index.")
    ] = "alarm",
    dry_run: Annotated[bool, Parameter(help="The same as plan.")] = False,
    json: Json = False,
) -> int:
    """Begin to move a collection to another model; it is served as before meanwhile."""
    if dry_run:
        return await plan(
            name,
            to=to,
            dims=dims,
            index=index,
            query_model=query_model,
            chunk=chunk,
            truncate=truncate,
            patient=patient,
            serve_early=serve_early,
            json=json,
        )
    from revec.work import queue

    async with of_collection(name) as (app, collection):
        migration = await app.start(
            collection,
            to,
            dims=dims,
            kind=index,
            query=query_model,
            long=long_of(name, chunk, truncate),
            patient=patient,
            serve_early=serve_early,
            budget=budget,
            approvals=approvals,
            guard_dead=guard_dead,
        )
        async with app.database.transaction() as conn:
            workers = await queue.workers(conn)
    if json:
        show_json({"migration": migration.id, "state": migration.state, "workers": len(workers)})
    else:
        out.print(f"Migration {migration.id} of {name} to {to} has begun.")
        if not workers:
            out.print("No worker seen: run `revec worker`.")
    return Exit.DONE


async def verify(name: str, /, *, json: Json = False) -> int:
    """Judge now: is the index complete, and are its vectors what its model says?"""
    async with of_collection(name) as (app, collection):
        verdicts = await app.commands.verify(collection)
        fused = await app.commands.switch.fusion_after(collection)
    outcome = together([each for each in verdicts if each.outcome is not Outcome.NOT_CONFIGURED])
    if json:
        counted = next(each.evidence for each in verdicts if each.gate == "completeness")
        names = [name for name in counted if name != "horizon"]
        gates = {each.gate: {"verdict": each.outcome, "why": each.why} for each in verdicts}
        said = {"gates": gates, "fusion": fused}
        show_json({"verdict": outcome, **{key: counted[key] for key in names}, **said})
    else:
        table([{"gate": v.gate, "verdict": v.outcome, "why": v.why} for v in verdicts])
        if fused:
            out.print(f"{fused}.", markup=False)
        out.print(f"[bold]{outcome}[/bold]")
    return Exit.DONE if outcome is Outcome.PASSED else Exit.GATE


async def cutover(
    name: str,
    /,
    *,
    yes: Yes = False,
    at: Annotated[str | None, Parameter(help="Not now: 2026-12-01T03:00. A worker does it.")] = None,
    cancel: Annotated[bool, Parameter(help="Take back what was ordered and is not done.")] = False,
    reason: Why = "cut over",
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
        came_of_it = await app.commands.orders.cutover(collection, why=reason, at=hour)
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

    async with of_collection(name) as (app, collection):
        confirmed(f"Users of {name} will be served by the old index again", name, yes=yes or now)
        if alone := names(tenants):
            epoch = await app.commands.canary.show(collection, Wanted(hold=alone), why=reason)
            out.print(f"The old index serves {', '.join(alone)} again, since epoch {epoch}.", markup=False)
            return Exit.DONE
        epoch, seconds = await app.commands.switch.rollback(collection, why=reason, now=now)
        index = await app.serving(name)
    if json:
        show_json({"serving": index.name, "epoch": epoch, "seconds": round(seconds, 4)})
    else:
        out.print(f"{index.name} serves {name} again, since {seconds * 1000:.1f} ms. Nothing is lost.")
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
) -> int:
    """Lift a pause, a fault of the model, or a failed gate; read a paused table again; or give more money."""
    if clear and not reason:
        raise BadInput("clearing a failed gate needs --reason: it stays in the history")
    async with of_collection(name) as (app, collection):
        if source:
            why = await app.commands.resume_source(collection, source)
            out.print(f"lifted the pause: {why}" if why else f"{source} was not paused", markup=False)
            return Exit.DONE
        lifted = await app.commands.resume(collection, clear=clear, reason=reason, budget=budget)
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
    wait = duration(drop_after)
    async with of_collection(name) as (app, collection):
        if cancel:
            await app.commands.switch.cancel_finish(collection, why=reason or "finish was cancelled")
            out.print(f"{name} keeps its old index; it is live as before.")
            return Exit.DONE
        confirmed(f"The old index of {name} will be dropped in {wait}", name, yes=yes)
        await app.commands.switch.finish(collection, wait=wait, why=reason or "the old index may go")
    out.print(
        f"The old index of {name} is dropped by a worker in {wait}; `revec finish {name} --cancel` keeps it."
    )
    return Exit.DONE


async def check(*, json: Json = False) -> int:
    """Run the invariants as SQL: what is not as promised."""
    from revec.migrate.check import check as run

    async with opened() as app:
        breaches = await run(app.database, freshness=app.limits.freshness)
    if json:
        show_json({"breaches": [asdict(breach) for breach in breaches]})
    for breach in breaches:
        err.print(str(breach), markup=False)
    if not breaches and not json:
        out.print("All invariants hold: I1, I2, I3, I4, I10, I12, I15.")
    return Exit.FAILED if breaches else Exit.DONE


async def history(
    name: str,
    /,
    *,
    bundle: Annotated[
        Path | None,
        Parameter(help="Write all the evidence there: a folder, or a .zip; signed by REVEC_BUNDLE_KEY."),
    ] = None,
    json: Json = False,
) -> int:
    """Show every move of the last migration: who, what, why."""
    from revec.postgres import migrations

    async with of_collection(name) as (app, collection), app.database.transaction() as conn:
        migration = await migrations.latest(conn, collection.id)
        if bundle and migration:
            from revec.migrate import bundle as evidence

            key = app.settings.bundle_signer
            evidence.write(evidence.files(await evidence.gathered(conn, name, migration), key), bundle)
            signed = "signed" if key else "not signed: set REVEC_BUNDLE_KEY (or REVEC_BUNDLE_KEY_FILE)"
            out.print(f"The evidence of migration {migration.id} is in {bundle}, {signed}.", markup=False)
            return Exit.DONE
        events = [] if migration is None else await migrations.events(conn, migration)
    rows = [row._asdict() for row in events]
    if json:
        show_json(rows)
        return Exit.DONE
    table(
        [
            {
                "at": row["at"].astimezone().strftime("%Y-%m-%d %H:%M:%S"),
                "who": row["who"],
                "move": f"{row['was']} → {row['became']}" if row["became"] else f"in {row['was']}",
                "why": row["why"],
            }
            for row in rows
        ]
    )
    if not rows:
        out.print(f"{name} was never migrated.")
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
