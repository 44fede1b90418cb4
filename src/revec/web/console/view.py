"""A page as it goes out: whole, or its main part where the page itself asks for it."""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

from fastapi.responses import HTMLResponse, Response

from revec.web.console import pages
from revec.web.console.environment import rendered
from revec.web.console.guests import Guest
from revec.web.console.visit import Visit


@dataclass(frozen=True, slots=True)
class Tab:
    """A page's place in the navigation."""

    name: str
    path: str
    place: int  # from small to large
    whole: bool = False  # for those alone who may read what all tenants have


@cache
def found() -> tuple[ModuleType, ...]:
    """Every page: a new one is a new module."""
    names = sorted(each.name for each in pkgutil.iter_modules(pages.__path__))
    return tuple(importlib.import_module(f"{pages.__name__}.{name}") for name in names)


def tabs(visit: Visit) -> list[Tab]:
    """Those that the caller may open, in their order."""
    all_of_them = [page.TAB for page in found() if hasattr(page, "TAB")]
    mine = [tab for tab in all_of_them if visit.sight.is_whole or not tab.whole]
    return sorted(mine, key=lambda tab: tab.place)


def shown(visit: Visit, template: str, *, code: int = 200, **facts: Any) -> Response:
    """The page; for a request of htmx, its main part."""
    is_part = visit.request.headers.get("hx-request") == "true"
    html = rendered(
        template,
        layout="part.html" if is_part else "layout.html",
        visit=visit,
        tabs=tabs(visit),
        here=visit.request.url.path,
        **facts,
    )
    answer = HTMLResponse(html, code)
    guest: Guest = visit.request.state.guest
    guest.sign(answer, visit.request.scope)
    return answer
