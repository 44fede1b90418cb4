"""`make bench-callers`: what an SQL function that outlives its model costs beside the bare statements.

    python -m bench.callers [--documents 6000] [--dims 768] [--queries 300]

A user's table with an embedding column and a graph of it, as people have it before: searched by the usual
function of one line. The same rows in an index of ours: searched by the caller that `revec function` makes,
and by the bare statement that it comes to, with the table's name written down. In turn, the same vectors, on
one connection; once for a large tenant, by the graph, once for a small one, read wholly. How many of the ten
rows the two have in common is said too.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from bench.report import Figure, at_most, finish, print_machine, reported
from revec.app import App
from revec.capture import attach
from revec.capture.mapping import Mapping
from revec.model.index import Kind
from revec.postgres.server import Server
from revec.search import callers
from revec.search.signature import Said
from revec.settings import Settings
from tests import loopback as fake
from tests import steps
from tests.loopback import Loopback

SMALL = 500  # rows of the small tenant
K = 10
OVER_BARE = 1.5
WARM_UP = 20
LARGE_TEAM, SMALL_TEAM = "large", "small"

TABLE = """CREATE SCHEMA app;
CREATE TABLE app.questions (
    id bigint PRIMARY KEY, team text NOT NULL, question text NOT NULL, embedding vector({dims}));
INSERT INTO app.questions SELECT n, CASE WHEN n <= {small} THEN 'small' ELSE 'large' END, 'question ' || n
  FROM generate_series(1, {rows}) AS n;
CREATE INDEX ON app.questions (team)"""
THEIRS = """UPDATE app.questions q SET embedding = v.embedding
  FROM revec.vectors_{index} v JOIN revec.document d ON d.id = v.doc_id WHERE d.key::bigint = q.id;
CREATE INDEX ON app.questions USING hnsw (embedding vector_cosine_ops);
CREATE FUNCTION app.usual(query vector, whose text, threshold float, count int)
RETURNS TABLE (id bigint, question text, similarity float) LANGUAGE sql STABLE AS $$
  SELECT q.id, q.question, 1 - (q.embedding <=> query) FROM app.questions q
   WHERE q.team = whose AND 1 - (q.embedding <=> query) >= threshold
   ORDER BY q.embedding <=> query LIMIT count $$;
ANALYZE app.questions"""
USUAL = "SELECT * FROM app.usual(%s::vector, %s, -1, %s)"
CALLER = "SELECT * FROM app.match(%s::vector, %s, -1, %s)"
BARE = {
    LARGE_TEAM: """SELECT q.id, q.question, near.score
  FROM (SELECT v.doc_id, 1 - (v.embedding <=> %(query)s::halfvec) AS score FROM revec.vectors_{index} v
         WHERE v.tenant = %(team)s ORDER BY v.embedding <=> %(query)s::halfvec LIMIT %(count)s + 10) AS near
       JOIN revec.document d ON d.id = near.doc_id JOIN app.questions q ON q.id = d.key::bigint
 ORDER BY near.score DESC LIMIT %(count)s""",
    SMALL_TEAM: """WITH rows AS MATERIALIZED (
    SELECT v.doc_id, v.embedding <=> %(query)s::halfvec AS distance FROM revec.vectors_{index} v
     WHERE v.tenant = %(team)s)
SELECT q.id, q.question, 1 - near.distance
  FROM (SELECT doc_id, distance FROM rows ORDER BY distance LIMIT %(count)s + 10) AS near
       JOIN revec.document d ON d.id = near.doc_id JOIN app.questions q ON q.id = d.key::bigint
 ORDER BY near.distance LIMIT %(count)s""",
}


class Scene:
    def __init__(self, conn: psycopg.AsyncConnection[Any], index: int, vectors: list[str]) -> None:
        self._conn = conn
        self._bare = {team: sql.SQL(text.replace("{index}", str(index))) for team, text in BARE.items()}  # type: ignore[arg-type]
        self._vectors = vectors

    async def measure(self, team: str) -> list[Figure]:
        """Medians in milliseconds, and what they are of each other."""
        times: dict[str, list[float]] = {"usual": [], "bare": [], "caller": []}
        same = 0
        for number, vector in enumerate(self._vectors):
            found = {}
            for name, taken in times.items():
                began = time.perf_counter()
                found[name] = [row[0] for row in await self._asked(name, vector, team)]
                if number >= WARM_UP:
                    taken.append(1000 * (time.perf_counter() - began))
            same += len(set(found["bare"]) & set(found["caller"]))
        usual, bare, caller = (statistics.median(each) for each in times.values())
        return [
            reported(f"usual function on their own column, {team} tenant, p50 ms", usual),
            reported(f"bare statement on our index, {team} tenant, p50 ms", bare),
            reported(f"caller, {team} tenant, p50 ms", caller),
            reported(f"caller, {team} tenant, ms beside the bare statement", caller - bare),
            at_most(f"caller, {team} tenant, times the bare statement", caller / bare, OVER_BARE),
            reported(f"caller, {team} tenant, times the usual function", caller / usual),
            reported(f"hits in common with the bare statement, {team} tenant", same / K / len(self._vectors)),
        ]

    async def _asked(self, name: str, vector: str, team: str) -> list[Any]:
        match name:
            case "usual":
                found = await self._conn.execute(USUAL, (vector, team, K))
            case "caller":
                found = await self._conn.execute(CALLER, (vector, team, K))
            case _:
                asked = {"query": vector, "team": team, "count": K}
                found = await self._conn.execute(self._bare[team], asked)
        return await found.fetchall()


async def prepared(app: App, options: argparse.Namespace) -> int:
    """The table, its index of ours, its own column with the same vectors, both functions; the index's id."""
    sizes = {"dims": options.dims, "small": SMALL, "rows": options.documents}
    async with app.database.transaction() as conn:
        await conn.execute(TABLE.format(**sizes))  # type: ignore[arg-type]
    made = await steps.collection(app, model=f"openai:fake-{options.dims}", kind=Kind.HNSW)
    mapping = Mapping(table="app.questions", key=(), body="question", tenant="team")
    await attach.attach(app.database, made, mapping)
    await steps.drain(app)
    index = await app.serving("c")
    async with app.database.transaction() as conn:
        await conn.execute(THEIRS.replace("{index}", str(index.id)))  # type: ignore[arg-type]
        await conn.execute(sql.SQL("ANALYZE {}").format(sql.Identifier("revec", f"vectors_{index.id}")))
        said = Said(
            function="app.match",
            arguments=("query", "team", "threshold", "count"),
            returns=("id", "question", "similarity"),
            tenant="team",
        )
        function = await callers.make(conn, made, said)
    await callers.apply(app.database, function)
    return index.id


async def measured(dsn: str, provider: Loopback, options: argparse.Namespace) -> list[Figure]:
    settings = Settings(dsn=dsn, openai_base_url=provider.url, openai_api_key="k", brake=False)  # type: ignore[arg-type]
    chance = random.Random(1)
    asked = [f"question {chance.randint(1, options.documents)}" for _ in range(options.queries + WARM_UP)]
    vectors = [str(row.tolist()) for row in fake.vectors(asked, f"fake-{options.dims}")]
    async with App(settings, may_apply=True) as app:
        print_machine(app.database.dsn)
        index = await prepared(app, options)
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as conn:
            await conn.execute("SET hnsw.iterative_scan = relaxed_order")
            await conn.execute("SET hnsw.ef_search = 400")  # as we do; theirs would be 40, and miss more
            scene = Scene(conn, index, vectors)
            return [*await scene.measure(LARGE_TEAM), *await scene.measure(SMALL_TEAM)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--documents", type=int, default=6_000)
    parser.add_argument("--dims", type=int, default=768)
    parser.add_argument("--queries", type=int, default=300)
    options = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="revec-bench-"))
    home.chmod(0o755)  # the server may run as another user
    try:
        with Server(home / "home") as server, Loopback() as provider:
            print(f"n: {options.documents:,} rows, {options.dims} dims, {options.queries} queries, k {K}")
            figures = asyncio.run(measured(server.dsn, provider, options))
    finally:
        shutil.rmtree(home, ignore_errors=True)
    finish("callers", figures)


if __name__ == "__main__":
    main()
