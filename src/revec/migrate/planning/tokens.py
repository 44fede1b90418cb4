"""How many tokens the texts are: those of a sample by the model's own count, the others by their bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from revec.migrate.gates.base import Tools
from revec.migrate.planning.survey import Survey
from revec.model.chunking import LONGEST
from revec.model.document import rendered, text_hash
from revec.model.index import Collection
from revec.model.space import Space
from revec.postgres import documents
from revec.postgres.documents import Measure
from revec.postgres.queries import beside
from revec.providers.base import Provider
from revec.statistics.ratios import Ratio, ratio

SQL = beside(__file__)
SAMPLE = 400  # documents whose texts are read
LONGEST_READ, ALL_READ = 1 << 20, 16 << 20  # bytes: of one text, and of all, that are read for a plan


@dataclass(frozen=True, slots=True)
class Sampled:
    """How many of the sampled documents are longer than the model takes; 0 where it takes any."""

    documents: int
    longer: int
    max_tokens: int | None


@dataclass(frozen=True, slots=True)
class Tokens:
    """Of all texts that are still to be embedded; lower and upper of a 95% interval."""

    value: int
    lower: int
    upper: int
    texts: int  # a document's chunks, each
    rows: int  # of vectors: also of documents with the text of another one
    mean: float  # of a text
    a_document: float
    by: str  # how they were counted
    is_bound: bool  # no fewer than there are: the vocabulary is not public
    sampled: Sampled

    @property
    def told(self) -> str:
        if not self.texts:
            return "none: every vector is there to be copied" if self.rows else "none: there is no text yet"
        most = "at most " if self.is_bound else ""
        between = "" if self.lower == self.upper else f" (95%: {self.lower:,} to {self.upper:,})"
        return f"{most}{self.value:,}{between} of {self.texts:,} texts, {self.by}"

    @property
    def facts(self) -> dict[str, Any]:
        return {
            "tokens": self.value,
            "tokens_lower": self.lower,
            "tokens_upper": self.upper,
            "tokens_are_a_bound": self.is_bound,
            "tokens_by": self.by,
            "mean_tokens": round(self.mean, 1),
            "texts": self.texts,
            "rows": self.rows,
        }


@dataclass(frozen=True, slots=True)
class Read:
    """The sampled documents that have a text, each with its figure: in bytes, tokens and chunks."""

    bytes: list[int]
    tokens: list[int]
    chunks: list[int]
    known: float  # the share of their texts that have a vector in this space already


async def counted(
    tools: Tools, collection: Collection, provider: Provider, space: Space, seen: Survey, *, copies: bool
) -> Tokens:
    """`copies`: the index that serves is of this space."""
    traits = await provider.traits()
    async with tools.database.transaction() as conn:
        drawn = await documents.sampled(conn, collection.id, SAMPLE)
        contents = await documents.contents(conn, _readable(drawn))
        billed = await (await conn.execute(SQL.billed, {"model": provider.name})).fetchone()
    sampled, texts = await asyncio.to_thread(_rendered, drawn, contents, provider, space, traits.max_tokens)
    read = await _read(tools, space, drawn, texts)
    per_byte = ratio(read.bytes, read.tokens, seen.documents)
    chunks = ratio(read.bytes, read.chunks, seen.documents)
    lacking = 0.0 if copies else 1 - read.known
    by, factor, is_bound = _by(traits.exact, billed)
    whole, once = seen.total("bytes") if read.chunks else 0, seen.total("bytes_once")
    plain = all(each == 1 for each in read.chunks)
    full = seen.documents - seen.total("blank")
    rows = full if plain else round(whole * chunks.value)
    once_rows = full - seen.total("again") if plain else round(once * chunks.value)
    bytes_to_embed = once * lacking * factor
    return Tokens(
        *_scaled(per_byte, bytes_to_embed),
        texts=round(once_rows * lacking),
        rows=rows,
        mean=sum(read.tokens) / max(1, sum(read.chunks)),
        a_document=sum(read.tokens) / max(1, len(read.tokens)),
        by=f"{by}, from {len(read.bytes):,} sampled documents",
        is_bound=is_bound,
        sampled=sampled,
    )


def _readable(drawn: Mapping[int, Measure]) -> dict[int, Measure]:
    """As many as there is room for; what is left out is known by its bytes."""
    chosen: dict[int, Measure] = {}
    room = ALL_READ
    for doc_id, each in drawn.items():
        if each.size <= min(LONGEST_READ, room):
            chosen[doc_id] = each
            room -= each.size
    return chosen


def _scaled(found: Ratio, size: float) -> tuple[int, int, int]:
    upper = found.upper if found.n > 1 or found.upper == found.value else found.value
    return round(found.value * size), round(found.lower * size), round(upper * size)


def _by(exact: bool, billed: Any) -> tuple[str, float, bool]:  # noqa: FBT001 - one of three ways
    if exact:
        return "by the model's own tokenizer", 1.0, False
    if billed is not None and billed.share:
        return "by their bytes, as this model has billed them so far", float(billed.share), False
    return "by their bytes: its vocabulary is not public, and English has about a third", 1.0, True


def _rendered(
    drawn: Mapping[int, Measure],
    contents: Mapping[int, Any],
    provider: Provider,
    space: Space,
    most: int | None,
) -> tuple[Sampled, dict[int, tuple[list[str], list[int]]]]:
    """A document's texts and their tokens; and how many documents are longer than the model takes."""
    longer = (
        0 if most is None else sum(m.size > most * LONGEST for d, m in drawn.items() if d not in contents)
    )
    texts: dict[int, tuple[list[str], list[int]]] = {}
    for doc_id, content in contents.items():
        made = rendered(space, content.title, content.body, provider.count)
        texts[doc_id] = (made, provider.count(made))
        if most is not None and drawn[doc_id].size > most:
            (whole,) = provider.count([f"{content.title}\n{content.body}"])
            longer += whole > most
    return Sampled(len(drawn), longer, most), texts


async def _read(
    tools: Tools,
    space: Space,
    drawn: Mapping[int, Measure],
    texts: Mapping[int, tuple[Sequence[str], Sequence[int]]],
) -> Read:
    full = {doc_id: each for doc_id, each in texts.items() if each[0]}
    hashes = sorted({text_hash(text) for made, _ in full.values() for text in made})
    async with tools.database.transaction("worker") as conn:
        known = await tools.store.known(conn, space, hashes) if hashes else {}
    return Read(
        [drawn[doc_id].size for doc_id in full],
        [sum(counts) for _, counts in full.values()],
        [len(counts) for _, counts in full.values()],
        len(known) / len(hashes) if hashes else 0.0,
    )
