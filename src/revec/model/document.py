"""A document, and the texts that a space makes of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from revec.model.chunking import Count, chunking, cut, fits, truncation, windows
from revec.model.space import Space

DEFAULT_TENANT = "default"
LARGEST_HEAD = 1 / 4  # of a chunk


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


def rendered(space: Space, title: str, body: str, count: Count) -> list[str]:
    """The chunks that the space's recipe makes: none for an empty document.

    The title stands before every chunk, so that it can be understood alone; one that would take
    too much of each is text like the rest.
    """
    text = f"{title}\n{body}".strip()
    if not text:
        return []
    made, most = chunking(space.chunking), truncation(space.truncation)
    if made is None:
        text = text if most is None else cut(text, most, count, head=space.prefix)
        return [space.prefix + text]
    if fits(space.prefix + text, made.tokens, count):
        return [space.prefix + text]
    head = space.prefix
    if title.strip() and body.strip():
        titled = f"{space.prefix}{title.strip()}\n"
        if fits(titled, int(made.tokens * LARGEST_HEAD), count):
            head, text = titled, body.strip()
    chunks = (text[start:end].strip() for start, end in windows(text, made, count, head=head))
    return [head + chunk for chunk in chunks if chunk]


def is_shortened(space: Space, content: Content, texts: list[str]) -> bool:
    """Whether the one text that was made of the document lacks its end."""
    whole = f"{content.title}\n{content.body}".strip()
    return any(len(text) < len(space.prefix) + len(whole) for text in texts)


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
