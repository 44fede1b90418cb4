"""Documents that are pushed: lines of JSON, the good ones taken, the bad ones named."""

from __future__ import annotations

import codecs
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

from revec.capture import drafts
from revec.model.document import Draft
from revec.model.errors import BadInput
from revec.model.index import Collection
from revec.postgres import collections, documents
from revec.postgres.database import Database

BATCH, BATCH_SIZE = 500, 4 << 20  # documents, characters
MARK = codecs.BOM_UTF8  # what Windows writes before the first line


@dataclass(slots=True)
class Ingested:
    taken: int = 0
    refused: list[tuple[int, str]] = field(default_factory=list)  # line number, reason


def bounded(file: BinaryIO) -> Iterator[bytes]:
    """The file's lines; of one that is too long no more than shows that it is."""
    while line := file.readline(drafts.MOST_LINE + 1):
        yield line
        while len(line) > drafts.MOST_LINE and not line.endswith(b"\n"):
            line = file.readline(drafts.MOST_LINE + 1)


async def ingest(
    database: Database,
    collection: Collection,
    lines: Iterable[bytes],
    *,
    then: Callable[[Mapping[str, int]], Awaitable[None]] | None = None,
) -> Ingested:
    """Push lines into the collection, a batch a transaction; safe to run twice.

    `then`: what is done with each batch after its commit, by its documents' ids.
    """
    result = Ingested()
    async with database.transaction() as conn:
        source_id = await collections.add_source(conn, collection, collections.PUSH)
    for batch in _batches(_drafts(lines, result)):
        async with database.transaction() as conn:
            await documents.lock_source(conn, source_id)
            await documents.put(conn, source_id, batch)
            ids = await documents.ids_of(conn, source_id, [draft.key for draft in batch]) if then else {}
        result.taken += len(batch)
        if then:
            await then(ids)
    return result


def _drafts(lines: Iterable[bytes], result: Ingested) -> Iterator[Draft]:
    for number, line in enumerate(lines, start=1):
        text = line.removeprefix(MARK) if number == 1 else line
        if not text.strip():
            continue
        try:
            yield drafts.draft(text)
        except BadInput as error:
            result.refused.append((number, str(error)))


def _batches(made: Iterator[Draft]) -> Iterator[list[Draft]]:
    """By count and by size: long texts travel in small company."""
    batch: list[Draft] = []
    size = 0
    for each in made:
        batch.append(each)
        size += len(each.body)
        if len(batch) == BATCH or size > BATCH_SIZE:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
