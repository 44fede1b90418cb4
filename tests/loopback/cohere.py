"""Cohere's v2 wire: vectors by kind, in the order of the inputs; repeats the texts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from tests.loopback.wire import Asked, Refused, bearer, dims_asked, texts_within

MAX_INPUTS = 96


def matches(path: str) -> bool:
    return path == "/v2/embed"


def key(headers: Mapping[str, str]) -> str:
    return bearer(headers)


def read(_: str, body: dict[str, Any]) -> Asked:
    given = body.get("texts") or ["".join(map(said, each["content"])) for each in body.get("inputs", [])]
    if body.get("input_type") not in {"search_document", "search_query"}:
        raise Refused(400, "invalid_request_error", "valid input_type must be provided", param="input_type")
    kinds = body.get("embedding_types", ["float"])
    dims = dims_asked(body["model"], body.get("output_dimension"))
    texts = texts_within(given, MAX_INPUTS)
    return Asked(body["model"], texts, dims, base64="base64" in kinds, task=body["input_type"])


def said(content: dict[str, Any]) -> str:
    if content["type"] == "text":
        return content["text"]
    return f"image {hashlib.sha256(content['image_url']['url'].encode()).hexdigest()}"


def write(asked: Asked, rows: list[bytes], _: Sequence[int | None]) -> bytes:
    return b'{"id":"%d","embeddings":{"%s":[%s]},"texts":%s,"meta":{"billed_units":{"input_tokens":%d}}}' % (
        asked.number,
        b"base64" if asked.base64 else b"float",
        b",".join(rows),
        json.dumps(asked.texts).encode(),
        asked.tokens,
    )


def refusal(refused: Refused) -> bytes:
    return json.dumps({"id": "-", "message": refused.words}).encode()
