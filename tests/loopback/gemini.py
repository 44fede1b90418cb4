"""The Gemini wire: no index, no base64, no usage; its errors have a word for the status."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from tests.loopback.embedding import dims_of
from tests.loopback.wire import Asked, Refused, dims_asked, texts_within

MAX_INPUTS = 100
END = ":batchEmbedContents"
STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}


def matches(path: str) -> bool:
    return path.startswith("/v1beta/models/") and path.endswith(END)


def key(headers: Mapping[str, str]) -> str:
    return headers.get("x-goog-api-key", "")


def read(path: str, body: dict[str, Any]) -> Asked:
    model, requests = path.rsplit("/", maxsplit=1)[-1].removesuffix(END), body["requests"]
    if any(request["model"] != f"models/{model}" for request in requests):
        raise Refused(400, "invalid_request_error", "model must be the one of the path", param="model")
    alike = {(request.get("taskType"), request.get("outputDimensionality")) for request in requests}
    task, wanted = next(iter(alike), (None, None))
    texts = texts_within(
        ["".join(map(said, request["content"]["parts"])) for request in requests], MAX_INPUTS
    )
    dims = dims_asked(model, wanted)
    # What is cut from a longer vector is left as short as it is.
    return Asked(model, texts, dims, task=task, norm=0.7 if dims < dims_of(model) else 1.0)


def said(part: dict[str, Any]) -> str:
    """An image is known by its hash."""
    if "text" in part:
        return part["text"]
    return f"image {hashlib.sha256(part['inlineData']['data'].encode()).hexdigest()}"


def write(asked: Asked, rows: list[bytes], _: Sequence[int | None]) -> bytes:
    return b'{"embeddings":[%s]}' % b",".join(b'{"values":%s}' % row for row in rows)


def refusal(refused: Refused) -> bytes:
    """A wrong key is a 400 of its own here; see `status`."""
    error: dict[str, Any] = {"code": refused.status, "message": refused.words}
    error["status"] = STATUS.get(refused.status, "UNKNOWN")
    if refused.code == "invalid_api_key":
        error["details"] = [{"@type": "ErrorInfo", "reason": "API_KEY_INVALID"}]
        error["status"] = "INVALID_ARGUMENT"
    if refused.code == "insufficient_quota":
        error["status"] = "FAILED_PRECONDITION"
    if "Retry-After" in refused.headers and refused.headers["Retry-After"].isdigit():
        error["details"] = [{"@type": "RetryInfo", "retryDelay": f"{refused.headers.pop('Retry-After')}s"}]
    return json.dumps({"error": error}).encode()
