"""The wire of Gemini's Batch API: batches are operations, whole numbers are strings."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, parse_qs

from tests.loopback import gemini
from tests.loopback.gemini import key
from tests.loopback.wire import Asked, Refused, Reply

if TYPE_CHECKING:
    from tests.loopback.batches import Batch, Batches, Told

__all__ = ["KEEPS", "answer", "key", "matches", "read", "refusal", "written"]

KEEPS = False
PLACES = re.compile(
    r"/(?P<door>upload/|download/|)v1beta/"
    r"(?:(?P<kind>files|batches)(?:/(?P<name>[\w-]+))?|models/(?P<model>[\w.-]+)(?=:async))"
    r"(?::(?P<verb>cancel|download|asyncBatchEmbedContent))?"
)
STATE = {"done": "SUCCEEDED"}
CODES = {400: 3, 500: 13, "fail": 3, "full": 8}  # of google.rpc.Code


def matches(path: str) -> bool:
    return PLACES.fullmatch(path) is not None


def refusal(refused: Refused) -> Reply:
    wrong_key = refused.code == "invalid_api_key"
    return Reply(400 if wrong_key else refused.status, gemini.refusal(refused))


def answer(there: Batches, method: str, url: SplitResult, headers: Mapping[str, str], body: bytes) -> Reply:
    place = PLACES.fullmatch(url.path)
    assert place
    door, kind, name, model, verb = place.group("door", "kind", "name", "model", "verb")
    if name and name not in (there.files if kind == "files" else there.batches):
        raise Refused(404, "not_found", "no such object")
    pages: dict[tuple[str, ...], Callable[[], Reply]] = {
        ("upload/", "files", "POST", None): lambda: uploaded(there, headers, url, body),
        ("download/", "files", "GET", "download"): lambda: Reply(200, there.files[name]),
        ("", "files", "DELETE", None): lambda: gone(there.files.pop(name)),
        ("", None, "POST", "asyncBatchEmbedContent"): lambda: created(
            there, model, json.loads(body)["batch"]
        ),
        ("", "batches", "GET", None): lambda: batches(there, name, parse_qs(url.query)),
        ("", "batches", "POST", "cancel"): lambda: cancelled(there.batches[name]),
    }
    page = pages.get((door, kind, method, verb))
    if page is None:
        raise Refused(404, "not_found", "no such page")
    return page()


def uploaded(there: Batches, headers: Mapping[str, str], url: SplitResult, body: bytes) -> Reply:
    """First it is announced, then it is brought to the address that was said."""
    told = {name.removeprefix("x-goog-upload-"): value for name, value in headers.items()}
    if told.get("command") == "start":
        assert told["protocol"] == "resumable"
        assert json.loads(body)["file"]["displayName"]
        host = headers["host"].replace("127.0.0.1", "localhost" if there.struck("elsewhere") else "127.0.0.1")
        size = told["header-content-length"]
        address = f"http://{host}{url.path}?upload_protocol=resumable&upload_id={size}"
        return Reply(200, b"", {"X-Goog-Upload-URL": address, "X-Goog-Upload-Status": "active"})
    assert (told["command"], told["offset"]) == ("upload, finalize", "0")
    if parse_qs(url.query)["upload_id"] != [str(len(body))]:
        raise Refused(400, "invalid_request_error", "not the size that was announced")
    return said({"file": {"name": f"files/{there.upload(body)}", "state": "ACTIVE"}})


def created(there: Batches, model: str, batch: dict[str, Any]) -> Reply:
    file = batch["inputConfig"]["fileName"].removeprefix("files/")
    about = {"model": f"models/{model}", "displayName": batch["displayName"]}
    made, lost = there.create("gemini", file, about)
    reply = said(shown(made))
    reply.cut = lost
    return reply


def gone(_: bytes) -> Reply:
    return said({})


def cancelled(batch: Batch) -> Reply:
    batch.status = "cancelled"
    return said({})


def batches(there: Batches, name: str | None, query: dict[str, list[str]]) -> Reply:
    """One, or a page of the list, the oldest first: no order is promised."""
    if name:
        return said(shown(there.batches[name]))
    size, begin = int(query["pageSize"][0]), int(query.get("pageToken", ["0"])[0])
    known = [*there.batches.values()]
    page: dict[str, Any] = {"operations": [shown(each) for each in known[begin : begin + size]]}
    if len(known) > begin + size:
        page["nextPageToken"] = str(begin + size)
    return said(page if known else {})


def shown(batch: Batch) -> dict[str, Any]:
    stats = {"requestCount": str(batch.total)}
    if batch.done:
        stats["successfulRequestCount"] = str(batch.done)
    state = f"BATCH_STATE_{STATE.get(batch.status, batch.status.upper())}"
    operation: dict[str, Any] = {"name": f"batches/{batch.id}"}
    operation["metadata"] = {**batch.about, "state": state, "batchStats": stats}
    if batch.status != "running":
        operation["done"] = True
    if batch.outputs:
        operation["response"] = {"responsesFile": f"files/{batch.outputs['responses']}"}
    if batch.why:
        operation["error"] = {"code": CODES[batch.why], "message": "Not this one."}
    return operation


def read(batch: Batch, line: dict[str, Any]) -> tuple[str, Asked]:
    path = f"/v1beta/{batch.about['model']}{gemini.END}"
    return line["key"], gemini.read(path, {"requests": [line["request"]]})


def written(told: list[Told]) -> dict[str, list[dict[str, Any]]]:
    return {"responses": [line(each) for each in told if each.asked or each.refused]}


def line(told: Told) -> dict[str, Any]:
    named = {"key": told.name} if told.name else {}
    if told.refused:
        return {**named, "error": {"code": CODES[told.refused.status], "message": told.refused.words}}
    assert told.asked
    embedding = json.loads(gemini.write(told.asked, told.rows, [0]))["embeddings"][0]
    return {**named, "response": {"tokenCount": str(told.asked.tokens), "embedding": embedding}}


def said(what: dict[str, Any]) -> Reply:
    return Reply(200, json.dumps(what).encode())
