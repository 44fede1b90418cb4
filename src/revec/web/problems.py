"""The one table from errors to HTTP, and the shape of every answer that is no success (RFC 9457)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from revec.model.errors import (
    AnswerInvalid,
    BadInput,
    GateNotMet,
    InputRefused,
    MissingExtra,
    NotAllowed,
    NotFound,
    NotIdentified,
    ProviderError,
    ProviderUnavailable,
    Refused,
    RevecError,
    StoreUnavailable,
    TooMuch,
    Unavailable,
    without_numpy,
)
from revec.postgres.database import DATABASE_TROUBLE, is_of_what_was_sent

CONTENT_TYPE = "application/problem+json"
STATUS: dict[type[RevecError], int] = {  # the nearest of its bases counts
    BadInput: 422,
    NotFound: 404,
    Refused: 409,
    GateNotMet: 409,
    NotIdentified: 401,
    NotAllowed: 403,
    TooMuch: 429,
    Unavailable: 503,
    MissingExtra: 501,
    ProviderError: 502,
    ProviderUnavailable: 503,
    InputRefused: 422,
    AnswerInvalid: 502,
    RevecError: 500,
}
UNSTORABLE = "a character or a number of the request is none that the database can hold: leave it out"
LATER = "nothing was changed by this request unless it was answered: ask again"


def response(error: Exception) -> Response:
    """Whatever happened, as a problem; of what nobody thought of, no more than that it happened."""
    error = without_numpy(error) or error
    if away := _away(error):
        return problem(503, f"{away}; {LATER}", headers=_RETRY)
    if isinstance(error, RevecError):
        return problem(_status(error), str(error), code=type(error).__name__, headers=_headers(error))
    if isinstance(error, HTTPException):
        return problem(error.status_code, _sentence(error), headers=error.headers)
    if isinstance(error, RequestValidationError):
        return problem(422, *_refusals(error.errors()))
    if is_of_what_was_sent(error):
        return problem(422, UNSTORABLE)
    return problem(500, "something that nobody thought of; the server's log has it")


_RETRY = {"retry-after": "1"}


def _away(error: Exception) -> str | None:
    """What cannot be reached, or not in time: its own words name hosts and logins."""
    if isinstance(error, StoreUnavailable):
        return "the store of the vectors is away"
    if isinstance(error, (*DATABASE_TROUBLE, MemoryError)):
        return "the database or its server is busy"
    if isinstance(error, TimeoutError):
        return "the answer was not ready within the deadline"
    return None


def problem(
    status: int,
    detail: str,
    errors: Sequence[Mapping[str, str]] = (),
    *,
    code: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """`title` is the status' own phrase, so the type is about:blank (RFC 9457, 4.2.1).

    `code` names the error among ours, so that a client of ours can raise the same.
    """
    said: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    if code:
        said["code"] = code
    if errors:
        said["errors"] = list(errors)
    body = json.dumps(said, ensure_ascii=False).encode(errors="replace")
    return Response(body, status, media_type=CONTENT_TYPE, headers=dict(headers or {}))


def _status(error: RevecError) -> int:
    return next(STATUS[each] for each in type(error).__mro__ if each in STATUS)


def _headers(error: RevecError) -> dict[str, str]:
    if isinstance(error, NotIdentified):
        return {"www-authenticate": "Bearer"}
    if (seconds := getattr(error, "retry_after", None)) is not None:
        return {"retry-after": str(math.ceil(seconds))}
    return {}


def _sentence(error: HTTPException) -> str:
    """The framework's own say no more than the status."""
    if error.detail != HTTPStatus(error.status_code).phrase:
        return error.detail
    return {404: "there is nothing here: /openapi.json lists what there is", 405: "not by this method"}.get(
        error.status_code, error.detail
    )


def _refusals(errors: Sequence[Any]) -> tuple[str, list[dict[str, str]]]:
    """Where and why, without what was sent: it may be anything, and secret."""
    listed = [{"where": _where(each), "why": _why(each)} for each in errors]
    first = listed[0]
    return f"{first['where']}: {first['why']}", listed


def _where(error: Mapping[str, Any]) -> str:
    place, *inner = error["loc"]
    return str(place) if error["type"] == "json_invalid" else ".".join(map(str, [place, *inner]))


def _why(error: Mapping[str, Any]) -> str:
    if error["type"] == "json_invalid":
        return f"is not JSON, from character {error['loc'][-1]} on"
    sentence = str(error["msg"]).removeprefix("Value error, ")
    return sentence[:1].lower() + sentence[1:]
