"""The OpenAI wire."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tests.loopback.wire import Asked, Refused, bearer, dims_asked, quoted, texts_within

MAX_INPUTS = 2048


def matches(path: str) -> bool:
    return path == "/v1/embeddings"


def key(headers: Mapping[str, str]) -> str:
    return bearer(headers)


def read(_: str, body: dict[str, Any]) -> Asked:
    given = body["input"] if isinstance(body["input"], list) else [body["input"]]
    dims = dims_asked(body["model"], body.get("dimensions"))
    texts = texts_within(given, MAX_INPUTS)
    return Asked(body["model"], texts, dims, base64=body.get("encoding_format") == "base64")


def write(asked: Asked, rows: list[bytes], indexes: Sequence[int | None]) -> bytes:
    return listed(
        asked, rows, indexes, b'"prompt_tokens":%d,"total_tokens":%d' % (asked.tokens, asked.tokens)
    )


def listed(asked: Asked, rows: list[bytes], indexes: Sequence[int | None], usage: bytes) -> bytes:
    data = b",".join(
        b'{"object":"embedding","index":%s,"embedding":%s}' % (b"null" if at is None else b"%d" % at, row)
        for at, row in zip(indexes, rows, strict=True)
    )
    return b'{"object":"list","data":[%s],"model":%s,"usage":{%s}}' % (data, quoted(asked.model), usage)


def refusal(refused: Refused) -> bytes:
    error = {
        "message": refused.words,
        "type": refused.code,
        "code": refused.code,
        "param": refused.param,
    }
    return json.dumps({"error": error}).encode()
