"""Verbs that look ahead and begin: `plan` and `start`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import cyclopts
from cyclopts import Parameter

from revec.cli.canary import names
from revec.cli.collection import Chunk, Dims, Kind, Truncate, long_of
from revec.cli.comparing import judged_queries, show
from revec.cli.door import Exit, Json, of_collection, out, show_json
from revec.cli.judging import Declared, QueriesFile
from revec.cli.migration import Budget, Until
from revec.cli.reading import Tenant
from revec.model.course import Course, share
from revec.model.document import DEFAULT_TENANT
from revec.model.errors import BadInput

if TYPE_CHECKING:
    from revec.migrate.planning.planned import Plan

NOTHING_DECLARED = Declared()
To = Annotated[str, Parameter(name="--to", help="The model to move to.")]
Html = Annotated[Path | None, Parameter(help="Write the plan there as well: one page, to be handed round.")]
Qrels = Annotated[
    Path | None, Parameter(help="Their judgements, to compare by: TREC's, tabs, JSON lines, Quepid.")
]


@Parameter(name="*")
@dataclass(frozen=True)
class Target:
    """What the new index is, and how it is filled."""

    dims: Dims = None
    index: Kind = None
    query_model: Annotated[
        str | None, Parameter(help="A model of the same family that embeds the queries, e.g. a cheaper one.")
    ] = None
    chunk: Chunk = None
    truncate: Truncate = None
    patient: Annotated[
        bool,
        Parameter(help="Backfill by the provider's batch API: half the price, within a day.", negative=()),
    ] = False
    serve_early: Annotated[
        bool,
        Parameter(
            help="The new model answers before the backfill is over, where it loses nothing.", negative=()
        ),
    ] = False
    store: Annotated[
        str | None,
        Parameter(help="Where the new index lives: pg, or an address; where it is now unless said."),
    ] = None
    shadow: Annotated[
        float | None,
        Parameter(help="Compare live reads before it is ready, at first this share: 0.02 is 2%."),
    ] = None

    def typed(self) -> str:
        """The options that `start` needs again, as a person types them."""
        again = ("dims", "index", "query_model", "patient", "serve_early", "store", "shadow")
        said = [(name.replace("_", "-"), getattr(self, name)) for name in again]
        return "".join(
            f" --{name}" if value is True else f" --{name} {value}" for name, value in said if value
        )


@Parameter(name="*")
@dataclass(frozen=True)
class Staged:
    """The course of the backfill."""

    priority: Annotated[
        str | None,
        Parameter(help="Tenants, or tiers of them, that come first and in this order: gold,silver."),
    ] = None
    tenants: Annotated[str | None, Parameter(help="Backfill these alone for now: a,b. The others wait.")] = (
        None
    )
    until: Until = None
    batch_size: Annotated[
        int | None, Parameter(help="Documents in a claim; packs fill themselves by tokens unless said.")
    ] = None

    @property
    def course(self) -> Course:
        return Course(
            priority=tuple(names(self.priority)),
            tenants=tuple(names(self.tenants)),
            until=share(self.until) if self.until else None,
            batch_size=self.batch_size,
        )


TO_THE_MODEL, ALL_AT_ONCE = Target(), Staged()


def register(app: cyclopts.App) -> None:
    app.command(plan)
    app.command(start)


async def plan(
    name: str,
    /,
    *,
    to: To,
    target: Target = TO_THE_MODEL,
    staged: Staged = ALL_AT_ONCE,
    declared: Declared = NOTHING_DECLARED,
    compare: Annotated[
        bool, Parameter(help="Whether it is worth it, from at most 3% of what it costs.", negative=())
    ] = False,
    queries: QueriesFile = None,
    qrels: Qrels = None,
    tenant: Tenant = DEFAULT_TENANT,
    html: Html = None,
    json: Json = False,
) -> int:
    """Show what a migration would do, take, cost and need. Writes nothing.

    With --compare: whether the model is worth it, from at most 3% of what moving would cost. Judged queries
    are those of --judged SET, or of --queries and --qrels. Exit code 3: the sample cannot tell.

    Parameters
    ----------
    name
        The collection.
    """
    async with of_collection(name) as (app, collection):
        if compare:
            asked = await judged_queries(
                app, collection, declared, queries=queries, qrels=qrels, tenant=tenant
            )
            compared = await app.compare(
                collection,
                to,
                asked,
                dims=target.dims,
                query=target.query_model,
                long=long_of(name, target.chunk, target.truncate),
                margin=declared.margin,
            )
            return show(name, to, compared, json=json)
        planned = await app.plan(collection, to, **_how(name, target, staged, declared))
    _show(planned, to, html=html, json=json)
    if not json:
        judged = f" --judged {declared.judged}" if declared.judged else ""
        begins = f"`revec start {name} --to {to}{target.typed()}{judged}{_typed(staged)}` begins."
        out.print(f"Nothing was written. {begins}", markup=False)
    return Exit.DONE


async def start(
    name: str,
    /,
    *,
    to: To,
    target: Target = TO_THE_MODEL,
    staged: Staged = ALL_AT_ONCE,
    declared: Declared = NOTHING_DECLARED,
    budget: Budget = None,
    approvals: Annotated[Literal[1, 2], Parameter(help="People that the cutover takes.")] = 1,
    guard_dead: Annotated[
        Literal["alarm", "rollback"], Parameter(help="When nobody watches while users see the new index.")
    ] = "alarm",
    dry_run: Annotated[bool, Parameter(help="Say what it would do, and write nothing.")] = False,
    json: Json = False,
) -> int:
    """Begin to move a collection to another model; it is served as before meanwhile."""
    from revec.migrate.commands import require_price
    from revec.work import queue

    async with of_collection(name) as (app, collection):
        planned = await app.plan(collection, to, **_how(name, target, staged, declared))
        if dry_run:
            if budget is not None:
                require_price(planned.space.address)
            _show(planned, to, html=None, json=json)
            if not json:
                said = _would(planned, budget=budget, approvals=approvals, guard_dead=guard_dead)
                out.print(f"Nothing was written. It would {'; '.join(said)}.", markup=False)
            return Exit.DONE
        migration = await app.commands.start(
            planned, budget=budget, approvals=approvals, guard_dead=guard_dead
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


def _how(name: str, target: Target, staged: Staged, declared: Declared) -> dict[str, Any]:
    """What `App.plan` takes."""
    return {
        "dims": target.dims,
        "kind": target.index,
        "query": target.query_model,
        "long": long_of(name, target.chunk, target.truncate),
        "patient": target.patient,
        "serve_early": target.serve_early,
        "store": target.store,
        "judged": declared.quality,
        "shadow": target.shadow,
        "course": staged.course,
    }


def _show(planned: Plan, to: str, *, html: Path | None, json: bool) -> None:
    from revec.migrate.planning import told

    if html:
        try:
            html.write_text(told.html(planned), encoding="utf-8")
        except OSError as error:
            raise BadInput(f"{html} cannot be written: {error.strerror or error}") from error
    if json:
        show_json(planned.facts)
        return
    old = planned.old.name if planned.old else "nothing"
    out.print(f"[bold]{planned.collection.name}[/bold]: {old} → {to}, {planned.space.dims} dims")
    for label, words in told.lines(planned).items():
        for number, said in enumerate(words):
            out.print(f"{label if not number else '':12}{said}", markup=False)


def _would(planned: Plan, *, budget: Any, approvals: int, guard_dead: str) -> list[str]:
    """What `start` would do, in the order of it."""
    course = planned.course
    said = {
        f"begin a migration of {planned.collection.name} to {planned.space.address}": True,
        "embed nothing: its vectors are copied": planned.copies,
        f"take the documents of {', '.join(course.tenants)} alone": bool(course.tenants),
        f"begin with those of {', '.join(course.priority)}": bool(course.priority),
        f"take {course.batch_size or 0:,} documents in a claim, as `revec throttle` does": course.batch_size,
        f"pause at {100 * (course.until or 0):g}% of the documents": course.until,
        f"pause before it costs more than ${budget}": budget is not None,
        "wait with the cutover for a second person": approvals > 1,
        "roll back by itself when nobody watches": guard_dead == "rollback",
        f"wait for a person once the gates passed: {', '.join(planned.gates)}": planned.old is not None,
    }
    return [words for words, true in said.items() if true]


def _typed(staged: Staged) -> str:
    said = asdict(staged).items()
    return "".join(f" --{name.replace('_', '-')} {value}" for name, value in said if value)
