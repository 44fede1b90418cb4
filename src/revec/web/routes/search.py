"""Search: the question as it stands in the address or in JSON, one answer."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query

from revec.app import App
from revec.model import filter as filters
from revec.model.access import Caller, Role
from revec.model.errors import NotAllowed, NotFound
from revec.model.filter import Filter
from revec.model.reading import Reading
from revec.postgres import documents, indexes
from revec.web import asking, bodies
from revec.web.asking import CollectionName, TheApp, Viewer

router = APIRouter(prefix="/v1/collections/{name}/search", tags=["search"])
ONLY_WORDS = "the model did not answer: only the words were searched"  # what it said stays here
UNSET: dict[str, Any] = {"response_model": bodies.Answer, "response_model_exclude_unset": True}


@router.get("", **UNSET)
async def search(
    app: TheApp, caller: Viewer, name: CollectionName, question: Annotated[bodies.Question, Query()]
) -> dict[str, Any]:
    """The k nearest documents of the caller's tenant."""
    return await answered(app, caller, name, question)


@router.post("", **UNSET)
async def search_by_body(
    app: TheApp, caller: Viewer, name: CollectionName, question: bodies.Question
) -> dict[str, Any]:
    """The same; nothing of the question is in an access log."""
    return await answered(app, caller, name, question)


async def answered(app: App, caller: Caller, name: str, question: bodies.Question) -> dict[str, Any]:
    """The one place where a question becomes a search."""
    asking.require_reach(caller, name)
    if (question.index or question.vectors) and not caller.role.covers(Role.OPERATOR):
        raise NotAllowed("`index` and `vectors` are for operators: leave them out")
    whose = asking.tenant(caller, question.tenant)
    if question.index:
        reading = await _read(app, name, question, whose)
    else:
        reading = await app.retriever.search(
            name, question.q, k=question.k, tenant=whose, mode=question.mode, where=_where(question)
        )
    vectors = await _vectors(app, reading, whose) if question.vectors else {}
    return {
        "collection": reading.collection,
        "index": reading.index,
        "epoch": reading.epoch,
        "degraded": reading.degraded,
        **({"why": ONLY_WORDS} if reading.degraded else {}),
        **({"early": True, "demanded": reading.demanded} if reading.early else {}),
        "hits": [
            {
                "id": hit.id,
                "score": hit.score,
                "title": hit.title,
                "tenant": hit.tenant,
                "source": hit.source,
                "matched_by": hit.matched_by,
                "vector_rank": hit.vector_rank,
                "lexical_rank": hit.lexical_rank,
                **({"vectors": vectors.get((hit.source, hit.id), [])} if question.vectors else {}),
            }
            for hit in reading.hits
        ],
    }


def _where(question: bodies.Question) -> Filter | None:
    return None if question.filter is None else filters.read(question.filter)


async def _read(app: App, name: str, question: bodies.Question, whose: str | None) -> Reading:
    """From the index that the operator names, whether it serves or not.

    Raises:
        NotFound: the collection has no such index, or no more.
    """
    async with app.database.transaction("worker") as conn:
        route, _ = await indexes.serving(conn, name)
        written = await indexes.writing(conn, route.collection_id)
    for index in written:
        if question.index in {index.name, str(index.id)}:
            return await app.retriever.read(
                *(name, route, index, question.q),
                k=question.k,
                tenant=whose,
                mode=question.mode,
                where=_where(question),
            )
    there_is = ", ".join(index.name for index in written) or "none"
    raise NotFound(f"{name} has no index {question.index!r} (there is {there_is})")


async def _vectors(app: App, reading: Reading, whose: str | None) -> dict[tuple[str, str], list[list[float]]]:
    """(source, id) → the document's vectors, in the index that answered."""
    async with asking.reading(app, whose) as conn:
        index = await indexes.by_id(conn, reading.index_id)
        ids = await documents.ids_of_hits(conn, index.collection_id, reading.hits, whose)
        found = await app.store.vectors(conn, index, list(ids))
    return {ids[doc_id]: [vector.tolist() for vector in vectors] for doc_id, vectors in found.items()}
