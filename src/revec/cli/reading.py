"""Verbs that read: search, similar and eval."""

from __future__ import annotations

import json as json_of
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import cyclopts
from cyclopts import Parameter

from revec.cli import judgements
from revec.cli.door import Exit, Json, err, opened, out, show_json, table
from revec.model import filter as filters
from revec.model.document import DEFAULT_TENANT
from revec.model.errors import BadInput
from revec.model.filter import Filter
from revec.model.limits import MOST_HITS
from revec.model.reading import Mode, Reading

if TYPE_CHECKING:
    from revec.search.judge import Qrels

Tenant = Annotated[str, Parameter(help="Whose documents; nobody else's are seen.")]
AllTenants = Annotated[bool, Parameter(help="Every tenant's documents: for operators.")]
SURE = 0.05  # the p below which chance is no explanation
K = Annotated[int, Parameter(name=["--k", "-k"], help="How many hits.")]
Where = Annotated[
    str | None,
    Parameter(name="--filter", help='Only documents with this metadata, e.g. {"lang": "en"}.'),
]
How = Annotated[Literal["hybrid", "vector", "lexical"], Parameter(help="By vectors, by words, or by both.")]
Explain = Annotated[bool, Parameter(help="Show where each leg had a hit.")]


def register(app: cyclopts.App) -> None:
    app.command(search)
    app.command(similar)
    app.command(evaluate, name="eval")


async def search(
    name: str,
    query: str,
    /,
    *,
    k: K = 10,
    tenant: Tenant = DEFAULT_TENANT,
    all_tenants: AllTenants = False,
    filter: Where = None,  # noqa: A002 - the option's name
    mode: How = "hybrid",
    explain: Explain = False,
    json: Json = False,
) -> int:
    """Search a collection, by meaning and by words.

    Parameters
    ----------
    name
        The collection.
    query
        The words; empty: what was written last.
    """
    _require_k(k)
    where = _filter(filter)
    async with opened() as app:
        whose = None if all_tenants else tenant
        reading = await app.retriever.search(name, query, k=k, tenant=whose, mode=Mode(mode), where=where)
        others = [] if reading.hits or all_tenants else await _tenants(app, name)
    if json:
        more = ["early", "demanded"] if reading.early else []
        _show(reading, "collection", "index", "epoch", "degraded", "why", *more, "hits")
        return Exit.DONE
    _draw(reading, explain=explain)
    if reading.why:
        err.print(f"revec: {reading.why}", markup=False)
    if not reading.hits:
        such = " that the filter lets through" if where else ""
        such += " with a word of the query" if mode == "lexical" else ""
        err.print(f"No documents of tenant {tenant!r}{such} are searchable in {name}.", markup=False)
        if others and tenant not in others:
            err.print(
                f"It has {', '.join(others)}: pass --tenant, or --all-tenants as an operator.",
                markup=False,
            )
    early = f", early ({reading.demanded:,} documents embedded for it)" if reading.early else ""
    out.print(
        f"[dim]{reading.index}{early}, epoch {reading.epoch}, embedded in "
        f"{reading.embed_seconds * 1000:.0f} ms, searched in {reading.search_seconds * 1000:.0f} ms[/dim]"
    )
    return Exit.DONE


async def similar(
    name: str,
    /,
    *,
    id: Annotated[str | None, Parameter(help="Like the document of this key.")] = None,  # noqa: A002
    source: Annotated[str | None, Parameter(help="The key's source, where several have it.")] = None,
    text: Annotated[str | None, Parameter(help="Like this text, embedded as a document.")] = None,
    vector: Annotated[Path | None, Parameter(help="Like the vector in this file: a JSON list.")] = None,
    space: Annotated[str | None, Parameter(help="The id of the vector's space.")] = None,
    threshold: Annotated[
        float | None, Parameter(help="The lowest score; else what `collections tune` keeps for the space.")
    ] = None,
    k: K = 10,
    tenant: Tenant = DEFAULT_TENANT,
    all_tenants: AllTenants = False,
    filter: Where = None,  # noqa: A002 - the option's name
    json: Json = False,
) -> int:
    """Show documents like another one: with a threshold, its duplicates.

    Parameters
    ----------
    name
        The collection.
    """
    from revec.search.similar import ByKey, ByText, ByVector, Like

    asked: list[Like] = []
    if id is not None:
        asked.append(ByKey(id, source))
    if text is not None:
        asked.append(ByText(text))
    if vector is not None:
        asked.append(ByVector(_vector(vector), space))
    if len(asked) != 1:
        raise BadInput("like what? Say one of --id KEY, --text TEXT, --vector FILE")
    _require_k(k)
    if threshold is not None:
        require_similarity(threshold)
    where = _filter(filter)
    async with opened() as app:
        whose = None if all_tenants else tenant
        reading = await app.retriever.similar(
            name, asked[0], k=k, tenant=whose, threshold=threshold, where=where
        )
    if json:
        _show(reading, "collection", "index", "epoch", "threshold", "hits")
        return Exit.DONE
    _draw(reading)
    least = "no threshold" if reading.threshold is None else f"scores from {reading.threshold:g}"
    if not reading.hits:
        err.print(f"Nothing of tenant {tenant!r} is that similar.", markup=False)
    out.print(f"[dim]{reading.index}, epoch {reading.epoch}, {least}[/dim]")
    return Exit.DONE


def require_similarity(threshold: float) -> None:
    """
    Raises:
        BadInput: no two vectors have such a score.
    """
    if not -1 <= threshold <= 1:
        raise BadInput(f"--threshold is a cosine similarity, -1 to 1, not {threshold:g}")


def _require_k(k: int) -> None:
    if not 1 <= k <= MOST_HITS:
        raise BadInput(f"--k takes 1 to {MOST_HITS}")


def _filter(text: str | None) -> Filter | None:
    return None if text is None else filters.read(text)


def _vector(file: Path) -> list[float]:
    try:
        value = json_of.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(f"cannot read a vector from {file}: {error}") from error
    if not isinstance(value, list):
        raise BadInput(f"{file} holds no vector: write a JSON list of numbers")
    return value


def _show(reading: Reading, *names: str) -> None:
    facts = asdict(reading)
    for hit in facts["hits"]:  # nobody asked for them
        del hit["text"], hit["metadata"]
    show_json({name: facts[name] for name in names})


def _draw(reading: Reading, *, explain: bool = False) -> None:
    """A fusion's scores differ in the third place."""
    table(
        [
            {"score": f"{hit.score:.{4 if hit.matched_by else 3}f}"}
            | ({"vector": _rank(hit.vector_rank), "lexical": _rank(hit.lexical_rank)} if explain else {})
            | {"id": hit.id, "title": hit.title[:100]}
            for hit in reading.hits
        ]
    )


def _rank(rank: int | None) -> str:
    return "" if rank is None else f"#{rank}"


async def _tenants(app: Any, name: str) -> list[str]:
    from revec.postgres import collections

    async with app.database.transaction() as conn:
        return await collections.tenants(conn, await collections.named(conn, name))


async def evaluate(
    name: str,
    /,
    *,
    queries: judgements.QueriesFile,
    qrels: judgements.QrelsFile,
    mode: How = "hybrid",
    tenant: Tenant = DEFAULT_TENANT,
    all_tenants: AllTenants = False,
    json: Json = False,
) -> int:
    """Measure the quality of a collection's search against judgements; of hybrid search each leg's too.

    Parameters
    ----------
    name
        The collection.
    """
    from revec.search import fusion
    from revec.search.judge import judged

    texts, grades = judgements.of_queries(queries, qrels)
    legs = list(Mode) if mode == "hybrid" else [Mode(mode)]
    rankings: dict[Mode, dict[str, list[str]]] = {leg: {} for leg in legs}
    async with opened() as app:
        route, index = await app.retriever.route(name)
        for query in judged(grades):
            for leg in legs:
                whose = None if all_tenants else tenant
                reading = await app.retriever.read(
                    name, route, index, texts[query], k=10, tenant=whose, mode=leg
                )
                rankings[leg][query] = [hit.id for hit in reading.hits]
        async with app.database.transaction() as conn:
            fused = await fusion.in_force(conn, index.collection_id, index.space, index.query)
    reports = {leg: _report(rankings[leg], grades, leg, index.name) for leg in legs}
    if json:
        alone = {name: value for name, value in reports[Mode(mode)].items() if name != "mode"}
        both = {"fusion": asdict(fused), "legs": list(reports.values())} if len(legs) > 1 else {}
        show_json(alone | both)
        return Exit.DONE
    table(list(reports.values()))
    if len(legs) > 1:
        out.print(f"{name} is fused {fused.told}.", markup=False)
        if why := _dragged(name, rankings, grades):
            out.print(why, markup=False)
    return Exit.DONE


def _report(rankings: dict[str, list[str]], grades: Qrels, mode: Mode, index: str) -> dict[str, object]:
    from revec.search.judge import figures

    found = figures(rankings, grades)
    return {
        "mode": str(mode),
        "queries": found.queries,
        "ndcg@10": round(found.ndcg_at_10, 4),
        "recall@3": round(found.recall_at_3, 4),
        "recall@10": round(found.recall_at_10, 4),
        "mrr@10": round(found.mrr_at_10, 4),
        "index": index,
    }


def _dragged(name: str, rankings: dict[Mode, dict[str, list[str]]], grades: Qrels) -> str | None:
    """Said where one leg alone is better than both, and chance does not explain it."""
    from revec.search.judge import judged, ndcg
    from revec.statistics.paired import randomisation

    per_query = {
        leg: [ndcg(ranking[query], grades[query], 10) for query in judged(grades)]
        for leg, ranking in rankings.items()
    }
    fused = per_query.pop(Mode.HYBRID)
    other, alone = sorted(per_query, key=lambda leg: sum(per_query[leg]))
    lost, p = randomisation([one - both for one, both in zip(per_query[alone], fused, strict=True)])
    if lost <= 0 or p >= SURE:
        return None
    return (
        f"The {other} leg drags the fusion {lost:.3f} nDCG@10 below the {alone} leg alone (p = {p:.3f}, "
        f"{len(fused)} queries): `revec collections tune {name}` with these files gives it the share that it "
        f"deserves, `--mode {alone}` searches without it."
    )
