"""A document, and the texts that a space makes of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from revec.model.space import Space

DEFAULT_TENANT = "default"


@dataclass(frozen=True, slots=True)
class Draft:
    """A document as its source has it: what a projector or an ingest hands in."""

    key: str
    title: str = ""
    body: str = ""
    tenant: str = DEFAULT_TENANT
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Content:
    """A stored document's text, as a worker claims it."""

    doc_id: int
    tenant: str
    title: str
    body: str
    input_hash: bytes


def rendered(space: Space, title: str, body: str) -> list[str]:
    """The chunks that the space's recipe makes: none for an empty document, one for now."""
    text = f"{title}\n{body}".strip()
    return [space.prefix + text] if text else []


def text_hash(text: str) -> bytes:
    """SHA-256 of a rendered chunk: equal hash in one space, equal vector."""
    return sha256(text.encode()).digest()


def unstorable(text: str) -> str | None:
    """Why the database cannot hold the text, or None where it can."""
    if "\x00" in text:
        return "contains a NUL byte (U+0000), which Postgres cannot store: remove it"
    try:
        text.encode()
    except UnicodeEncodeError as error:
        lone = ord(text[error.start])
        return f"contains a lone surrogate (U+{lone:04X}), which is not a character: replace it"
    return None
