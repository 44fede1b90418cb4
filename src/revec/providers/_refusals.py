"""Why a server refused, who is to blame, and how long to wait: the dialects of all of them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

from revec.model.errors import InputRefused, ProviderError, ProviderUnavailable, Trouble

REASON_LIMIT = 200  # characters of the server's own words
LONGEST_WAIT = 3600.0  # seconds; a server that asks for more has its clock or its units wrong

BLAMES_INPUT = frozenset(
    {
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        HTTPStatus.UNPROCESSABLE_ENTITY,
    }
)
NO_KEY_STATUS = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
NO_KEY = frozenset(
    {"invalid_api_key", "account_deactivated", "API_KEY_INVALID", "UNAUTHENTICATED", "PERMISSION_DENIED"}
)
NO_MODEL = frozenset({"model_not_found", "DeploymentNotFound"})
# FAILED_PRECONDITION is Google's word for an account without billing.
NO_MONEY = frozenset(
    {"insufficient_quota", "billing_not_active", "billing_hard_limit_reached", "FAILED_PRECONDITION"}
)
# With the model's name in the place of {}: a sentence that only mentions it blames something else.
UNKNOWN_MODEL = (
    r"\b{}\W{{0,2}} (is |was )?(not supported|not found|unsupported|unknown|does not exist)\b",
    r"\b(unknown|invalid|unsupported) model\W{{1,3}}{}\b",
)


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a server says that it refused. Only fields meant for that: others repeat the input."""

    codes: frozenset[str] = frozenset()
    param: str = ""
    words: str = ""
    wait: float | None = None  # seconds, where the body says so


def refusal(
    answer: Answer,
    *,
    place: str,
    model: str,
    key_name: str,
    has_key: bool,
    clean: Callable[[str], str],
    write_url: str,
) -> ProviderError:
    """The error that a refusal means.

    Args:
        clean: takes the key out of the server's words.
    """
    why = reason(answer.body)
    no_model = _no_model(answer.status, why, model)
    no_key = not no_model and (answer.status in NO_KEY_STATUS or bool(why.codes & NO_KEY))
    no_money = answer.status == HTTPStatus.PAYMENT_REQUIRED or bool(why.codes & NO_MONEY)
    # A server that refuses a key likes to show parts of it.
    words = "" if no_key else clean(why.words)
    said = f"({answer.status}{': ' if words else ''}{words})"
    if answer.status in BLAMES_INPUT and not (no_model or no_key or no_money):
        return InputRefused(
            f"{place} refused the input {said}: "
            f"shorten or repair the text where it comes from and write it again",
            too_large=answer.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        )
    trouble = Trouble.AUTH
    if no_model:
        sentence = (
            f"does not know the model {model} {said}: check its name, whether this key "
            f"may use it, and base_url (it looks like {write_url})"
        )
    elif no_key:
        verb = "refused the API key" if has_key else "wants an API key"
        sentence = f"{verb} {said}: set {key_name} to one that may use {model}"
    else:
        sentence = _way_out(answer.status, said, no_money=no_money)
        trouble = _trouble(answer.status, no_money=no_money)
    wait = retry_after(answer.headers)
    return ProviderUnavailable(
        f"{place} {sentence}",
        trouble=trouble,
        retry_after=why.wait if wait is None else wait,
        headers=answer.headers,
    )


def _no_model(status: int, why: Reason, model: str) -> bool:
    if status == HTTPStatus.NOT_FOUND or why.codes & NO_MODEL:
        return True
    # Some say 400 and only a sentence tells; without it every document would be blamed in turn.
    name = re.escape(model)
    return status == HTTPStatus.BAD_REQUEST and any(
        re.search(pattern.format(name), why.words, re.IGNORECASE) for pattern in UNKNOWN_MODEL
    )


def reason(body: bytes) -> Reason:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return Reason()
    if not isinstance(answer, dict):
        return Reason()
    error = answer.get("error") or answer.get("detail") or answer
    if isinstance(error, list):  # FastAPI's own refusals
        error = error[0] if error else {}
    if not isinstance(error, dict):
        return Reason(words=plain(error))
    where = error.get("loc")
    details = [detail for detail in _list(error.get("details")) if isinstance(detail, dict)]
    codes = [error.get(field) for field in ("code", "type", "status")]
    return Reason(
        codes=frozenset(map(plain, codes + [detail.get("reason") for detail in details])),
        param=plain(where[-1] if isinstance(where, list) and where else error.get("param")),
        words=plain(error.get("message") or error.get("msg")),
        wait=next(
            (wait for detail in details if (wait := _delay(detail.get("retryDelay"))) is not None), None
        ),
    )


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _delay(value: object) -> float | None:
    """`34s`, as Google writes a duration."""
    return _seconds(value.removesuffix("s")) if isinstance(value, str) else None


def plain(words: object) -> str:
    """One short printable line."""
    line = " ".join(words.split()) if isinstance(words, str) else ""
    return "".join(char for char in line if char.isprintable())[:REASON_LIMIT]


def unknown_parameter(answer: Answer, sent: Mapping[str, object]) -> str | None:
    """Which of the parameters that it could do without the server complains about."""
    if answer.status not in {HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY}:
        return None
    why = reason(answer.body)
    blamed = why.param or why.words
    return next((name for name in sent if name in blamed), None)


def _way_out(status: int, said: str, *, no_money: bool) -> str:
    if no_money:
        return f"has no quota left {said}: check plan and billing there; it will be asked again"
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return f"asks us to slow down {said}: it will be asked again later"
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        return f"redirects {said}, where no text will follow: set base_url to the final address"
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return f"failed {said}: it will be asked again; if that goes on, check the server"
    return f"does not serve embeddings here {said}: check base_url"


def _trouble(status: int, *, no_money: bool) -> Trouble:
    if no_money:
        return Trouble.QUOTA
    return Trouble.RATE if status == HTTPStatus.TOO_MANY_REQUESTS else Trouble.SERVER


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds, from either form of Retry-After; None where it says nothing useful."""
    value = headers.get("retry-after", "").strip()
    seconds = _seconds(value)
    if seconds is not None or not value:
        return seconds
    try:
        until = parsedate_to_datetime(value)
        # By the server's own clock where it tells the time: ours may differ.
        now = parsedate_to_datetime(headers["date"]) if "date" in headers else datetime.now(UTC)
        return _bounded((until - now).total_seconds())
    except (ValueError, TypeError):
        return None


def _seconds(value: str) -> float | None:
    try:
        return _bounded(float(value))
    except ValueError:
        return None


def _bounded(seconds: float) -> float | None:
    return min(max(seconds, 0.0), LONGEST_WAIT) if math.isfinite(seconds) else None
