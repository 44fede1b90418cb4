"""The whole of the door: routes, what stands before them, and their description."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.requests import Request

from revec import __version__
from revec.app import App
from revec.observe.metrics import Metrics
from revec.web import bodies
from revec.web.asking import PROBLEMS
from revec.web.console import assets, view
from revec.web.console.guests import Guests
from revec.web.console.live import Live
from revec.web.console.shelf import Shelf
from revec.web.doorkeeper import Doorkeeper
from revec.web.entrance import OPEN, Entrance, problem_of
from revec.web.purses import Purses
from revec.web.routes import collections, documents, health, migrations, search, shadow, similar
from revec.work.health import once_a_second, unready

ABOUT = (
    "Search by the model that serves. Every answer that is no success is a problem (RFC 9457): "
    "a sentence, with the way out."
)
REFS = "#/components/schemas/{model}"


def build(revec: App, doorkeeper: Doorkeeper, metrics: Metrics | None = None) -> FastAPI:
    """An ASGI application on an open App; it opens and closes nothing itself.

    `metrics`: those of this process, which hear its events; unless said, of its requests alone.
    """
    # No page of documentation: its scripts would come from somewhere else.
    api = FastAPI(
        title="Revec",
        version=__version__,
        description=ABOUT,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers={HTTPException: _answered, RequestValidationError: _answered},
    )
    api.state.revec = revec
    api.state.unready = once_a_second(lambda: unready(revec.database))
    for routes in (search, similar, documents, collections, migrations, shadow, health):
        api.include_router(routes.router, responses=PROBLEMS)
    api.state.live = Live(revec.database)
    api.state.shelf = Shelf()
    api.state.guests = Guests(revec.database, doorkeeper)
    for page in (assets, *view.found()):
        api.include_router(page.router)
    api.add_middleware(
        Entrance,
        doorkeeper=doorkeeper,
        guests=api.state.guests,
        purses=Purses(revec.settings.requests_per_second),
        metrics=metrics or Metrics(),
        deadline=revec.settings.request_deadline,
    )
    api.openapi = lambda: _described(api)  # type: ignore[method-assign]
    return api


async def _answered(request: Request, error: Exception) -> Response:
    return problem_of(error, request.scope)


def _described(api: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, with what a problem looks like and how a key is shown."""
    if api.openapi_schema:
        return api.openapi_schema
    said = get_openapi(title=api.title, version=api.version, description=api.description, routes=api.routes)
    problem = bodies.Problem.model_json_schema(ref_template=REFS)
    parts = said.setdefault("components", {})
    parts.setdefault("schemas", {}).update({**problem.pop("$defs", {}), "Problem": problem})
    parts["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "A key, or a JWT."}
    }
    said["security"] = [{"bearer": []}]
    for path in OPEN & said["paths"].keys():
        for operation in said["paths"][path].values():
            operation["security"] = []
    api.openapi_schema = said
    return said
