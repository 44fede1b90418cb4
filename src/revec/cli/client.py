"""Verbs for applications: the lines that ask the route, and an SQL function of the application's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import cyclopts
from cyclopts import Parameter

from revec.cli.door import Exit, Json, Yes, confirmed, err, of_collection, out, show_json
from revec.model.errors import Refused

if TYPE_CHECKING:
    from revec.app import App
    from revec.model.index import Collection

For = Annotated[Literal["nextjs", "python", "sql"], Parameter(name="--for", help="What it is written in.")]
Args = Annotated[
    str | None, Parameter(help="Its arguments in their order, name or name:type; query, threshold, count.")
]
Returns = Annotated[
    list[str] | None,
    Parameter(help="What comes back: columns of the table, the score by a name of its own, name=EXPRESSION."),
]
Like = Annotated[str | None, Parameter(help="As this function of yours: schema.name, or with its types.")]
Whose = Annotated[str | None, Parameter(help="Whose documents a caller sees: an argument, or SQL.")]
SpaceArgument = Annotated[str | None, Parameter(help="An argument that says which space the vector is of.")]

NEXTJS = """// app/api/search/route.ts: no model and no index stand here, so one cutover moves both.
export async function GET(request: Request) {{
  const url = new URL("/v1/collections/{name}/search", process.env.REVEC_URL);
  url.searchParams.set("q", new URL(request.url).searchParams.get("q") ?? "");
  const answer = await fetch(url, {{
    headers: {{ Authorization: `Bearer ${{process.env.REVEC_KEY}}` }},
    cache: "no-store",
  }});
  return Response.json(await answer.json(), {{ status: answer.status }});
}}
"""
PYTHON = """# No model and no index stand here, so one cutover moves both. REVEC_URL: a `revec serve`, or postgresql://…
import os

import revec


async def search(words: str):
    async with revec.connect(os.environ.get("REVEC_URL"), key=os.environ.get("REVEC_KEY")) as client:
        answer = await client.search("{name}", words, k=10)
        return [(hit.id, hit.title, hit.score) for hit in answer.hits]
"""
SQL = """-- 1. By which model? Ask before each search: it follows cutover and rollback.
SELECT model, dims, space, prefix, task FROM {asks}({whose});
-- 2. Embed prefix || words by that model, as that task. Should the route move meanwhile, the vector's own
--    index answers, until it is dropped.
SELECT * FROM {function}({arguments});
"""


def register(app: cyclopts.App) -> None:
    app.command(client)
    app.command(function)


async def client(name: str, /, *, for_: For = "python") -> int:
    """Print the lines by which an application asks the route, so that model and index switch at once."""
    async with of_collection(name) as (app, collection):
        match for_:
            case "nextjs":
                lines = NEXTJS.format(name=name)
            case "python":
                lines = PYTHON.format(name=name)
            case "sql":
                lines = await _in_sql(app, collection)
    out.print(lines, markup=False, end="")
    return Exit.DONE


async def _in_sql(app: App, collection: Collection) -> str:
    from revec.postgres import callers

    async with app.database.transaction() as conn:
        kept = await callers.kept(conn, collection.id)
        found = await callers.function(conn, kept[-1].function) if kept else None
        asks = found and await callers.function(conn, f"{found.schema}.{found.name}_model")
    if found is None or asks is None:
        raise Refused(
            f"{collection.name} has no SQL function: where its documents are rows of a table, "
            f"`revec function {collection.name} --apply` makes one"
        )
    arguments = ", ".join(f"{each.name} => ${place}" for place, each in enumerate(found.inputs, 1))
    whose = ", ".join(f"{each.name} => $1" for each in asks.inputs)
    called = found.shown.partition("(")[0]
    return SQL.format(function=called, asks=asks.shown.partition("(")[0], arguments=arguments, whose=whose)


async def function(
    name: str,
    /,
    *,
    function: Annotated[str | None, Parameter(help="What it is called: match_NAME, unless said.")] = None,
    args: Args = None,
    returns: Returns = None,
    like: Like = None,
    tenant: Whose = None,
    space: SpaceArgument = None,
    source: Annotated[str | None, Parameter(help="Whose rows come back, of several tables.")] = None,
    raw: Annotated[bool, Parameter(help="Thresholds and scores as each space has them.")] = False,
    apply: Annotated[bool, Parameter(help="Make it; else its SQL is printed.")] = False,
    yes: Yes = False,
    json: Json = False,
) -> int:
    """Make an SQL function that searches a collection by a vector of either model, before and after cutover.

    It is made once: no cutover, rollback or later migration changes it, and prepared statements hold.
    """
    from revec.migrate import scales
    from revec.search import callers
    from revec.search.signature import Said

    said = Said(
        function=function,
        like=like,
        arguments=[part.strip() for part in (args or "").split(",") if part.strip()],
        returns=_columns(returns or []),
        tenant=tenant,
        space=space,
        source=source,
        is_raw=raw,
    )
    async with of_collection(name) as (app, collection):
        async with app.database.transaction() as conn:
            made = await callers.make(conn, collection, said)
        if apply:
            if made.replaces:
                confirmed(f"{made.function} stands there, and is replaced", name, yes=yes)
            await callers.apply(app.database, made)
            await scales.settle(app.database, app.store, collection.id)
    if json:
        shown = {"function": made.function, "sql": made.script, "notes": made.notes}
        show_json({**shown, "replaced": made.replaces, "applied": apply})
        return Exit.DONE
    if apply:
        if made.replaces:
            out.print(f"-- What was there, to go back to:\n{made.replaces}", markup=False)
        out.print(
            f"Made: {made.function}. `revec client {name} --for sql` shows how it is called.", markup=False
        )
    else:
        out.print(made.script, markup=False, end="")
    for note in made.notes:
        err.print(f"revec: {note}", markup=False)
    return Exit.DONE


def _columns(said: list[str]) -> list[str]:
    """`a,b` are two; an expression may have commas of its own."""
    return [
        part.strip() for each in said for part in ([each] if "=" in each else each.split(",")) if part.strip()
    ]
