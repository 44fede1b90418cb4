"""The wire of OpenAI's Batch API."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, parse_qs

from tests.loopback import openai
from tests.loopback.openai import key
from tests.loopback.wire import Asked, Refused, Reply

if TYPE_CHECKING:
    from tests.loopback.batches import Batch, Batches, Told

__all__ = ["KEEPS", "answer", "key", "matches", "read", "refusal", "written"]

KEEPS = True
WINDOW = 24 * 3600
PLACES = re.compile(r"/v1/(files|batches)(?:/([\w-]+))?(?:/(content|cancel))?")
STATUS = {"running": "in_progress", "done": "completed"}
WHY = {"fail": "invalid_request", "full": "token_limit_exceeded"}


def matches(path: str) -> bool:
    return PLACES.fullmatch(path) is not None


def refusal(refused: Refused) -> Reply:
    return Reply(refused.status, openai.refusal(refused))


def answer(there: Batches, method: str, url: SplitResult, headers: Mapping[str, str], body: bytes) -> Reply:
    place = PLACES.fullmatch(url.path)
    assert place
    kind, name, what = place.groups()
    if name and name not in (there.files if kind == "files" else there.batches):
        raise Refused(404, "not_found", "no such object")
    if kind == "files":
        return of_file(there, method, name, headers, body)
    if name is None:
        return created(there, json.loads(body)) if method == "POST" else listed(there, parse_qs(url.query))
    if what == "cancel":
        there.batches[name].status = "cancelled"
    return said(shown(there.batches[name]))


def of_file(there: Batches, method: str, name: str, headers: Mapping[str, str], body: bytes) -> Reply:
    if name is None:
        return said({"id": there.upload(uploaded(headers, body)), "object": "file"})
    if method == "DELETE":
        del there.files[name]
        return said({"id": name, "deleted": True})
    return Reply(200, there.files[name])


def uploaded(headers: Mapping[str, str], body: bytes) -> bytes:
    boundary = headers["content-type"].partition("boundary=")[2].encode()
    parts = [part for part in body.split(b"--" + boundary) if b"filename=" in part]
    assert len(parts) == 1
    return parts[0].partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")


def created(there: Batches, asked: dict[str, Any]) -> Reply:
    if (asked["endpoint"], asked["completion_window"]) != ("/v1/embeddings", "24h"):
        raise Refused(400, "invalid_request_error", "the batch is invalid")
    made, lost = there.create("openai", asked["input_file_id"], asked["metadata"])
    reply = said(shown(made))
    reply.cut = lost
    return reply


def listed(there: Batches, query: dict[str, list[str]]) -> Reply:
    """The newest first."""
    newest = [*reversed(there.batches.values())]
    limit = int(query.get("limit", ["20"])[0])
    if after := query.get("after"):
        newest = newest[[each.id for each in newest].index(after[0]) + 1 :]
    data = [shown(each) for each in newest[:limit]]
    return said({"object": "list", "data": data, "has_more": len(newest) > limit})


def shown(batch: Batch) -> dict[str, Any]:
    errors = [{"code": WHY[batch.why], "message": "Not this one."}] if batch.why else []
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": "/v1/embeddings",
        "status": STATUS.get(batch.status, batch.status),
        "errors": {"object": "list", "data": errors} if errors else None,
        "input_file_id": batch.file,
        "output_file_id": batch.outputs.get("output"),
        "error_file_id": batch.outputs.get("error"),
        "created_at": batch.created_at,
        "expires_at": batch.created_at + WINDOW,
        "request_counts": {"total": batch.total, "completed": batch.done, "failed": batch.failed},
        "metadata": batch.about,
    }


def read(_: Batch, line: dict[str, Any]) -> tuple[str, Asked]:
    return line["custom_id"], openai.read("", line["body"])


def written(told: list[Told]) -> dict[str, list[dict[str, Any]]]:
    good = [answered(each, 200, openai.write(each.asked, each.rows, [0])) for each in told if each.asked]
    bad = [
        answered(each, each.refused.status, openai.refusal(each.refused)) if each.refused else late(each)
        for each in told
        if not each.asked
    ]
    return {"output": good, "error": bad}


def answered(told: Told, status: int, body: bytes) -> dict[str, Any]:
    response = {"status_code": status, "request_id": "r", "body": json.loads(body)}
    return {"id": "b", "custom_id": told.name, "response": response, "error": None}


def late(told: Told) -> dict[str, Any]:
    error = {"code": "batch_expired", "message": "This request could not be executed in time."}
    return {"custom_id": told.name, "response": None, "error": error}


def said(what: dict[str, Any]) -> Reply:
    return Reply(200, json.dumps(what).encode())
