"""Whether the process turns, whether its database answers, and what it did."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse, Response

from revec.observe.metrics import CONTENT_TYPE
from revec.web.asking import Operator

router = APIRouter(tags=["health"], default_response_class=PlainTextResponse)


@router.get("/livez")
async def livez() -> str:
    """The event loop turns."""
    return "ok\n"


@router.get("/readyz", responses={503: {"description": "Why it is not", "content": {"text/plain": {}}}})
async def readyz(request: Request) -> PlainTextResponse:
    """Its own database and schema answer; asked once a second, whoever asks."""
    why = await request.app.state.unready()
    return PlainTextResponse(f"{why}\n" if why else "ok\n", status_code=503 if why else 200)


@router.get("/metrics")
async def prometheus(request: Request, caller: Operator) -> Response:
    """For Prometheus, of this process since it began; an operator's key opens it."""
    del caller
    return Response(request.state.metrics.exposition(), headers={"content-type": CONTENT_TYPE})
