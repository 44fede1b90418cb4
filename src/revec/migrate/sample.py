"""A part of a collection, drawn for a comparison of two models, and the vectors that it takes.

What is paid for here is kept as paid for, for a day: a migration that begins by then pays for the rest alone.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from revec.migrate.gates.base import Tools
from revec.model.document import rendered, text_hash
from revec.model.index import Collection
from revec.model.judging import Doc, JudgedQuery
from revec.model.space import Space
from revec.postgres import documents, judgements
from revec.postgres.documents import Measure
from revec.providers.base import Provider
from revec.stores.base import Vector, half
from revec.work import queue
from revec.work.calls import PROOF, Caller
from revec.work.packing import Load, limits, packed

PART = 0.03  # of the bytes that a migration would embed, and so of its bill
FOR_JUDGED = 2 / 3  # of that part; the rest is documents spread over all
ENOUGH = 3  # judged documents of a query, the good ones first: more queries tell more than more documents
MEASURED = 1_000  # documents that say how long one is
PAYING = 600.0  # seconds for which nobody else pays for these texts


@dataclass(frozen=True, slots=True)
class Sample:
    """What both models are compared on."""

    queries: list[JudgedQuery]  # with the grades of documents of the sample alone
    docs: dict[int, Doc]  # doc_id → what judgements call it, or a name of ours where nobody judged it
    judged: set[int]  # those that somebody did
    share: float  # of the bytes of the whole collection, queries included


async def drawn(tools: Tools, collection: Collection, queries: Sequence[JudgedQuery]) -> Sample:
    """Queries in random order with their documents, then some of all documents: what the part pays for."""
    async with tools.database.transaction("worker") as conn:
        some = await documents.sampled(conn, collection.id, MEASURED)
        total = await documents.count(conn, collection.id)
        ids = await judgements.documents_of(
            conn, collection.id, {doc for each in queries for doc in each.grades}
        )
        sized = await documents.measured(conn, list(ids.values()))
        # Evenly over the ids, not at random: asked again, the same documents are paid for already.
        spread = await documents.sampled(conn, collection.id, int(total * PART) + 1)
        sized |= spread
    whole = max(1.0, total * sum(each.size for each in some.values()) / max(1, len(some)))
    spent = 0.0
    docs: dict[int, Doc] = {}
    taken: list[JudgedQuery] = []
    rng = random.Random(0)  # noqa: S311 - the same judgements, the same sample
    for each in rng.sample(list(queries), len(queries)):
        wanted = {ids[doc]: doc for doc in _best(each, rng) if doc in ids}
        bill = len(each.words.encode()) + _bytes(wanted.keys() - docs.keys(), sized)
        good = any(each.grades[doc] > 0 for doc in wanted.values())
        if good and spent + bill <= FOR_JUDGED * PART * whole:
            spent += bill
            docs |= wanted
            taken.append(each)
    names = {doc_id: doc for doc, doc_id in ids.items()}
    for doc_id in rng.sample(sorted(spread), len(spread)):
        bill = _bytes({doc_id} - docs.keys(), sized)
        if spent + bill <= PART * whole:
            spent += bill
            docs[doc_id] = names.get(doc_id, ("", str(doc_id)))
    present = set(docs.values())
    return Sample([_within(each, present) for each in taken], docs, names.keys() & docs.keys(), spent / whole)


def _best(query: JudgedQuery, rng: random.Random) -> list[Doc]:
    """A few of its judged documents, the good ones first."""
    docs = sorted(query.grades)
    rng.shuffle(docs)
    return sorted(docs, key=lambda doc: query.grades[doc] <= 0)[:ENOUGH]


def _within(query: JudgedQuery, present: set[Doc]) -> JudgedQuery:
    return replace(query, grades={doc: grade for doc, grade in query.grades.items() if doc in present})


def _bytes(doc_ids: set[int], sized: Mapping[int, Measure]) -> int:
    return sum(sized[doc_id].size for doc_id in doc_ids if doc_id in sized)


async def embedded(
    tools: Tools, provider: Provider, space: Space, doc_ids: Sequence[int]
) -> tuple[dict[int, list[Vector]], int]:
    """Each document's vectors in the new space, and the tokens that were paid for now.

    Who was asked before says what is known; what is paid for here is kept, whatever becomes of the rest.
    """
    async with tools.database.transaction("worker") as conn:
        contents = await documents.contents(conn, await documents.measured(conn, doc_ids))
    texts = {
        doc_id: await asyncio.to_thread(rendered, space, content.title, content.body, provider.count)
        for doc_id, content in contents.items()
    }
    hashes = {doc_id: [text_hash(text) for text in made] for doc_id, made in texts.items()}
    by_hash = {text_hash(text): text for made in texts.values() for text in made}
    async with tools.database.transaction("worker") as conn:
        known = await tools.store.known(conn, space, sorted(by_hash))
        payment = await queue.lease_payment(conn, space.id, sorted(by_hash.keys() - known.keys()), PAYING)
    known |= payment.vectors
    ours = {hashed: by_hash[hashed] for hashed in payment.mine}
    tokens = 0
    try:
        for pack in await _packs(provider, ours):
            answer = await Caller(tools.database).embed(
                provider, [ours[hashed] for hashed in pack], index_id=None, lane=PROOF
            )
            paid = dict(zip(pack, half(answer.matrix), strict=True))
            tokens += (
                answer.tokens if answer.tokens is not None else sum(provider.count([ours[h] for h in pack]))
            )
            known |= paid
            async with tools.database.transaction("worker") as conn:
                await queue.close_payment(conn, space.id, payment.token, [], paid)
    finally:
        async with tools.database.transaction("worker") as conn:
            left = sorted(ours.keys() - known.keys())
            await queue.close_payment(conn, space.id, payment.token, left, {})
    whole = {
        doc_id: [known[hashed] for hashed in of_doc]
        for doc_id, of_doc in hashes.items()
        if all(hashed in known for hashed in of_doc)  # somebody else may be paying for one
    }
    return whole, tokens


async def _packs(provider: Provider, texts: Mapping[bytes, str]) -> list[list[bytes]]:
    hashes = list(texts)
    counts = await asyncio.to_thread(provider.count, list(texts.values()))
    loads = [[Load(1, count, len(text.encode()))] for count, text in zip(counts, texts.values(), strict=True)]
    most = limits(await provider.traits())
    return [[hashes[part.document] for part in pack] for pack in packed(loads, most)]
