"""Verbs of the migration: look, begin, watch, switch, go back, end."""

from __future__ import annotations

import re
from dataclasses import asdict
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import cyclopts
from cyclopts import Parameter

from revec.cli.canary import moment, names, told
from revec.cli.collection import Chunk, Dims, Kind, Truncate, long_of
from revec.cli.door import Exit, Json, Why, Yes, confirmed, err, of_collection, opened, out, show_json, table
from revec.cli.judging import Declared, QueriesFile, gates_table, of_files
from revec.cli.reading import Tenant
from revec.model.document import DEFAULT_TENANT
from revec.model.errors import BadInput
from revec.model.verdict import Outcome, together

if TYPE_CHECKING:
    from revec.app import App
    from revec.migrate.compare import Compared
    from revec.migrate.plan import Plan
    from revec.model.index import Collection
    from revec.model.judging import JudgedQuery

MOST_DIGITS = 6
NOTHING_DECLARED = Declared()
COPIED = "copied from the index that serves: only a sample is embedded again, as proof"
PATIENT = "the backfill waits for the provider's batches: half the price, within a day"
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
Store = Annotated[
    str | None, Parameter(help="Where the new index lives: pg, or an address; where it is now unless said.")
]
Shadow = Annotated[
    float | None, Parameter(help="Compare live reads before it is ready, at first this share: 0.02 is 2%.")
]
To = Annotated[str, Parameter(name="--to", help="The model to move to.")]
Compare = Annotated[
    bool, Parameter(help="Whether it is worth it, from at most 3% of what it costs.", negative=())
]
Qrels = Annotated[
    Path | None, Parameter(help="Their judgements, to compare by: TREC's, tabs, JSON lines, Quepid.")
]
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
    store: Store = None,
    declared: Declared = NOTHING_DECLARED,
    shadow: Shadow = None,
    compare: Compare = False,
    queries: QueriesFile = None,
    qrels: Qrels = None,
    tenant: Tenant = DEFAULT_TENANT,
    json: Json = False,
) -> int:
    """Show what a migration would do, take and need. Writes nothing.

    With --compare: whether the model is worth it, from at most 3% of what moving would cost. Judged queries
    are those of --judged SET, or of --queries and --qrels. Exit code 3: the sample cannot tell.

    Parameters
    ----------
    name
        The collection.
    """
    async with of_collection(name) as (app, collection):
        long = long_of(name, chunk, truncate)
        if compare:
            asked = await _to_compare(app, collection, declared, queries=queries, qrels=qrels, tenant=tenant)
            compared = await app.compare(
                collection, to, asked, dims=dims, query=query_model, long=long, margin=declared.margin
            )
            return _show_compared(name, to, compared, json=json)
        planned = await app.plan(
            collection,
            to,
            dims=dims,
            kind=index,
            query=query_model,
            long=long,
            patient=patient,
            serve_early=serve_early,
            store=store,
            judged=declared.quality,
            shadow=shadow,
        )
    if json:
        show_json(planned.facts)
        return Exit.DONE
    _print_plan(name, planned, to)
    way = (" --patient" if patient else "") + (" --serve-early" if serve_early else "")
    way += f" --store {store}" if store else ""
    way += f" --judged {declared.judged}" if declared.judged else ""
    way += f" --shadow {shadow:g}" if shadow else ""
    out.print(f"Nothing was written. `revec start {name} --to {to}{way}` begins.", markup=False)
    return Exit.DONE


def _print_plan(name: str, planned: Plan, to: str) -> None:
    facts = planned.facts
    disk = (facts["bytes_vectors"] + facts["bytes_ann"]) / 2**20
    out.print(f"[bold]{name}[/bold]: {facts['from'] or 'nothing'} → {to}, {facts['dims']} dims")
    lines = {
        "documents": f"{facts['documents']:,} (largest tenant {facts['largest_tenant']:,})",
        "index": f"{facts['index']}: {facts['why_index']}",
        "store": facts["store"] if facts["store"] != "pg" or facts["copies"] else None,
        "vectors": facts["copies"] and COPIED,
        "disk": f"{disk:,.1f} MB more, until the old index is dropped",
        "long texts": facts["long_texts"],
        "patient": facts["patient"] and PATIENT,
        "fusion": facts["fusion"],
        "early": facts["serve_early"] and facts["early"],
        "gates": ", ".join(facts["gates"]),
        "judged": planned.power and planned.power.told,
        "traffic": planned.traffic and planned.traffic.told,
        "shadow": facts["shadow"] and _rungs(facts["shadow"]),
    }
    for label, said in lines.items():
        if said:
            out.print(f"{label:12}{said}", markup=False)
    for label, several in (("locks", facts["locks"]), ("SQL", [f"{each};" for each in facts["sql"]])):
        for number, said in enumerate(several):
            out.print(f"{label if not number else '':12}{said}", markup=False)


def _rungs(first: float) -> str:
    from revec.migrate.evidence import RUNGS

    then = "".join(f", then of {rung:.0%}" for rung in RUNGS if rung > first)
    return f"both indexes are asked, at first of {first:.0%} of the queries{then}"


async def _to_compare(
    app: App,
    collection: Collection,
    declared: Declared,
    *,
    queries: Path | None,
    qrels: Path | None,
    tenant: str,
) -> list[JudgedQuery]:
    """The judged queries of a set, or of two files."""
    from revec.postgres import judgements

    if (qrels is None) == (declared.judged is None):
        raise BadInput(
            "compared by which judged queries? Say --judged SET, or --queries FILE and --qrels FILE"
        )
    if qrels is None:
        assert declared.judged is not None
        async with app.database.transaction() as conn:
            return await judgements.read(conn, collection, declared.judged)
    bad: list[str] = []
    found = await of_files(app, collection, queries=queries, qrels=qrels, source=None, tenant=tenant, bad=bad)
    for why in bad:
        err.print(why, markup=False)
    return found


def _show_compared(name: str, to: str, compared: Compared, *, json: bool) -> int:
    from revec.migrate.compare import Advice

    if json:
        show_json(compared.facts)
    else:
        cost = "nobody knows its price" if compared.cost is None else f"${compared.cost:,.4f}"
        out.print(f"[bold]{name}[/bold]: {compared.old} beside {to}")
        out.print(
            f"sample      {compared.documents:,} documents, {compared.judged:,} of them judged: "
            f"{compared.share:.1%} of all that a migration would embed"
        )
        out.print(f"cost        {compared.tokens:,} tokens, {cost}; a start within a day pays for the rest")
        out.print(f"verdict     {compared.told}", markup=False)
        out.print(f"            {compared.caveat}", markup=False)
    return Exit.GATE if compared.advice is Advice.CANNOT_TELL else Exit.DONE


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
    store: Store = None,
    declared: Declared = NOTHING_DECLARED,
    shadow: Shadow = None,
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
            store=store,
            declared=declared,
            shadow=shadow,
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
            store=store,
            judged=declared.quality,
            shadow=shadow,
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


async def verify(
    name: str,
    /,
    *,
    between: Annotated[
        tuple[str, str] | None, Parameter(help="Two indexes, by name or number: what does either lack?")
    ] = None,
    heal: Annotated[bool, Parameter(help="With --between: make work of what is wrong.")] = False,
    json: Json = False,
) -> int:
    """Judge now: is the index complete, and are its vectors what its model says?"""
    if between:
        return await _between(name, between, heal=heal, json=json)
    if heal:
        raise BadInput("--heal goes with --between A B; what a gate finds, `revec worker` mends by itself")
    async with of_collection(name) as (app, collection):
        verdicts = await app.commands.verify(collection)
        fused = await app.commands.switch.fusion_after(collection)
    outcome = together([each for each in verdicts if each.outcome is not Outcome.NOT_CONFIGURED])
    if json:
        counted = next(each.evidence for each in verdicts if each.gate == "completeness")
        names = [name for name in counted if name != "horizon"]
        gates = {
            each.gate: {"verdict": each.outcome, "why": each.why, **asdict(each.figures)} for each in verdicts
        }
        said = {"gates": gates, "fusion": fused}
        show_json({"verdict": outcome, **{key: counted[key] for key in names}, **said})
    else:
        gates_table(verdicts)
        if fused:
            out.print(f"{fused}.", markup=False)
        out.print(f"[bold]{outcome}[/bold]")
    return Exit.DONE if outcome is Outcome.PASSED else Exit.GATE


async def _between(name: str, pair: tuple[str, str], *, heal: bool, json: bool) -> int:
    from revec.migrate import between

    async with of_collection(name) as (app, collection):
        one, other = await between.named(app.database, collection, pair)
        found = await between.compare(app.database, app.store, one, other)
        made = await between.heal(app.database, app.store, found) if heal else {}
    facts = found.facts
    if json:
        show_json(facts | {"healed": made})
        return Exit.GATE if found.differ else Exit.DONE
    table(facts["indexes"])
    if found.sampled:
        out.print(f"{found.different:,} of {found.sampled:,} sampled texts have different vectors.")
    else:
        out.print("Their spaces differ, so their vectors were not compared.")
    for index, count in made.items():
        out.print(f"{index}: {count:,} to be mended; `revec worker` does it.", markup=False)
    out.print("[bold]They differ.[/bold]" if found.differ else "They hold the same.")
    return Exit.GATE if found.differ else Exit.DONE


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
