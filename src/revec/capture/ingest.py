"""Documents that are pushed: lines of JSON, the good ones taken, the bad ones named."""

from __future__ import annotations

import codecs
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from revec.model.document import DEFAULT_TENANT, Draft, unstorable
from revec.model.errors import BadInput
from revec.model.index import Collection
from revec.postgres import collections, documents
from revec.postgres.database import Database

BATCH, BATCH_SIZE = 500, 4 << 20  # documents, characters
MOST_KEY, MOST_KEY_BYTES = 1_000, 2_600  # a key is indexed: an entry of an index has 2,704 bytes
MOST_LINE = 16 << 20  # bytes
MOST_DEPTH = 100  # of metadata: both Python and Postgres parse by recursion
MARK = codecs.BOM_UTF8  # what Windows writes before the first line
FIELDS = {"id", "title", "text", "tenant", "metadata"}


@dataclass(slots=True)
class Ingested:
    taken: int = 0
    refused: list[tuple[int, str]] = field(default_factory=list)  # line number, reason


def bounded(file: BinaryIO) -> Iterator[bytes]:
    """The file's lines; of one that is too long no more than shows that it is."""
    while line := file.readline(MOST_LINE + 1):
        yield line
        while len(line) > MOST_LINE and not line.endswith(b"\n"):
            line = file.readline(MOST_LINE + 1)


async def ingest(database: Database, collection: Collection, lines: Iterable[bytes]) -> Ingested:
    """Push lines into the collection, a batch a transaction; safe to run twice."""
    result = Ingested()
    async with database.transaction() as conn:
        source_id = await collections.add_source(conn, collection, collections.PUSH)
    for batch in _batches(_drafts(lines, result)):
        async with database.transaction() as conn:
            await documents.lock_source(conn, source_id)
            await documents.put(conn, source_id, batch)
        result.taken += len(batch)
    return result


def _drafts(lines: Iterable[bytes], result: Ingested) -> Iterator[Draft]:
    for number, line in enumerate(lines, start=1):
        text = line.removeprefix(MARK) if number == 1 else line
        if not text.strip():
            continue
        try:
            yield draft(text)
        except BadInput as error:
            result.refused.append((number, str(error)))


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


def _batches(drafts: Iterator[Draft]) -> Iterator[list[Draft]]:
    """By count and by size: long texts travel in small company."""
    batch: list[Draft] = []
    size = 0
    for each in drafts:
        batch.append(each)
        size += len(each.body)
        if len(batch) == BATCH or size > BATCH_SIZE:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
