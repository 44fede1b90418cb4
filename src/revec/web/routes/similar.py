"""Similar documents: like one that is there, like a text, like a vector of the space that serves."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from revec.search.similar import ByKey, ByText, ByVector, Like
from revec.web import answers, asking, bodies
from revec.web.asking import CollectionName, TheApp, Viewer

router = APIRouter(prefix="/v1/collections/{name}/similar", tags=["search"])


@router.post("", response_model=bodies.Likenesses, response_model_exclude_unset=True)
async def similar(
    app: TheApp, caller: Viewer, name: CollectionName, likeness: bodies.Likeness
) -> dict[str, Any]:
    """The k documents of the caller's tenant that are most similar; a document is not among its own."""
    asking.require_reach(caller, name)
    reading = await app.retriever.similar(
        name,
        _like(likeness),
        k=likeness.k,
        tenant=asking.tenant(caller, likeness.tenant),
        threshold=likeness.threshold,
        where=asking.where(likeness.filter),
        visible=caller.visible,
        sticky=likeness.sticky or caller.person,
    )
    return {**answers.said(reading), "threshold": reading.threshold}


def _like(likeness: bodies.Likeness) -> Like:
    if likeness.key is not None:
        return ByKey(likeness.key, likeness.source)
    if likeness.text is not None:
        return ByText(likeness.text)
    return ByVector(likeness.vector or [], likeness.space)
