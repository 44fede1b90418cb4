"""What a pushed document has to look like, before anything is asked of a database."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

from revec.model.document import DEFAULT_TENANT, Draft, unstorable
from revec.model.errors import BadInput

MOST_KEY, MOST_KEY_BYTES = 1_000, 2_600  # a key is indexed: an entry of an index has 2,704 bytes
MOST_LINE = 16 << 20  # bytes
MOST_DEPTH = 100  # of metadata: both Python and Postgres parse by recursion
FIELDS = {"id", "title", "text", "tenant", "metadata"}


def draft(line: bytes) -> Draft:
    """The document of one line: `{"id", "title"?, "text", "tenant"?, "metadata"?}`.

    Raises:
        BadInput: the reason, to be shown beside the line's number.
    """
    if len(line) > MOST_LINE:
        raise BadInput(f"is longer than {MOST_LINE >> 20} MB: split the document")
    try:
        value = json.loads(line.decode())
    except UnicodeDecodeError as error:
        raise BadInput(f"is not UTF-8 (byte {error.start})") from error
    except (ValueError, RecursionError) as error:
        raise BadInput(f"is not JSON: {error}") from error
    return drafted(value)


def drafted(value: Any) -> Draft:
    """The document of one object, like `draft`.

    Raises:
        BadInput: the reason, to be shown beside its place.
    """
    if not isinstance(value, dict):
        raise BadInput('is not an object like {"id": "1", "text": "…"}')
    if unknown := sorted(set(value) - FIELDS):
        raise BadInput(f"has a field {unknown[0]!r}: put what is yours into metadata")
    made = Draft(
        key=_key(value),
        title=_text(value, "title", ""),
        body=_text(value, "text", None),
        tenant=_text(value, "tenant", DEFAULT_TENANT),
        metadata=_metadata(value),
    )
    if not made.tenant:
        raise BadInput("has an empty tenant: leave it out for the default one")
    for name, text in (
        ("id", made.key),
        ("tenant", made.tenant),
        ("title", made.title),
        ("text", made.body),
    ):
        if why := unstorable(text):
            raise BadInput(f"{name} {why}")
    return made


def all_drafted(values: Iterable[Any]) -> list[Draft]:
    """All of them, or none.

    Raises:
        BadInput: the first that cannot be kept, by its place.
    """
    drafts = []
    for number, value in enumerate(values):
        try:
            drafts.append(drafted(value))
        except BadInput as error:
            raise BadInput(f"document {number} {error}; nothing was written") from None
    return drafts


def _key(value: dict[str, Any]) -> str:
    key = value.get("id")
    if isinstance(key, int) and not isinstance(key, bool):
        key = str(key)
    if not isinstance(key, str) or not key:
        raise BadInput("needs an id, text or a whole number")
    if len(key) > MOST_KEY:
        raise BadInput(f"has an id of {len(key):,} characters, {MOST_KEY:,} are the most")
    size = len(key.encode(errors="surrogatepass"))
    if size > MOST_KEY_BYTES:
        raise BadInput(f"has an id of {size:,} bytes, {MOST_KEY_BYTES:,} are the most")
    return key


def _text(value: dict[str, Any], name: str, default: str | None) -> str:
    text = value.get(name, default)
    if not isinstance(text, str):
        raise BadInput(f"needs {name} as text" if text is None else f"{name} is no text")
    return text


def _metadata(value: dict[str, Any]) -> dict[str, Any]:
    metadata = value.get("metadata", {})
    if not isinstance(metadata, dict):
        raise BadInput("metadata is no object")
    if why := _unfit(metadata):
        raise BadInput(f"metadata {why}")
    return metadata


def _unfit(metadata: dict[str, Any]) -> str | None:
    """Why JSON or Postgres cannot hold it, or None; not by recursion, the depth is the sender's choice."""
    todo: list[tuple[Any, int]] = [(metadata, 0)]
    while todo:
        value, depth = todo.pop()
        if depth > MOST_DEPTH:
            return f"is nested deeper than {MOST_DEPTH} levels"
        if isinstance(value, float) and not math.isfinite(value):
            return "holds NaN or infinity, which JSON has not"
        if isinstance(value, str) and (why := unstorable(value)):
            return why
        if isinstance(value, dict):
            todo += [(each, depth + 1) for pair in value.items() for each in pair]
        elif isinstance(value, list):
            todo += [(each, depth + 1) for each in value]
    return None
