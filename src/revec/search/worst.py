"""What the shadow saw of two indexes, the least alike answers first.

Nobody's words are kept, only a salted hash: where a judged query asks the same, its words are known by it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from revec.model.judging import JudgedQuery
from revec.model.reading import Mode
from revec.postgres import documents, shadows
from revec.postgres.database import Database
from revec.search.sampling import Question
from revec.search.side_by_side import Pair
from revec.work import overview

SHOWN = 3  # documents of each side


@dataclass(frozen=True, slots=True)
class Document:
    id: str
    title: str


@dataclass(frozen=True, slots=True)
class Unlike:
    """One question that both indexes answered, each in its own way."""

    hash: str  # the first digits: enough to tell it from the others
    words: str | None  # None: nobody kept them
    tenant: str | None
    mode: Mode
    weight: int  # how often it was asked
    overlap: float  # at 10
    rbo: float
    only_old: Mapping[str, int]  # cause → documents
    only_new: Mapping[str, int]
    old: Sequence[Document]  # the best that are there still
    new: Sequence[Document]
    seen_at: datetime


async def worst(database: Database, pair: Pair, judged: Iterable[JudgedQuery], *, limit: int) -> list[Unlike]:
    """Questions that the shadow asked both, whichever of them serves; as somebody who may see all tenants."""
    turned = pair.route.serving == pair.new.id
    serving, candidate = (pair.new, pair.old) if turned else (pair.old, pair.new)
    async with database.transaction("worker") as conn:
        await overview.bound(conn)
        setting = await shadows.of(conn, pair.route.collection_id)
        of = shadows.Pair(pair.route.collection_id, serving.id, candidate.id)
        rows = await shadows.worst(conn, of, limit)
        arms = [
            [[each for each in arm if each][:SHOWN] for arm in row.documents or ((),) * 3] for row in rows
        ]
        wanted = {each for arm in arms for shown in arm[1:] for each in shown}
        there = await documents.hydrate(conn, sorted(wanted), None)
    known = await asyncio.to_thread(_hashes, judged, setting.salt) if setting else {}
    return [_unlike(row, arm, there, known, turned=turned) for row, arm in zip(rows, arms, strict=True)]


def _hashes(judged: Iterable[JudgedQuery], salt: str) -> dict[bytes, str]:
    return {
        Question(query.words, query.tenant, mode, None).hashed(salt): query.words
        for query in judged
        for mode in Mode
    }


def _unlike(
    row: Any,
    arms: Sequence[Sequence[int]],
    there: Mapping[int, Any],
    known: Mapping[bytes, str],
    *,
    turned: bool,
) -> Unlike:
    _, again, new = (
        [Document(there[each].key, there[each].title) for each in arm if each in there] for arm in arms
    )
    lost, gained = row.lost, row.gained
    if turned:  # the old one was the one beside
        again, new, lost, gained = new, again, gained, lost
    return Unlike(
        hash=row.query.hex()[:8],
        words=known.get(bytes(row.query)),
        tenant=row.tenant,
        mode=Mode(row.mode),
        weight=row.weight,
        overlap=row.overlap,
        rbo=row.rbo,
        only_old=lost,
        only_new=gained,
        old=again,
        new=new,
        seen_at=row.done_at,
    )
