"""Verbs that show the new index to some users, and the second person's word on a cutover."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import cyclopts
from cyclopts import Parameter

from revec.cli.door import Exit, Json, Why, Yes, confirmed, of_collection, out, show_json
from revec.model.errors import BadInput

Percent = Annotated[float | None, Parameter(help="So many of the users, by their sticky key.")]
Tenants = Annotated[str | None, Parameter(help="These tenants, wholly: a,b.")]
Hold = Annotated[
    str | None, Parameter(help="Tenants that stay on the old index, also after the cutover: a,b.")
]


def register(app: cyclopts.App) -> None:
    app.command(canary)
    app.command(approve)


async def canary(
    name: str,
    /,
    *,
    percent: Percent = None,
    tenants: Tenants = None,
    hold: Hold = None,
    steps: Annotated[str | None, Parameter(help="Percents that a worker goes through: 1,10,50.")] = None,
    quiet: Annotated[int, Parameter(help="Answers without an alarm that each step takes.")] = 1_000,
    yes: Yes = False,
    reason: Why = "canary",
    json: Json = False,
) -> int:
    """Show the new index to some users first: a share of them, or whole tenants."""
    from revec.migrate.canary import Wanted

    if percent is not None and steps:
        raise BadInput("--steps begins with its first percent: leave --percent out")
    if quiet < 1:
        raise BadInput("--quiet is a number of answers, 1 or more")
    shares = _shares(steps) if steps else [] if percent is None else [percent / 100]
    wanted = Wanted(
        share=shares[0] if shares else None,
        steps=shares[1:],
        tenants=names(tenants),
        hold=names(hold),
        quiet=quiet,
    )
    async with of_collection(name) as (app, collection):
        if wanted.share or wanted.tenants:
            confirmed(f"Some users of {name} will be served by the new index", name, yes=yes)
        epoch = await app.commands.canary.show(collection, wanted, why=reason)
    if json:
        show_json({"epoch": epoch, **wanted.said})
    else:
        out.print(
            f"Done, at epoch {epoch}. `revec status {name}` shows who sees what, "
            f"`revec rollback {name}` goes back.",
            markup=False,
        )
    return Exit.DONE


async def approve(name: str, /, *, yes: Yes = False, reason: Why = "approved", json: Json = False) -> int:
    """As a second person, approve the cutover that another one ordered."""
    async with of_collection(name) as (app, collection):
        confirmed(f"Users of {name} will be served by the new index", name, yes=yes)
        said = told(name, await app.commands.orders.approve(collection, why=reason))
    show_json(said) if json else out.print(said["said"], markup=False)
    return Exit.DONE


def told(name: str, came_of_it: Any) -> dict[str, Any]:
    """What an order came to: a flip, or something to wait for."""
    if isinstance(came_of_it, tuple):
        epoch, seconds = came_of_it
        said = f"The new index serves {name}, since {seconds * 1000:.1f} ms, at epoch {epoch}."
        return {"said": said, "epoch": epoch, "seconds": round(seconds, 4)}
    order = came_of_it
    at = f" at {order.due_at.astimezone():%Y-%m-%d %H:%M:%S %Z}" if order.seconds > 0 else ""
    then = f"a worker cuts {name} over{at}" if at else f"{name} is cut over"
    approved = (
        "" if order.approved_by else f" once another person says `revec approve {name}`, where it takes two"
    )
    return {
        "said": f"Ordered: {then}{approved}. `revec cutover {name} --cancel` takes it back.",
        "due_at": order.due_at,
        "ordered_by": order.ordered_by,
        "approved_by": order.approved_by,
    }


def names(text: str | None) -> list[str]:
    """`a,b` → its parts."""
    return [part.strip() for part in (text or "").split(",") if part.strip()]


def moment(text: str) -> datetime:
    """An hour as people write it; without a zone it is this machine's.

    Raises:
        BadInput: it is none.
    """
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise BadInput(f"{text!r} is no time: write 2026-12-01T03:00 or 2026-12-01T03:00+01:00") from error
    return at.astimezone(UTC)


def _shares(text: str) -> list[float]:
    try:
        return [float(part) / 100 for part in names(text)]
    except ValueError as error:
        raise BadInput(f"{text!r} are no percents: write 1,10,50") from error
