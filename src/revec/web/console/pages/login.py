"""Who comes and goes: a key is shown once, and a cookie stands for it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from revec.model.errors import NotIdentified
from revec.web.console.environment import rendered
from revec.web.console.guests import LOGIN, ROOT, SESSION, Guest, Guests, cookies, put, require_own_form
from revec.web.console.refusal import SEE_OTHER, UNIDENTIFIED, ours

LONGEST_WAY = 2_000  # characters of the page that they wanted
router = APIRouter(include_in_schema=False)
WRONG = "This key opens nothing: it is unknown, expired or revoked."


@router.get("/")
@router.get("/console")
async def first() -> Response:
    return RedirectResponse(ROOT, SEE_OTHER)


@router.get(LOGIN)
async def form(request: Request, next: str = ROOT) -> Response:  # noqa: A002 - as the address says it
    if getattr(request.state, "caller", None) is not None:  # nobody has to log in
        return RedirectResponse(ROOT, SEE_OTHER)
    return _form(request, next)


@router.post(LOGIN)
async def log_in(
    request: Request,
    key: Annotated[str, Form(max_length=200)] = "",
    csrf: Annotated[str, Form(max_length=200)] = "",
    next: Annotated[str, Form()] = ROOT,  # noqa: A002
) -> Response:
    require_own_form(request.scope, csrf)
    guests: Guests = request.app.state.guests
    try:
        address = request.client.host if request.client else ""
        _, token = await guests.log_in(key.strip(), address)
    except NotIdentified:
        return _form(request, next, wrong=WRONG)
    after = next if len(next) <= LONGEST_WAY and ours(next) else ROOT
    answer = RedirectResponse(after, SEE_OTHER)
    put(answer, request.scope, SESSION, token)
    return answer


@router.post("/console/logout")
async def log_out(request: Request, csrf: Annotated[str, Form(max_length=200)] = "") -> Response:
    require_own_form(request.scope, csrf)
    guests: Guests = request.app.state.guests
    await guests.log_out(cookies(request.headers).get(SESSION))
    answer = RedirectResponse(LOGIN, SEE_OTHER)
    answer.delete_cookie(SESSION, path="/", httponly=True, samesite="strict")
    return answer


def _form(request: Request, after: str, wrong: str = "") -> Response:
    guest: Guest = request.state.guest
    html = rendered("login.html", layout="bare.html", csrf=guest.form, next=after, wrong=wrong)
    answer = HTMLResponse(html, UNIDENTIFIED if wrong else 200)
    guest.sign(answer, request.scope)
    return answer
