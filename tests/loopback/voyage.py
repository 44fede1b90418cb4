"""Voyage's wire: OpenAI's with `input_type` and other words for the rest."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tests.loopback import openai
from tests.loopback.wire import Asked, Refused, bearer, dims_asked, texts_within

MAX_INPUTS = 1000


def matches(path: str) -> bool:
    return path == "/voyage/v1/embeddings"


def key(headers: Mapping[str, str]) -> str:
    return bearer(headers)


def read(_: str, body: dict[str, Any]) -> Asked:
    if body.get("input_type") not in {None, "document", "query"}:
        raise Refused(400, "invalid_request_error", "input_type is one of null, query, document")
    dims = dims_asked(body["model"], body.get("output_dimension"))
    texts = texts_within(body["input"], MAX_INPUTS)
    as_base64 = body.get("encoding_format") == "base64"
    return Asked(body["model"], texts, dims, base64=as_base64, task=body.get("input_type"))


def write(asked: Asked, rows: list[bytes], indexes: Sequence[int | None]) -> bytes:
    return openai.listed(asked, rows, indexes, b'"total_tokens":%d' % asked.tokens)


def refusal(refused: Refused) -> bytes:
    return json.dumps({"detail": refused.words}).encode()
