"""From measured documents to texts, and to the packs of those that are still to be paid for."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from revec.model.chunking import Count, chunking
from revec.model.document import Content, is_shortened, rendered, text_hash
from revec.model.space import Space
from revec.postgres.documents import Measure
from revec.stores.base import ChunkSet, Vector
from revec.work.memory import Memory, cost, shown
from revec.work.packing import Load, packed
from revec.work.queue import Claim, Job


@dataclass(frozen=True, slots=True)
class Piece:
    """A claimed document and the texts that the space makes of it, or some of them."""

    job: Job
    content: Content  # without its text, which is in `texts` by now
    texts: list[str]
    hashes: list[bytes]
    loads: list[Load]
    truncated: bool = False

    @property
    def tokens(self) -> int:
        return sum(load.tokens for load in self.loads)

    def lacks(self, vectors: Container[bytes]) -> bool:
        return any(text_hash not in vectors for text_hash in self.hashes)

    def chunk_set(self, vectors: Mapping[bytes, Vector]) -> ChunkSet:
        return ChunkSet(
            doc_id=self.job.doc_id,
            tenant=self.content.tenant,
            input_hash=self.content.input_hash,
            text_hashes=self.hashes,
            vectors=[vectors[text_hash] for text_hash in self.hashes],
        )

    def part(self, places: Sequence[int]) -> Piece:
        """The texts at these places."""
        return replace(
            self,
            texts=[self.texts[at] for at in places],
            hashes=[self.hashes[at] for at in places],
            loads=[self.loads[at] for at in places],
        )


@dataclass(frozen=True, slots=True)
class Reader:
    """Makes texts of documents, by a space's recipe and its model's count."""

    space: Space
    count: Count
    max_tokens: int | None  # that the model takes

    def pieces(self, claim: Claim, contents: dict[int, Content]) -> list[Piece]:
        """In the order of ids. Takes the contents: each is let go of when its texts are made."""
        jobs = {job.doc_id: job for job in claim.jobs}
        return [self._piece(jobs[doc_id], contents.pop(doc_id)) for doc_id in sorted(contents)]

    def _piece(self, job: Job, content: Content) -> Piece:
        texts = rendered(self.space, content.title, content.body, self.count)
        counts = self.count(texts)
        return Piece(
            job=job,
            content=replace(content, title="", body=""),
            texts=texts,
            hashes=[text_hash(text) for text in texts],
            loads=[Load(1, n, len(text.encode())) for n, text in zip(counts, texts, strict=True)],
            truncated=self._is_truncated(content, texts, counts),
        )

    def _is_truncated(self, content: Content, texts: list[str], counts: list[int]) -> bool:
        """By us, or by the model if it does not refuse the text."""
        by_model = self.max_tokens is not None and max(counts, default=0) > self.max_tokens
        return by_model or (
            chunking(self.space.chunking) is None and is_shortened(self.space, content, texts)
        )


def packs_of(pieces: Sequence[Piece], paid: Container[bytes], limits: Load) -> Iterator[list[Piece]]:
    """The texts of the pieces that are not paid for: whole documents, or parts of a very long one.

    Each piece lacks at least one.
    """
    lacking = [[at for at, text in enumerate(piece.hashes) if text not in paid] for piece in pieces]
    loads = [[piece.loads[at] for at in places] for piece, places in zip(pieces, lacking, strict=True)]
    for pack in packed(loads, limits):
        yield [pieces[part.document].part(lacking[part.document][part.start : part.stop]) for part in pack]


def costs_of(
    sized: Mapping[int, Measure], space: Space, memory: Memory
) -> tuple[dict[int, int], dict[int, Measure]]:
    """Bytes of memory that each document will take, in the order of ids; those that memory is not for."""
    made = chunking(space.chunking)
    window = made.tokens - made.overlap if made else None
    costs = {doc_id: cost(sized[doc_id].size, space.dims, window) for doc_id in sorted(sized)}
    longest = {d: each for d, each in sized.items() if memory.refuses(each.size, costs[d])}
    return {doc_id: costs[doc_id] for doc_id in costs if doc_id not in longest}, longest


def too_long(measure: Measure, memory: Memory) -> str:
    return (
        f"text of {shown(measure.size)} is more than this worker's memory is for ({shown(memory.ceiling)} in "
        f"all, {shown(memory.most)} for texts and vectors, {shown(memory.largest_text)} for one text): "
        "split the document, or give a worker more by --memory and run `revec queue retry`"
    )
