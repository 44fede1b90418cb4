"""Verbs for tenants: whose work comes first, whose share is larger, whose work waits."""

from __future__ import annotations

from decimal import Decimal
from shlex import quote
from typing import Annotated, Any

import cyclopts
from cyclopts import Parameter

from revec.cli.door import Exit, Json, Why, err, of_collection, out, show_json, table
from revec.model.errors import BadInput, NotFound

Limit = Annotated[int, Parameter(help="At most so many tenants.")]
After = Annotated[str, Parameter(help="Go on behind this tenant.")]
Tier = Annotated[str | None, Parameter(help="A word of your own, shown beside the tenant.")]
Priority = Annotated[int | None, Parameter(help="The higher is backfilled first; 0 unless set.")]
Weight = Annotated[int | None, Parameter(help="Its share among equals, 1 or more; 1 unless set.")]
Budget = Annotated[Decimal | None, Parameter(help="US dollars that its embeddings may cost.")]
NoBudget = Annotated[bool, Parameter(help="No limit any more.")]
Word = Annotated[str, Parameter(help="Only those with this in their names.")]
OfTier = Annotated[str | None, Parameter(help="Only those of this tier.")]
Paused = Annotated[bool, Parameter(help="Only those that are paused.")]
Query = Annotated[
    str | None, Parameter(help='Of many at once: "SELECT tenant, tier, priority, weight FROM …".')
]


def register(app: cyclopts.App) -> None:
    tenants = cyclopts.App(name="tenants", help="Whose work comes first, and whose waits.")
    tenants.command(listed, name="list")
    tenants.command(set_, name="set")
    tenants.command(pause)
    tenants.command(resume)
    tenants.command(progress)
    app.command(tenants)


async def listed(
    name: str,
    /,
    *,
    word: Word = "",
    tier: OfTier = None,
    paused: Paused = False,
    after: After = "",
    limit: Limit = 100,
    json: Json = False,
) -> int:
    """List tenants: what was said of them, documents, open work, dead letters, how far a migration is."""
    from revec.postgres import indexes, tenants

    async with of_collection(name) as (app, collection), app.database.transaction() as conn:
        written = [index.id for index in await indexes.writing(conn, collection.id)]
        wanted = tenants.Wanted(word, tier, paused)
        page = await tenants.listed(conn, collection, written, after=after, limit=limit, wanted=wanted)
        fault = await tenants.fault(conn, collection.id)
    if json:
        show_json({"tenants": page.tenants, "after": page.after, "fault": fault})
        return Exit.DONE
    table([_shown(each, tenants.COUNTED) for each in page.tenants])
    if not page.tenants and page.after is None:
        out.print(f"{name} has no {'more ' if after else ''}tenants{' like that' if word else ''}.")
    if page.after is not None:
        out.print(f"More: the same with `--after {quote(page.after)}`.", markup=False)
    if fault:
        err.print(fault, markup=False)
    return Exit.DONE


def _shown(said: dict[str, Any], counted: int) -> dict[str, Any]:
    documents = f"more than {counted:,}" if said["documents"] > counted else f"{said['documents']:,}"
    budget = "" if said["budget"] is None else f"{said['spent']:.2f} of {said['budget']:.2f}"
    moved = "" if said["to_move"] is None else f"{said['moved']:,} of {said['to_move']:,}"
    shown = {key: value for key, value in said.items() if key != "to_move"}
    return shown | {
        "documents": documents,
        "budget": budget,
        "spent": f"{said['spent']:.2f}",
        "moved": moved,
    }


async def set_(
    name: str,
    /,
    *names: str,
    tier: Tier = None,
    priority: Priority = None,
    weight: Weight = None,
    budget: Budget = None,
    no_budget: NoBudget = False,
    from_query: Query = None,
) -> int:
    """Say of one or several tenants how urgent they are; it counts from the next page of a backfill on.

    Parameters
    ----------
    name
        The collection.
    names
        The tenants.
    """
    from revec.capture.tenants import read
    from revec.migrate import tenancy
    from revec.postgres import tenants

    said = (tier, priority, weight, budget)
    if from_query is not None:
        if names or no_budget or any(value is not None for value in said):
            raise BadInput("--from-query says it all: leave out tenants and the other options")
        async with of_collection(name) as (app, collection):
            count = await read(app.database, collection.id, from_query)
        out.print(f"{count:,} tenants are as the query says.")
        return Exit.DONE
    if not names or not (no_budget or any(value is not None for value in said)):
        raise BadInput("name tenants, and --tier, --priority, --weight or --budget; or --from-query")
    wish = tenancy.Wish(tier, priority, weight, budget, no_budget)
    async with of_collection(name) as (app, collection), app.database.transaction() as conn:
        await tenancy.say(conn, collection, names, wish)
        _warn(name, await tenants.unknown(conn, collection, names))
    out.print(f"Said of {', '.join(dict.fromkeys(names))}.", markup=False)
    return Exit.DONE


async def pause(name: str, /, *names: str, reason: Why) -> int:
    """Embed nothing of these tenants until they are resumed; what they delete is removed all the same.

    Parameters
    ----------
    name
        The collection.
    names
        The tenants.
    """
    from revec.postgres import tenants

    _some(names)
    async with of_collection(name) as (app, collection):
        await app.commands.pause_tenants(collection, names, reason)
        async with app.database.transaction() as conn:
            _warn(name, await tenants.unknown(conn, collection, names))
    out.print(f"{', '.join(names)}: paused. `revec tenants resume {name} TENANT` goes on.", markup=False)
    return Exit.DONE


async def resume(name: str, /, *names: str, reason: Why = "resumed") -> int:
    """Let paused tenants go on.

    Parameters
    ----------
    name
        The collection.
    names
        The tenants.
    """
    _some(names)
    async with of_collection(name) as (app, collection):
        resumed = await app.commands.resume_tenants(collection, names, reason)
    out.print(f"Go on: {', '.join(resumed) or 'none of them was paused'}.", markup=False)
    return Exit.DONE


async def progress(name: str, /, *, limit: Limit = 100, json: Json = False) -> int:
    """Show how far the migration under way is in each tenant, those of the highest priority first."""
    from revec.migrate import backfill
    from revec.postgres import migrations

    async with of_collection(name) as (app, collection), app.database.transaction() as conn:
        under_way = await migrations.active(conn, collection.id)
        if not under_way:
            raise NotFound(f"no migration of {name} is under way: `revec history {name}` shows the last one")
        rows = await backfill.progress(conn, under_way[0], limit)
    if json:
        show_json([row._asdict() for row in rows])
    elif rows:
        table([row._asdict() for row in rows])
    else:
        out.print(f"The backfill of {name} has not begun.")
    return Exit.DONE


def _some(names: tuple[str, ...]) -> None:
    if not names:
        raise BadInput("name at least one tenant")


def _warn(name: str, unknown: list[str]) -> None:
    if unknown:
        err.print(f"{', '.join(unknown)}: no documents in {name} yet, it counts once there are", markup=False)
