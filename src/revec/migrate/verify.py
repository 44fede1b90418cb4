"""Verify: is the index complete at a horizon, and are its vectors what its model says today?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from psycopg import sql

from revec.model.document import rendered, text_hash
from revec.model.errors import AnswerInvalid, ProviderError
from revec.model.index import Index
from revec.model.verdict import Outcome, Verdict
from revec.postgres import documents, indexes
from revec.postgres.database import Connection, Database
from revec.postgres.documents import Measure
from revec.postgres.queries import beside
from revec.providers.base import Provider, TextInput, Vectors
from revec.search.statistics import binomial_lower_bound, rule_of_three
from revec.stores.base import Store, Vector
from revec.work.calls import PROOF, Caller

SQL = beside(__file__)

CHUNK = 10_000  # documents a transaction: no long snapshot
LAST_ID = 2**63 - 1
SAME_COSINE = 0.999
ALIKE = 10  # different texts with one vector: from here on more than half of them is no coincidence
RECALL_QUERIES, RECALL_AT, RECALL_NEEDED = 300, 10, 0.97
TIE = 1e-6  # scores this close are one rank

GROUP, GROUP_BYTES = 64, 4 << 20  # texts that are embedded again together

COMPLETENESS, FIDELITY, RECALL = "completeness", "fidelity", "recall"

Row = tuple[int, bytes, Vector]  # (document, text hash, vector) as a store samples it

# Fixed words in several scripts and registers: a model that changed answers some of them otherwise.
SENTINELS = (
    "The quick brown fox jumps over the lazy dog.",
    "invoice 4711 is overdue since March",
    "How do I reset my password?",
    "supersonic flow over a slender wing",
    "SELECT name FROM users WHERE id = 42;",
    "Der Vertrag endet am 31. Dezember.",
    "東京は日本の首都です。",
    "refund for a cancelled flight to Lisbon",
    "melting point of gallium in kelvin",
    "¿Dónde está la estación de tren más cercana?",
    "a handwritten serif typeface with high contrast",
    "0.1 + 0.2 is not 0.3 in floating point",
    "symptoms of iron deficiency in adults",
    "merge two sorted lists without recursion",
    "Привет, как дела?",
    "blue",
)


@dataclass(slots=True)
class Tally:
    """What a completeness check counted, each document once."""

    documents: int = 0
    missing: int = 0
    stale: int = 0
    orphan: int = 0
    excluded: int = 0
    dead: int = 0
    pending: int = 0  # on its way, younger than the freshness goal
    late: int = 0  # on its way, but older
    malformed: int = 0  # vectors that are zero or of the wrong length
    foreign: int = 0  # whole sets under another tenant


async def completeness(database: Database, index: Index, *, freshness: float, chunk: int = CHUNK) -> Verdict:
    """Every document with a revision up to now is in the index, or accounted for."""
    tally = Tally()
    async with database.transaction("worker") as conn:
        horizon = await documents.last_rev(conn)
    asked = {
        "index": index.id,
        "collection": index.collection_id,
        "horizon": horizon,
        "freshness": freshness,
        "unit": index.space.normalise,
        "size": chunk,
    }
    after = 0
    while after < LAST_ID:
        after = await _count_chunk(database, index, tally, asked | {"after": after})
    evidence = asdict(tally) | {"horizon": horizon}
    async with database.transaction("worker") as conn:
        why = await unread(conn, index.collection_id)
    if why and _completeness(tally)[0] is Outcome.PASSED:
        return Verdict(COMPLETENESS, Outcome.INCONCLUSIVE, why, evidence)
    return Verdict(COMPLETENESS, *_completeness(tally), evidence)


async def unread(conn: Connection, collection_id: int) -> str | None:
    """Why not all rows of the sources are documents, or None."""
    row = await (await conn.execute(SQL.unread, {"collection": collection_id})).fetchone()
    return None if row is None else str(row.why)


async def _count_chunk(database: Database, index: Index, tally: Tally, asked: dict[str, Any]) -> int:
    """Count the next documents into the tally; the last id that was looked at."""
    vectors = sql.Identifier("revec", f"vectors_{index.id}")
    async with database.transaction("worker") as conn:
        end = await (await conn.execute(SQL.end_of_chunk, asked)).fetchone()
        assert end is not None
        upto = end.upto if end.documents == asked["size"] else LAST_ID
        # What a store elsewhere was handed was whole and of its length, or it would not have been.
        for query in (SQL.completeness, SQL.orphans, *([SQL.malformed] if index.place.is_here else [])):
            counted = await conn.execute(query.format(vectors=vectors), asked | {"upto": upto})
            row = await counted.fetchone()
            assert row is not None
            for name, count in row._asdict().items():
                setattr(tally, name, getattr(tally, name) + count)
    return int(upto)


def _completeness(tally: Tally) -> tuple[Outcome, str]:
    wrong = {
        name: getattr(tally, name)
        for name in ("missing", "stale", "orphan", "foreign", "malformed")
        if getattr(tally, name)
    }
    if wrong:
        counted = ", ".join(f"{count:,} {name}" for name, count in wrong.items())
        return Outcome.FAILED, f"of {tally.documents:,} documents: {counted}"
    if tally.dead:
        return Outcome.INCONCLUSIVE, (
            f"{tally.dead:,} dead letters: `revec queue list` shows why, "
            "`revec queue retry` or `revec queue accept --reason …` settles them"
        )
    if tally.late:
        return Outcome.INCONCLUSIVE, f"{tally.late:,} documents wait longer than the freshness goal"
    return Outcome.PASSED, (
        f"all {tally.documents:,} documents, {tally.excluded:,} of them excluded, "
        f"{tally.pending:,} written just now"
    )


async def fidelity(
    database: Database, store: Store, provider: Provider, index: Index, *, sample: int
) -> Verdict:
    """A random sample embedded again is what is stored; the sentinel texts are what they were."""
    try:
        drift = await sentinel_drift(database, provider, index)
        if drift:
            return Verdict(FIDELITY, Outcome.FAILED, drift)
        cosines, duplicates, different = await _sampled(database, store, provider, index, sample)
    except AnswerInvalid as error:
        return Verdict(FIDELITY, Outcome.FAILED, str(error))
    except ProviderError as error:
        return Verdict(FIDELITY, Outcome.INCONCLUSIVE, str(error))
    return _fidelity(cosines, duplicates, different)


def _fidelity(cosines: list[float], duplicates: int, different: int) -> Verdict:
    bad = sum(each < SAME_COSINE for each in cosines)
    evidence = {
        "sample": len(cosines),
        "bad": bad,
        "worst_cosine": round(min(cosines), 6) if cosines else None,
        "duplicates": duplicates,
        "bad_rate_below": round(rule_of_three(len(cosines)), 4) if not bad else None,
    }
    # Some models cannot tell some texts apart (case, word order, a tail that is cut off): no fault.
    alike = duplicates >= ALIKE and 2 * duplicates > different
    if bad or alike:
        why = f"{bad} of {len(cosines)} differ from a fresh embedding, {duplicates} share a vector"
        return Verdict(FIDELITY, Outcome.FAILED, why, evidence)
    if different and not cosines:
        why = "no sampled vector is of its document's present text: nothing could be compared"
        return Verdict(FIDELITY, Outcome.INCONCLUSIVE, why, evidence)
    if not cosines:
        return Verdict(FIDELITY, Outcome.PASSED, "nothing is stored", evidence)
    bound = rule_of_three(len(cosines))
    rest = f"so fewer than {100 * bound:.1f}% do" if bound < 1 else "too few to say more"
    return Verdict(FIDELITY, Outcome.PASSED, f"0 of {len(cosines)} differ, {rest}", evidence)


async def _sampled(
    database: Database, store: Store, provider: Provider, index: Index, size: int
) -> tuple[list[float], int, int]:
    """Cosines of stored and fresh vectors; of how many different texts one has another's vector."""
    rows = await store.sample(database, index, size)
    async with database.transaction("worker") as conn:
        sized = await documents.measured(conn, {doc_id for doc_id, *_ in rows})
    cosines: list[float] = []
    for some in _in_groups(rows, sized):
        cosines += await _again(database, provider, index, some, sized)
    owners: dict[bytes, set[bytes]] = {}
    for _, hashed, vector in rows:
        owners.setdefault(vector.tobytes(), set()).add(hashed)
    duplicates = sum(len(texts) for texts in owners.values() if len(texts) > 1)
    return cosines, duplicates, len({hashed for _, hashed, _ in rows})


async def _asked(database: Database, provider: Provider, index: Index, texts: Sequence[str]) -> Vectors:
    """In its turn and in the ledger, like every call; but a proof sees for itself who answers."""
    return await Caller(database).embed(provider, texts, index_id=index.id, lane=PROOF)


def _in_groups(rows: list[Row], sized: dict[int, Measure]) -> Iterator[list[Row]]:
    """Few enough for one call, and for memory however long the texts are."""
    group: list[Row] = []
    held = 0
    for row in rows:
        size = sized[row[0]].size if row[0] in sized else 0
        if group and (len(group) == GROUP or held + size > GROUP_BYTES):
            yield group
            group, held = [], 0
        group.append(row)
        held += size
    if group:
        yield group


async def _again(
    database: Database, provider: Provider, index: Index, rows: list[Row], sized: dict[int, Measure]
) -> list[float]:
    """Cosines of the stored vectors and fresh ones, of texts that are still what was embedded."""
    async with database.transaction("worker") as conn:
        wanted = {doc_id: sized[doc_id] for doc_id, *_ in rows if doc_id in sized}
        contents = await documents.contents(conn, wanted)
    texts: list[str] = []
    stored: list[Vector] = []
    for doc_id, hashed, vector in rows:
        content = contents.get(doc_id)
        chunks = rendered(index.space, content.title, content.body, provider.count) if content else []
        text = next((text for text in chunks if text_hash(text) == hashed), None)
        if text is not None:  # edited since: its new vector is on its way
            texts.append(text)
            stored.append(vector)
    if not texts:
        return []
    fresh = (await _asked(database, provider, index, texts)).matrix
    return [cosine(a, b) for a, b in zip(stored, fresh, strict=True)]


async def remember_sentinels(database: Database, provider: Provider, index: Index) -> None:
    """What the model says of the sentinel texts on its first day in this database."""
    async with database.transaction("worker") as conn:
        if await indexes.sentinels(conn, index.space):
            return
    answer = await _asked(database, provider, index, SENTINELS)
    async with database.transaction("worker") as conn:
        await indexes.put_sentinels(conn, index.space, list(answer.matrix))


async def sentinel_drift(database: Database, provider: Provider, index: Index) -> str | None:
    """Why the model is not the one that made the index, or None.

    Raises:
        ProviderError: it does not answer.
    """
    async with database.transaction("worker") as conn:
        known = await indexes.sentinels(conn, index.space)
    if not known:
        return None
    answer = await _asked(database, provider, index, SENTINELS)
    worst = min(cosine(a, b) for a, b in zip(known, answer.matrix, strict=True))
    if worst >= SAME_COSINE:
        return None
    return (
        f"{index.space.address} is no longer the model that made this index "
        f"(a sentinel text's cosine is {worst:.4f}): migrate to what it is now"
    )


async def answers(provider: Provider) -> None:
    """
    Raises:
        ProviderError: the model that embeds queries does not.
    """
    await provider.embed([TextInput(SENTINELS[0])], kind="query")


async def recall(database: Database, store: Store, index: Index) -> Verdict:
    """The approximate index finds what an exact scan finds, ties counted as found."""
    if not index.kind.is_approximate:
        return Verdict(RECALL, Outcome.NOT_CONFIGURED, "an exact scan misses nothing")
    hits = trials = 0
    queries = [vector for *_, vector in await store.sample(database, index, RECALL_QUERIES)]
    truth = await store.ahead(index, queries, limit=RECALL_AT, tenant=None, exactly=True)
    near = await store.ahead(index, queries, limit=RECALL_AT, tenant=None)
    for query in queries:
        async with database.transaction("worker") as conn:
            exact = await truth.exact(conn, index, query, limit=RECALL_AT, tenant=None)
            found = await near.nearest(conn, index, query, limit=RECALL_AT, tenant=None)
        bar = exact[-1][1] - TIE if exact else 0.0
        trials += len(exact)
        hits += min(len(exact), sum(score >= bar for _, score in found))
    bound = binomial_lower_bound(hits, trials)
    evidence: dict[str, Any] = {
        "queries": len(queries),
        "recall": hits / max(trials, 1),
        "bound": bound,
    }
    why = f"recall@{RECALL_AT} {hits / max(trials, 1):.4f}, at least {bound:.4f} at 95%"
    if len(queries) < RECALL_QUERIES and hits == trials:  # asked for all there are: no chance in it
        why = f"each of {len(queries)} vectors finds what an exact scan finds"
        return Verdict(RECALL, Outcome.PASSED, why, evidence)
    if len(queries) < RECALL_QUERIES and bound < RECALL_NEEDED:
        return Verdict(RECALL, Outcome.INCONCLUSIVE, f"only {len(queries)} vectors: {why}", evidence)
    passed = bound >= RECALL_NEEDED
    return Verdict(RECALL, Outcome.PASSED if passed else Outcome.FAILED, why, evidence)


def cosine(a: Vector, b: Vector) -> float:
    """0 where one of them is zero: such a vector is like no other."""
    x, y = a.astype("float64"), b.astype("float64")
    norms = math.sqrt(float(x @ x) * float(y @ y))
    return float(x @ y) / norms if norms else 0.0
