"""Every way to misbehave."""

from __future__ import annotations

import json
from binascii import b2a_base64
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tests.loopback.embedding import Matrix, of_digests
from tests.loopback.wire import Asked, Refused

LINK_LOCAL = "http://169.254.169.254/v1/embeddings"  # where clouds keep their machines' secrets
HUGE = 50 << 20  # bytes

# kind: status, code, words. Nothing is billed.
REFUSALS = {
    "400": (400, "invalid_request_error", "the input is not to our taste"),
    "401": (401, "invalid_api_key", "Incorrect API key provided: {key}"),
    "402": (402, "insufficient_quota", "no money left"),
    "403": (403, "permission_denied", "the key {key} may not do this"),
    "404": (404, "model_not_found", "the model does not exist or you do not have access to it"),
    "413": (413, "invalid_request_error", "too large"),
    "422": (422, "invalid_request_error", "cannot be processed"),
    "429": (429, "rate_limit_exceeded", "Rate limit reached"),
    "500": (500, "server_error", "The server had an error"),
    "502": (502, "server_error", "Bad gateway, said {key}"),
    "503": (503, "server_error", "The engine is overloaded"),
    "error200": (200, "server_error", "something went wrong with {key}"),
    "quota": (429, "insufficient_quota", "You exceeded your current quota"),
    "redirect": (307, "moved", "elsewhere"),
    "redirect-link-local": (307, "moved", "elsewhere"),
    "refuse": (400, "invalid_request_error", "the input is not to our taste"),
}
LOCATIONS = {"redirect": "/v1/embeddings", "redirect-link-local": LINK_LOCAL}


# The answer comes, or not, and is wrong in one way. Billed: the work was done.
ALTERATIONS = {
    "1e400",  # a number beyond float64
    "beyond",  # an index that no input has
    "close",  # hangs up in the middle
    "cut",  # JSON that ends in the middle
    "dims",  # one too few
    "drip",  # a byte now and then, over `delay` seconds
    "drift",  # other weights under the same name
    "fewer",  # one vector too few
    "floats",  # lists although base64 was asked for: harmless
    "hang",  # never answers
    "huge",  # 50 MB of spaces before the JSON
    "index0",  # index 0 for all
    "nan",
    "no-base64",  # refuses the parameter encoding_format; not billed
    "noindex",  # no index at all
    "norm",  # three times too long
    "null",  # in place of a number
    "permuted",  # in another order, with the right index: harmless
    "permuted-noindex",  # in another order, and nothing says which
    "slow",  # after `delay` seconds: later than the client waits, and billed
    "string",  # in place of base64
    "swapped",  # two vectors changed places: nothing in the answer shows it
    "zero",
}


ODD_NUMBERS = {"1e400", "null", "string"}  # written as JSON, whatever was asked for


@dataclass(slots=True)
class Fault:
    """Misbehave `times` times (None: always), where a text holds `match`, as `model` (None: any)."""

    kind: str
    times: int | None = 1
    match: str | None = None
    retry_after: str | None = None  # of a refusal
    delay: float = 5.0  # of `slow` and `drip`, in seconds
    words: str | None = None  # of a refusal, in place of ours
    model: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in REFUSALS.keys() | ALTERATIONS:
            raise Refused(400, "invalid_request_error", f"no fault is called {self.kind}")

    def strikes(self, texts: Sequence[str], model: str) -> bool:
        """Whether it is this request's turn; counts down."""
        if self.times == 0 or self.model not in (None, model):
            return False
        if not (self.match is None or any(self.match in t for t in texts)):
            return False
        if self.times is not None:
            self.times -= 1
        return True

    def refuse(self, asked: Asked) -> None:
        """
        Raises:
            Refused: if this is what the fault does.
        """
        if self.kind == "no-base64" and asked.base64:
            words = "unknown field encoding_format"
            raise Refused(400, "invalid_request_error", words, param="encoding_format")
        if self.kind not in REFUSALS:
            return
        status, code, words = REFUSALS[self.kind]
        more = {"Location": LOCATIONS[self.kind]} if self.kind in LOCATIONS else {}
        if self.retry_after is not None:
            more["Retry-After"] = self.retry_after
        raise Refused(status, code, self.words or words.format(key=asked.key), **more)


def answered(asked: Asked, fault: Fault | None) -> tuple[list[bytes], list[int | None]]:
    """Each vector as it stands in the JSON, and the indexes beside them."""
    kind = fault.kind if fault else ""
    model = f"{asked.model}~drifted" if kind == "drift" else asked.model
    matrix = of_digests(asked.digests, model, asked.dims)
    if asked.norm != 1:
        matrix *= np.float32(asked.norm)
    match = fault.match if fault else None
    struck = [at for at, text in enumerate(asked.texts) if match and match in text] or [0]
    matrix = spoilt(matrix, kind, struck)
    if kind.startswith("permuted"):
        matrix = matrix[::-1]
    as_base64 = asked.base64 and kind != "floats"
    if as_base64 and kind not in ODD_NUMBERS:
        rows = encoded(matrix)
    else:
        rows = [written(row, kind) for row in matrix]
    return rows, indexes(kind, len(matrix))


def indexes(kind: str, many: int) -> list[int | None]:
    if kind.endswith("noindex"):
        return [None] * many
    if kind == "index0":
        return [0] * many
    if kind == "beyond":
        return [many, *range(1, many)]
    return [*(reversed(range(many)) if kind == "permuted" else range(many))]


def spoilt(matrix: Matrix, kind: str, struck: list[int]) -> Matrix:
    if kind == "nan":
        matrix[struck] = np.nan
    elif kind == "zero":
        matrix[struck] = 0
    elif kind == "norm":
        matrix[struck] *= 3
    elif kind == "swapped":  # the index looks right: only a second opinion finds it
        others = [(at + 1) % len(matrix) for at in struck]
        matrix[struck + others] = matrix[others + struck]
    elif kind == "dims":
        matrix = matrix[:, :-1]
    elif kind == "fewer":
        matrix = matrix[:-1]
    return matrix


def encoded(matrix: Matrix) -> list[bytes]:
    """Base64 of each row; all at once where no row ends within a group of three bytes."""
    size = matrix.shape[1] * 4
    data = matrix.astype("<f4", copy=False).tobytes()
    if size % 3:
        return [b'"%s"' % b2a_base64(data[at : at + size], newline=False) for at in range(0, len(data), size)]
    chars, width = b2a_base64(data, newline=False), size // 3 * 4
    return [b'"%s"' % chars[at : at + width] for at in range(0, len(chars), width)]


def written(row: Matrix, kind: str) -> bytes:
    """As JSON."""
    if kind == "null":
        return json.dumps([None, *row.tolist()[1:]]).encode()
    if kind == "1e400":
        return f"[1e400,{','.join(map(str, row.tolist()[1:]))}]".encode()
    if kind == "string":
        return b'"not base64!"'
    return json.dumps(row.tolist()).encode()
