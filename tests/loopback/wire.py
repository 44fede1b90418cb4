"""What every wire has: a request is read, an answer or a refusal is written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Protocol

from tests.loopback.embedding import REAL, dims_of


@dataclass(slots=True)
class Asked:
    """What a request wants."""

    model: str
    texts: list[str]
    dims: int
    base64: bool = False
    task: str | None = None  # in the provider's own words
    norm: float = 1.0  # of each vector
    number: int = 0
    key: str = ""  # as it was sent
    digests: bytes = b""
    tokens: int = 0

    def __post_init__(self) -> None:
        self.digests = b"".join(hashlib.sha256(text.encode()).digest() for text in self.texts)
        self.tokens = count(self.model, self.texts)


@dataclass(slots=True)
class Reply:
    """What goes back. `cut`: hang up after half of it. `over`: take so many seconds."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False
    over: float = 0.0


class Refused(Exception):
    """Why there is no answer; each wire has its own words for the code."""

    def __init__(
        self, status: int, code: str, words: str, *, param: str | None = None, **headers: str
    ) -> None:
        super().__init__(words)
        self.status, self.code, self.words, self.param, self.headers = status, code, words, param, headers


class Wire(Protocol):
    """A module of this package."""

    def matches(self, path: str) -> bool: ...
    def key(self, headers: Mapping[str, str]) -> str: ...
    def read(self, path: str, body: dict[str, Any]) -> Asked: ...
    def write(self, asked: Asked, rows: list[bytes], indexes: Sequence[int | None]) -> bytes: ...
    def refusal(self, refused: Refused) -> bytes: ...


def dims_asked(model: str, wanted: int | None) -> int:
    """The model's own dims, or fewer.

    Raises:
        Refused: no such model, or it cannot have so many.
    """
    try:
        dims = dims_of(model)
    except ValueError:
        raise Refused(404, "model_not_found", f"The model `{model}` does not exist") from None
    if wanted is not None and model.startswith("fixed-"):
        raise Refused(400, "invalid_request_error", "This model does not support specifying dimensions.")
    if wanted is not None and not 0 < wanted <= dims:
        words = f"Invalid value for 'dimensions': at most {dims}"
        raise Refused(400, "invalid_request_error", words, param="dimensions")
    return wanted or dims


def texts_within(texts: list[str], most: int) -> list[str]:
    if not texts or not all(texts) or len(texts) > most:
        raise Refused(400, "invalid_request_error", "'$.input' is invalid", param="input")
    return texts


def bearer(headers: Mapping[str, str]) -> str:
    return headers.get("authorization", "").removeprefix("Bearer ")


@cache
def vocabulary() -> Any:
    """By the public door of `bpe-openai`, which reads its tables anew each time."""
    from bpe_openai import get_encoding

    return get_encoding("cl100k_base")


def count(model: str, texts: Sequence[str]) -> int:
    """Exactly where the model is a real one with a public tokenizer; else a quarter of the letters."""
    if model in REAL and model.startswith("text-embedding"):
        encoding = vocabulary()
        return sum(len(encoding.encode_ordinary(text)) for text in texts)
    return sum(len(text) // 4 + 1 for text in texts)


def quoted(words: str | None) -> bytes:
    return json.dumps(words).encode()
