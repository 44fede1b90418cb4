"""Documents that are handed in: single or in batches, with a wait for those who read what they wrote."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response

from revec.app import App
from revec.capture.drafts import all_drafted, drafted
from revec.capture.push import push
from revec.model.index import Collection
from revec.postgres import documents
from revec.postgres.collections import PUSH
from revec.web import asking, bodies
from revec.web.asking import CollectionName, Operator, TheApp, Wait, Writer, collection
from revec.web.entrance import extend

router = APIRouter(prefix="/v1/collections/{name}/documents", tags=["documents"])
RECEIPT: dict[str, Any] = {
    "response_model": bodies.Receipt,
    "response_model_exclude_none": True,
    "responses": {
        200: {"description": "The index that serves has nothing left to do for them"},
        202: {"description": "Kept; a worker will do the rest", "model": bodies.Receipt},
    },
}
Id = Annotated[bodies.Name, Path(description="The document's id; it may hold slashes.")]


@router.get("/{id:path}", response_model=bodies.Document)
async def read(
    *,
    app: TheApp,
    caller: Operator,
    name: CollectionName,
    id: Id,  # noqa: A002 - what everybody calls it
    source: Annotated[
        bodies.Name, Query(description="Of which source; pushed documents unless said.")
    ] = PUSH,
    tenant: Annotated[bodies.Name | None, Query(description="Only for callers of all tenants.")] = None,
) -> dict[str, Any]:
    """One document as it is kept."""
    whose = asking.tenant(caller, tenant)
    found = await collection(app, caller, name)
    async with asking.reading(app, whose) as conn:
        row = await documents.one(conn, found.id, source, id, tenant=whose, where=caller.visible)
    if row is None:
        raise documents.no_document(name, id)
    return {
        "id": row.key,
        "source": row.source,
        "title": row.title,
        "text": row.body,
        "tenant": row.tenant,
        "metadata": row.metadata,
        "changed_at": row.changed_at,
    }


@router.put("/{id:path}", **RECEIPT)
async def put(
    *,
    request: Request,
    response: Response,
    app: TheApp,
    caller: Writer,
    name: CollectionName,
    id: Id,  # noqa: A002
    document: bodies.DocumentIn,
    wait: Wait = None,
) -> bodies.Receipt:
    """Insert it, or put it in the place of the one with this id."""
    found = await collection(app, caller, name)
    extend(request, app.settings.request_deadline + await app.inline.patience(found, wait))
    draft = drafted({"id": id, **document.model_dump()})
    return await _receipt(app, found, response, await push(app.database, found, [draft]), wait)


@router.delete("/{id:path}", **RECEIPT)
async def delete(
    *,
    request: Request,
    response: Response,
    app: TheApp,
    caller: Writer,
    name: CollectionName,
    id: Id,  # noqa: A002
    wait: Wait = None,
) -> bodies.Receipt:
    """Delete it; from this answer on no search shows it, whatever the wait."""
    found = await collection(app, caller, name)
    extend(request, app.settings.request_deadline + await app.inline.patience(found, wait))
    ids = await push(app.database, found, [], [id])
    if not ids:
        raise documents.no_document(name, id)
    return await _receipt(app, found, response, ids, wait)


@router.post("/batch", **RECEIPT)
async def batch(
    *,
    request: Request,
    response: Response,
    app: TheApp,
    caller: Writer,
    name: CollectionName,
    wanted: bodies.Batch,
    wait: Wait = None,
) -> bodies.Receipt:
    """Put and delete many, all or nothing; what was to be deleted and is not there is not answered for."""
    found = await collection(app, caller, name)
    extend(request, app.settings.request_deadline + await app.inline.patience(found, wait))
    drafts = all_drafted(document.model_dump() for document in wanted.put)
    ids = await push(app.database, found, drafts, wanted.delete, tenant=wanted.tenant)
    return await _receipt(app, found, response, ids, wait)


async def _receipt(
    app: App, found: Collection, response: Response, ids: Mapping[str, int], wait: float | None
) -> bodies.Receipt:
    answer = await app.inline.answer(found, ids, wait)
    if any(stand.open for stand in answer.stands):
        response.status_code = 202
    return bodies.Receipt(
        collection=found.name,
        documents=[
            bodies.Written(id=each.key, standing=each.standing, why=each.why) for each in answer.stands
        ],
        queued=answer.queued,
    )
