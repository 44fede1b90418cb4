"""Search: the question as it stands in the address or in JSON, one answer, at once or as it comes."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from revec.app import App
from revec.model.access import Caller, Role
from revec.model.errors import NotAllowed
from revec.model.reading import Mode, Reading
from revec.postgres import documents, indexes
from revec.search.retriever import First
from revec.web import answers, asking, bodies, streams
from revec.web.asking import CollectionName, TheApp, Viewer
from revec.web.streams import Events, Say

router = APIRouter(prefix="/v1/collections/{name}/search", tags=["search"])
LAST = {Mode.HYBRID: "fused", Mode.VECTOR: "vector", Mode.LEXICAL: "lexical"}  # the last event's name
EVENTS = """event: lexical
data: {"collection": "notes", "index": "local:wordllama-256#1", "epoch": 1, "degraded": false, "hits": []}

event: fused
data: {"collection": "notes", "index": "local:wordllama-256#1", "epoch": 1, "degraded": false, "hits": []}

"""
ASKED: dict[str, Any] = {
    "response_model": bodies.Answer,
    "response_model_exclude_unset": True,
    "responses": {
        200: {
            "description": "The answer; as events, where `Accept` says so, each with an answer as its data: "
            "of a hybrid search `lexical`, then `fused`; of another one the name of its mode; or `error`",
            "content": {streams.CONTENT_TYPE: {"schema": {"type": "string"}, "example": EVENTS}},
        }
    },
}


@router.get("", **ASKED)
async def search(
    request: Request,
    app: TheApp,
    caller: Viewer,
    name: CollectionName,
    question: Annotated[bodies.Question, Query()],
) -> Any:
    """The k nearest documents of the caller's tenant."""
    return await answered(request, app, caller, name, question)


@router.post("", **ASKED)
async def search_by_body(
    request: Request, app: TheApp, caller: Viewer, name: CollectionName, question: bodies.Question
) -> Any:
    """The same; nothing of the question is in an access log."""
    return await answered(request, app, caller, name, question)


async def answered(request: Request, app: App, caller: Caller, name: str, question: bodies.Question) -> Any:
    """The one place where a question becomes a search."""
    of = asker(caller, name, question)

    async def told(reading: Reading) -> dict[str, Any]:
        vectors = await _vectors(app, reading, of) if question.vectors else None
        return answers.said(reading, vectors)

    async def tell(say: Say) -> None:
        async def event(kind: str, reading: Reading) -> None:
            answer = bodies.Answer.model_validate(await told(reading))
            await say(kind, answer.model_dump_json(exclude_unset=True))

        first = partial(event, LAST[Mode.LEXICAL])
        await event(LAST[question.mode], await found(app, name, question, of, first))

    if streams.are_wanted(request):
        return Events(tell)
    return await told(await found(app, name, question, of))


def asker(caller: Caller, name: str, question: bodies.Question) -> Caller:
    """As whom the caller asks: of one tenant, or of all.

    Raises:
        NotFound: no collection of theirs.
        NotAllowed: this is not for them to ask.
    """
    asking.require_reach(caller, name)
    if (question.index or question.vectors) and not caller.role.covers(Role.OPERATOR):
        raise NotAllowed("`index` and `vectors` are for operators: leave them out")
    return replace(caller, tenant=asking.tenant(caller, question.tenant))


async def found(
    app: App, name: str, question: bodies.Question, caller: Caller, first: First | None = None
) -> Reading:
    """`caller`: what `asker` made of him."""
    if question.index:
        return await _read(app, name, question, caller)
    return await app.retriever.search(
        name,
        question.q,
        k=question.k,
        tenant=caller.tenant,
        mode=question.mode,
        where=asking.where(question.filter),
        visible=caller.visible,
        contents=question.contents,
        first=first,
        sticky=question.sticky or caller.person,
    )


async def _read(app: App, name: str, question: bodies.Question, caller: Caller) -> Reading:
    """From the index that the operator names, whether it serves or not.

    Raises:
        NotFound: the collection has no such index, or no more.
    """
    async with app.database.transaction("worker") as conn:
        route, _ = await indexes.serving(conn, name)
        written = await indexes.writing(conn, route.collection_id)
    return await app.retriever.read(
        *(name, route, indexes.named(written, question.index or "", name), question.q),
        k=question.k,
        tenant=caller.tenant,
        mode=question.mode,
        where=asking.where(question.filter),
        visible=caller.visible,
        contents=question.contents,
    )


async def _vectors(app: App, reading: Reading, caller: Caller) -> dict[tuple[str, str], list[list[float]]]:
    """(source, id) → the document's vectors, in the index that answered."""
    async with asking.reading(app, caller.tenant) as conn:
        index = await indexes.by_id(conn, reading.index_id)
        ids = await documents.ids_of_hits(
            conn, index.collection_id, reading.hits, tenant=caller.tenant, where=caller.visible
        )
    found = await app.store.vectors(app.database, index, list(ids), tenant=caller.tenant)
    return {ids[doc_id]: [vector.tolist() for vector in vectors] for doc_id, vectors in found.items()}
