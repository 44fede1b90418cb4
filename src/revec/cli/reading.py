"""Verbs that read: search and eval."""

from __future__ import annotations

import json as json_of
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import cyclopts
from cyclopts import Parameter

from revec.cli.door import Exit, Json, err, opened, out, show_json, table
from revec.model.document import DEFAULT_TENANT
from revec.model.errors import BadInput

Tenant = Annotated[str, Parameter(help="Whose documents; nobody else's are seen.")]
AllTenants = Annotated[bool, Parameter(help="Every tenant's documents: for operators.")]
MOST_HITS = 1_000
Mode = Annotated[Literal["vector"], Parameter(help="How to search.")]


def register(app: cyclopts.App) -> None:
    app.command(search)
    app.command(evaluate, name="eval")


async def search(
    name: str,
    query: str,
    /,
    *,
    k: Annotated[int, Parameter(name=["--k", "-k"], help="How many hits.")] = 10,
    tenant: Tenant = DEFAULT_TENANT,
    all_tenants: AllTenants = False,
    mode: Mode = "vector",
    json: Json = False,
) -> int:
    """Search a collection.

    Parameters
    ----------
    name
        The collection.
    query
        The words.
    """
    _ = mode
    if not 1 <= k <= MOST_HITS:
        raise BadInput(f"--k takes 1 to {MOST_HITS}")
    if not query.strip():
        raise BadInput("the query is empty: say what you look for")
    async with opened() as app:
        reading = await app.retriever.search(name, query, k=k, tenant=None if all_tenants else tenant)
        others = [] if reading.hits or all_tenants else await _tenants(app, name)
    if json:
        facts = asdict(reading)
        show_json({key: facts[key] for key in ("collection", "index", "epoch", "hits")})
        return Exit.DONE
    table([{"score": f"{hit.score:.3f}", "id": hit.id, "title": hit.title[:100]} for hit in reading.hits])
    if not reading.hits:
        err.print(f"No documents of tenant {tenant!r} are searchable in {name}.", markup=False)
        if others and tenant not in others:
            err.print(
                f"It has {', '.join(others)}: pass --tenant, or --all-tenants as an operator.",
                markup=False,
            )
    out.print(
        f"[dim]{reading.index}, epoch {reading.epoch}, embedded in "
        f"{reading.embed_seconds * 1000:.0f} ms, searched in {reading.search_seconds * 1000:.0f} ms[/dim]"
    )
    return Exit.DONE


async def _tenants(app: Any, name: str) -> list[str]:
    from revec.postgres import collections

    async with app.database.transaction() as conn:
        return await collections.tenants(conn, await collections.named(conn, name))


async def evaluate(
    name: str,
    /,
    *,
    queries: Annotated[Path, Parameter(help='Lines of {"id", "text"}.')],
    qrels: Annotated[Path, Parameter(help="Tab-separated: query id, document id, grade.")],
    mode: Mode = "vector",
    tenant: Tenant = DEFAULT_TENANT,
    all_tenants: AllTenants = False,
    json: Json = False,
) -> int:
    """Measure the quality of a collection's search against judgements.

    Parameters
    ----------
    name
        The collection.
    """
    from revec.search.judge import figures, judged

    _ = mode
    texts, grades = _queries(queries), _qrels(qrels)
    rankings: dict[str, list[str]] = {}
    async with opened() as app:
        route, index = await app.retriever.route(name)
        for query in judged(grades):
            if query not in texts:
                raise BadInput(f"{qrels} judges query {query!r}, which {queries} does not have")
            reading = await app.retriever.read(
                name, route, index, texts[query], k=10, tenant=None if all_tenants else tenant
            )
            rankings[query] = [hit.id for hit in reading.hits]
    found = figures(rankings, grades)
    report = {
        "queries": found.queries,
        "ndcg@10": round(found.ndcg_at_10, 4),
        "recall@3": round(found.recall_at_3, 4),
        "recall@10": round(found.recall_at_10, 4),
        "mrr@10": round(found.mrr_at_10, 4),
        "index": index.name,
    }
    if json:
        show_json(report)
    else:
        table([report])
    return Exit.DONE


def _queries(file: Path) -> dict[str, str]:
    texts = {}
    for number, line in enumerate(_lines(file), start=1):
        try:
            value = json_of.loads(line)
            texts[str(value["id"])] = str(value["text"])
        except (ValueError, KeyError, TypeError) as error:
            raise BadInput(f'{file}, line {number}: not a line like {{"id", "text"}}') from error
    return texts


def _qrels(file: Path) -> dict[str, dict[str, int]]:
    grades: dict[str, dict[str, int]] = {}
    for number, line in enumerate(_lines(file), start=1):
        try:
            query, document, grade = line.split("\t")
            grades.setdefault(query, {})[document] = int(grade)
        except ValueError as error:
            raise BadInput(
                f"{file}, line {number}: not query id, document id, grade with tabs between"
            ) from error
    return grades


def _lines(file: Path) -> list[str]:
    try:
        return [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"cannot read {file}: {error}") from error
