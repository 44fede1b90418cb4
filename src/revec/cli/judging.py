"""Verbs for judged queries, and what a migration takes of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import cyclopts
from cyclopts import Parameter

from revec.cli import judgements
from revec.cli.door import Exit, Json, err, of_collection, out, show_json, table
from revec.cli.reading import AllTenants, Tenant
from revec.model.document import DEFAULT_TENANT
from revec.model.errors import BadInput
from revec.model.judging import DEFAULT_SET, MARGIN, JudgedQuery, Quality
from revec.model.reading import Mode

if TYPE_CHECKING:
    from revec.app import App
    from revec.model.index import Collection
    from revec.model.verdict import Verdict

QueriesFile = Annotated[
    Path | None, Parameter(help='What is asked: lines of {"id", "text"}, and perhaps "tenant" and "segment".')
]
SetName = Annotated[str, Parameter(name="--as", help="The set's name.")]
SourceName = Annotated[
    str | None, Parameter(name="--source", help="Whose ids the documents are; needless where there is one.")
]


@Parameter(name="*")
@dataclass(frozen=True)
class Declared:
    """By which judged queries a migration has to prove itself."""

    judged: Annotated[
        str | None, Parameter(help="A set of judged queries: the quality gate is required.")
    ] = None
    margin: Annotated[float, Parameter(help="The loss of nDCG@10, and of Recall@3, that nobody minds.")] = (
        MARGIN
    )
    mode: Annotated[
        Literal["hybrid", "vector", "lexical"], Parameter(help="How the judged queries are asked.")
    ] = "hybrid"

    @property
    def quality(self) -> Quality | None:
        return None if self.judged is None else Quality(self.judged, self.margin, Mode(self.mode))


def register(app: cyclopts.App) -> None:
    group = cyclopts.App(name="judgements", help="Judged queries, by which a migration proves itself.")
    group.command(add)
    group.command(listed, name="list")
    group.command(drop)
    app.command(group)


async def add(
    name: str,
    /,
    *,
    qrels: judgements.QrelsFile,
    queries: QueriesFile = None,
    set_: SetName = DEFAULT_SET,
    source: SourceName = None,
    tenant: Tenant = DEFAULT_TENANT,
    all_tenants: AllTenants = False,
    json: Json = False,
) -> int:
    """Add judged queries to a set. Bad lines are named and left out; the others go in.

    Parameters
    ----------
    name
        The collection.
    """
    from revec.postgres import judgements as records

    bad: judgements.Bad = []
    async with of_collection(name) as (app, collection):
        whose = None if all_tenants else tenant
        found = await of_files(
            app, collection, queries=queries, qrels=qrels, source=source, tenant=whose, bad=bad
        )
        async with app.database.transaction() as conn:
            await records.put(conn, collection, set_, found)
            rows = {row.name: row._asdict() for row in await records.listed(conn, collection)}
    counted = rows[set_]
    if json:
        show_json(counted | {"refused": bad})
    else:
        for why in bad:
            err.print(why, markup=False)
        said = f"{sum(len(query.grades) for query in found):,} judgements of {len(found):,} queries taken"
        out.print(
            f"{said}{f', {len(bad):,} lines refused' if bad else ''}: {_has(name, counted)}", markup=False
        )
    return Exit.FAILED if bad else Exit.DONE


async def listed(name: str, /, *, json: Json = False) -> int:
    """List the sets of judged queries."""
    from revec.postgres import judgements as records

    async with of_collection(name) as (app, collection), app.database.transaction() as conn:
        rows = [row._asdict() for row in await records.listed(conn, collection)]
    if json:
        show_json(rows)
        return Exit.DONE
    table([row | {"changed_at": row["changed_at"].astimezone().strftime("%Y-%m-%d %H:%M")} for row in rows])
    if not rows:
        out.print(f"{name} has no judgements: `revec judgements add {name} …` takes some.")
    return Exit.DONE


async def drop(name: str, set_: str, /) -> int:
    """Forget a set of judged queries.

    Parameters
    ----------
    name
        The collection.
    set_
        The set's name.
    """
    from revec.postgres import judgements as records

    async with of_collection(name) as (app, collection), app.database.transaction() as conn:
        await records.drop(conn, collection, set_)
    out.print(f"{name} has no judgements {set_!r} any more.", markup=False)
    return Exit.DONE


async def of_files(
    app: App,
    collection: Collection,
    *,
    queries: Path | None,
    qrels: Path,
    source: str | None,
    tenant: str | None,
    bad: judgements.Bad,
) -> list[JudgedQuery]:
    """Judged queries of two files, their documents by source and key.

    Raises:
        BadInput: a file cannot be read, or says nothing; or it is not said whose ids they are.
        NotFound: there is no such source.
    """
    from revec.postgres import collections

    async with app.database.transaction() as conn:
        if source is None:
            known = [each.name for each in await collections.sources(conn, collection.id)]
            if len(known) != 1:
                there_is = ", ".join(known) or "none yet"
                raise BadInput(
                    f"whose ids are the documents? Add --source ({collection.name} has {there_is})"
                )
            source = known[0]
        await collections.source(conn, collection, source)
    found = judgements.of_sets(queries, qrels, source=source, tenant=tenant, bad=bad)
    if not found:
        raise BadInput(f"{qrels} has no judgement that can be taken: {bad[0] if bad else 'it is empty'}")
    return found


def gates_table(verdicts: Iterable[Verdict]) -> None:
    """What was asked, what was seen beside what is wanted, and the proof."""
    table(
        [
            {
                "check": each.gate,
                "now": _number(each.figures.now),
                "bound": _number(each.figures.bound),
                "limit": _number(each.figures.limit),
                "n": "" if each.figures.n is None else f"{each.figures.n:,}",
                "verdict": each.outcome,
                "proof": each.why,
            }
            for each in verdicts
        ]
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.4g}"


def _has(name: str, counted: dict[str, Any]) -> str:
    missing = f"; {counted['missing']:,} judged documents are not in {name}" if counted["missing"] else ""
    return (
        f"{counted['name']} has {counted['judged']:,} queries with a good answer, "
        f"{counted['judgements']:,} judgements{missing}"
    )
