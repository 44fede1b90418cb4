"""`make bench-lexical`: our BM25 beside bm25s on the same lexemes and stock bm25s, and what it costs.

    python -m bench.lexical [--collections cranfield cacm banking77] [--data ../shared/data]

Quality: nDCG@10 of one run of all judged queries each. Time: a tenant of 5,000 documents and one of 100,000
(texts of the collections' own words), queries of the collections, on one connection, in turn with the same
SQL by a bare driver. Exactness: 10,000 random edits beside folds, then the answers of a fresh build.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bm25s
import Stemmer

from bench.report import Figure, at_least, at_most, finish, print_machine, reported
from revec.model.document import Draft
from revec.model.index import Collection
from revec.postgres import collections, documents, schema
from revec.postgres.database import Connection, Database
from revec.postgres.server import Server
from revec.search import lexical
from revec.search.judge import figures, judged

TERMS = "SELECT (revec.terms('english', t)).* FROM unnest(%s::text[]) WITH ORDINALITY AS u (t, n) ORDER BY n"
CLOSE = 0.005  # of the same lexemes' nDCG@10
P95_MS = 3.0
SIZES = (5_000, 100_000)
EDITS = 10_000


@dataclass(frozen=True, slots=True)
class Judged:
    """A collection with judgements."""

    name: str
    texts: dict[str, str]
    queries: dict[str, str]
    qrels: dict[str, dict[str, int]]


def read(folder: Path) -> Judged:
    texts = {row["id"]: f"{row['title']}\n{row['text']}" for row in _lines(folder / "docs.jsonl")}
    queries = {row["id"]: row["text"] for row in _lines(folder / "queries.jsonl")}
    qrels: dict[str, dict[str, int]] = {}
    for line in (folder / "qrels.tsv").read_text(encoding="utf-8").splitlines():
        query, document, grade = line.split("\t")
        qrels.setdefault(query, {})[document] = int(grade)
    return Judged(folder.name, texts, queries, qrels)


def _lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


async def fill(database: Database, name: str, texts: dict[str, str]) -> tuple[Collection, float, float]:
    """The collection, and milliseconds a document: in its own transaction, and of the fold."""
    async with database.transaction() as conn:
        made = await collections.create(conn, name)
        source = await collections.add_source(conn, made, collections.PUSH)
    began = time.perf_counter()
    drafts = [Draft(key=key, title="", body=text) for key, text in texts.items()]
    for start in range(0, len(drafts), 500):
        async with database.transaction() as conn:
            await documents.put(conn, source, drafts[start : start + 500])
    put = time.perf_counter()
    folder = lexical.Folder(database, settled=0.0)
    while await folder.tick():
        pass
    count = len(texts) / 1000
    return made, (put - began) / count, (time.perf_counter() - put) / count


async def ranked(conn: Connection, made: Collection, query: str, k: int = 10) -> list[tuple[int, float]]:
    return await lexical.ranked(conn, made.id, query, k=k, tenant="default")


async def ours(database: Database, made: Collection, world: Judged) -> dict[str, list[str]]:
    async with database.transaction() as conn:
        rows = await (
            await conn.execute("SELECT id, key FROM revec.document WHERE collection_id = %s", (made.id,))
        ).fetchall()
        names = {row.id: row.key for row in rows}
        return {
            query: [names[doc_id] for doc_id, _ in await ranked(conn, made, world.queries[query])]
            for query in judged(world.qrels)
        }


async def of_lexemes(database: Database, texts: Sequence[str]) -> list[list[str]]:
    async with database.transaction() as conn:
        rows = await (await conn.execute(TERMS, (list(texts),))).fetchall()
    return [
        [lexeme for lexeme, tf in zip(row.lexemes, row.tfs, strict=True) for _ in range(tf)] for row in rows
    ]


def theirs(corpus: Any, asked: Any, world: Judged, names: list[str]) -> dict[str, list[str]]:
    retriever = bm25s.BM25(method="lucene", k1=lexical.K1, b=lexical.B)
    retriever.index(corpus, show_progress=False)
    found, scores = retriever.retrieve(asked, k=10, show_progress=False)
    return {
        query: [names[place] for place, score in zip(row, marks, strict=True) if score > 0]
        for query, row, marks in zip(judged(world.qrels), found, scores, strict=True)
    }


async def quality(database: Database, world: Judged) -> list[Figure]:
    made, _, _ = await fill(database, f"q-{world.name}", world.texts)
    queries = [world.queries[query] for query in judged(world.qrels)]
    names = list(world.texts)
    corpus = await of_lexemes(database, list(world.texts.values()))
    asked = await of_lexemes(database, queries)
    stemmer = Stemmer.Stemmer("english")
    stock_corpus = bm25s.tokenize(
        list(world.texts.values()), stopwords="en", stemmer=stemmer, show_progress=False
    )
    stock_asked = bm25s.tokenize(queries, stopwords="en", stemmer=stemmer, show_progress=False)
    runs = {
        "ours": await ours(database, made, world),
        "bm25s, same lexemes": theirs(corpus, asked, world, names),
        "bm25s, stock": theirs(stock_corpus, stock_asked, world, names),
    }
    ndcg = {name: figures(run, world.qrels).ndcg_at_10 for name, run in runs.items()}
    reports = [reported(f"{world.name} nDCG@10, {name}", value) for name, value in ndcg.items()]
    away = abs(ndcg["ours"] - ndcg["bm25s, same lexemes"])
    return [*reports, at_most(f"{world.name}: ours from the same lexemes", round(away, 4), CLOSE)]


def made_up(worlds: list[Judged], count: int) -> dict[str, str]:
    """So many texts of real sentences: those that there are, then two of them cut and joined."""
    rng = random.Random(7)
    real = [text for world in worlds for text in world.texts.values()]
    texts = {str(n): text for n, text in enumerate(real[:count])}
    while len(texts) < count:
        one, other = rng.choice(real).split(), rng.choice(real).split()
        texts[str(len(texts))] = " ".join(one[: len(one) // 2] + other[len(other) // 2 :])
    return texts


async def speed(database: Database, worlds: list[Judged], size: int) -> list[Figure]:
    made, put, fold = await fill(database, f"s-{size}", made_up(worlds, size))
    rng = random.Random(1)
    queries = [rng.choice(list(world.queries.values())) for world in worlds for _ in range(200)]
    bare, whole = [], []
    async with database.transaction() as conn:
        await conn.execute("ANALYZE")
    async with database.alone() as conn:
        for number, query in enumerate(queries):
            began = time.perf_counter()
            asked = lexical.statement(made.id, query, k=100, tenant="default")
            await (await conn.execute(asked.query, asked.parameters)).fetchall()
            middle = time.perf_counter()
            async with database.transaction("reader", tenant="default") as own:
                await ranked(own, made, query, k=100)
            if number >= 20:
                bare.append(1000 * (middle - began))
                whole.append(1000 * (time.perf_counter() - middle))
    label = f"{size:,} documents"
    p95 = statistics.quantiles(whole, n=20)[-1]
    return [
        reported(f"{label}: p50 ms", statistics.median(whole)),
        at_most(f"{label}: p95 ms", p95, P95_MS) if size == SIZES[0] else reported(f"{label}: p95 ms", p95),
        reported(
            f"{label}: p50 over the bare statement's", statistics.median(whole) / statistics.median(bare)
        ),
        reported(f"{label}: put, ms a document", put),
        reported(f"{label}: fold, ms a document", fold),
    ]


async def exactness(database: Database, worlds: list[Judged]) -> list[Figure]:
    """Edits of a tenth of a tenant, in small transactions, folds running beside."""
    rng = random.Random(3)
    texts = made_up(worlds, 2_000)
    made, _, _ = await fill(database, "edited", texts)
    stop, folder = asyncio.Event(), lexical.Folder(database, settled=0.0)

    async def folds() -> None:
        while not stop.is_set():
            await folder.tick()

    folding = asyncio.create_task(folds())
    values = list(texts.values())
    for _ in range(EDITS // 20):
        names = rng.sample(list(texts), 20)
        async with database.transaction() as conn:
            source = await collections.add_source(conn, made, collections.PUSH)
            await documents.lock_source(conn, source)
            if rng.random() < 0.1:
                await documents.delete(conn, source, names)
            else:
                await documents.put(
                    conn, source, [Draft(key=name, title="", body=rng.choice(values)) for name in names]
                )
    stop.set()
    await folding
    queries = [query for world in worlds for query in list(world.queries.values())[:100]]
    async with database.transaction() as conn:
        before = [await ranked(conn, made, query, k=1000) for query in queries]
        await lexical.build(conn, made)
    while await folder.tick():
        pass
    async with database.transaction() as conn:
        after = [await ranked(conn, made, query, k=1000) for query in queries]
    same = sum(_equal(one, other) for one, other in zip(before, after, strict=True))
    return [at_least("answers as a fresh build's after 10,000 edits", same / len(queries), 1.0)]


def _equal(one: list[tuple[int, float]], other: list[tuple[int, float]]) -> bool:
    """To the ninth place: sums of floats depend on their order."""
    return {d: round(s, 9) for d, s in one} == {d: round(s, 9) for d, s in other}


async def measure(dsn: str, worlds: list[Judged]) -> list[Figure]:
    async with Database(dsn) as database:
        await schema.apply(database)
        found = [figure for world in worlds for figure in await quality(database, world)]
        for size in SIZES:
            found += await speed(database, worlds, size)
        return found + await exactness(database, worlds)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--collections", nargs="+", default=["cranfield", "cacm", "banking77"])
    arguments = parser.parse_args()
    if not arguments.data.is_dir():
        sys.exit(f"there are no judged collections in {arguments.data}: pass --data")
    worlds = [read(arguments.data / name) for name in arguments.collections]
    home = Path(tempfile.mkdtemp(prefix="revec-bench-"))
    home.chmod(0o755)  # the server may run as another user
    try:
        found = _found(home, worlds)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    finish("lexical", found)


def _found(home: Path, worlds: list[Judged]) -> list[Figure]:
    with Server(home / "home") as server:
        print_machine(server.dsn)
        sizes = ", ".join(f"{world.name} {len(world.texts):,}" for world in worlds)
        print(f"BM25 with k1 {lexical.K1}, b {lexical.B}; {sizes}")
        return asyncio.run(measure(server.dsn, worlds))


if __name__ == "__main__":
    main()
