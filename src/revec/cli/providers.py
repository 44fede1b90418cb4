"""Verbs for the models: how they are, what they may be asked, what they cost."""

from __future__ import annotations

from typing import Annotated

import cyclopts
from cyclopts import Parameter

from revec.cli.door import Exit, Json, of_collection, opened, out, show_json, table
from revec.model.errors import BadInput

Limit = Annotated[float | None, Parameter(help="A minute; 0 forgets it.")]


def register(app: cyclopts.App) -> None:
    providers = cyclopts.App(name="providers", help="Models: health, limits, spending.")
    providers.command(listed, name="list")
    providers.command(reset)
    providers.command(limit)
    providers.command(spending)
    app.command(providers)


async def listed(*, json: Json = False) -> int:
    """List every model that was asked: is it well, and what is left of its limits?"""
    from revec.work import calls

    async with opened() as app, app.database.transaction() as conn:
        rows = [row._asdict() for row in await calls.providers(conn)]
    if json:
        show_json(rows)
    elif rows:
        table(
            [
                {
                    "model": row["model"],
                    "health": _health(row),
                    "tokens/min": _flow(row["tokens_a_minute"], row["tokens_flowing"]),
                    "requests/min": _flow(row["requests_a_minute"], row["requests_flowing"]),
                }
                for row in rows
            ]
        )
    else:
        out.print("No model was asked yet.")
    return Exit.DONE


async def reset(model: Annotated[str | None, Parameter(help="All, unless named.")] = None, /) -> int:
    """Let a model that rests after failures be asked at once: you have mended it."""
    from revec.work import calls

    async with opened() as app, app.database.transaction() as conn:
        models = await calls.reset(conn, model)
    out.print(f"{', '.join(models)} will be asked at once." if models else "No model was resting.")
    return Exit.DONE


async def limit(model: str, /, *, tokens: Limit = None, requests: Limit = None) -> int:
    """Say what your contract allows a minute; what the provider itself says corrects it."""
    from revec.work import calls

    told = {"tokens": tokens, "requests": requests}
    if all(number is None for number in told.values()):
        raise BadInput("say which limit: --tokens 1000000 or --requests 3000, a minute")
    async with opened() as app, app.database.transaction() as conn:
        for resource, number in told.items():
            if number is not None:
                await calls.declare(conn, model, resource, number or None)
    out.print(f"{model} is asked within that, by all workers together.")
    return Exit.DONE


async def spending(name: str | None = None, /, *, json: Json = False) -> int:
    """Show what was paid for, by month and model; for a collection by tenant."""
    from revec.work import calls

    if name is None:
        async with opened() as app, app.database.transaction() as conn:
            rows = [row._asdict() for row in await calls.spending(conn)]
    else:
        async with of_collection(name) as (app, collection), app.database.transaction() as conn:
            rows = [row._asdict() for row in await calls.spending_of_tenants(conn, collection.id)]
    if json:
        show_json(rows)
    elif rows:
        table([{key: _shown(value) for key, value in _named(row).items()} for row in rows])
        out.print("Dollars are the list price of what was counted; unanswered calls count as billed.")
    else:
        out.print("Nothing was paid for yet.")
    return Exit.DONE


def _health(row: dict[str, object]) -> str:
    if not row["failures"]:
        return "well"
    seconds = max(0.0, float(str(row["resting_seconds"] or 0)))
    return f"rests {seconds:.0f} s more after {row['failures']} failures: {row['why']}"


def _flow(limit_: float | None, flowing: float | None) -> str:
    return "not known" if limit_ is None else f"{limit_:,.0f}, {flowing or 0:,.0f} of it for us"


def _named(row: dict[str, object]) -> dict[str, object]:
    """No tenant's is what was asked to prove something."""
    return row | {"tenant": row["tenant"] or "(verification)"} if "tenant" in row else row


def _shown(value: object) -> str:
    return "" if value is None else f"{value:,.4f}" if isinstance(value, float) else str(value)
