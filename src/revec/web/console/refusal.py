"""What a person sees who is refused: the sentence that the API would say, on a page."""

from __future__ import annotations

import json
from urllib.parse import urlencode

from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.datastructures import Headers
from starlette.types import Scope

from revec.web.console.environment import rendered
from revec.web.console.guests import LOGIN, ROOT, split

UNIDENTIFIED = 401
SEE_OTHER = 303


def refused(problem: Response, scope: Scope) -> Response:
    """A problem as a page; who is not logged in is sent to where they can be."""
    headers = Headers(scope=scope)
    by_page = headers.get("hx-request") == "true"  # a script of ours asks, and follows no redirect by itself
    if problem.status_code == UNIDENTIFIED and scope["path"] != LOGIN:
        if by_page:
            return Response(status_code=UNIDENTIFIED, headers={"hx-redirect": LOGIN})
        return RedirectResponse(f"{LOGIN}?{urlencode({'next': _asked(scope)})}", SEE_OTHER)
    said = json.loads(bytes(problem.body))
    kept = {name: problem.headers[name] for name in ("retry-after",) if name in problem.headers}
    return HTMLResponse(
        rendered(
            "refused.html",
            layout="part.html" if by_page else "bare.html",
            title=said["title"],
            detail=said["detail"],
            back=_back(headers),
        ),
        problem.status_code,
        headers=kept,
    )


def _asked(scope: Scope) -> str:
    """The page that they wanted, where looking at it again does nothing."""
    if scope["method"] != "GET" or scope["path"].startswith("/console/live/"):
        return ROOT
    query = scope["query_string"].decode("latin-1")
    return f"{scope['path']}?{query}" if query else str(scope["path"])


def _back(headers: Headers) -> str:
    """The page of ours that they came from."""
    came = split(headers.get("referer", ""))
    if came.netloc == headers.get("host") and ours(came.path) and came.path != LOGIN:
        return f"{came.path}?{came.query}" if came.query else came.path
    return ROOT


def ours(path: str) -> bool:
    """A page of the console, and no address that a browser would read as another server's."""
    return path.startswith(ROOT) and "//" not in path and "\\" not in path
