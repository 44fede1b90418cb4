"""`make bench-doctor`: how long each of the doctor's looks takes at a table of a million vectors.

    python -m bench.doctor [--rows 1000000] [--dims 384] [--lists 500]

A user's own table: text, tenant, unit vectors in 2,000 clusters, an ivfflat index (a graph of so many takes
an hour to build here, and is asked in the same way), row security. The doctor visits twice, cold and warm,
with its own time-outs; a third visit may take 50 ms a statement, which most looks at so many rows keep too.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import psycopg
from pgvector.psycopg import register_vector

from bench.report import Figure, at_most, finish, print_machine, reported
from revec.doctor.base import Limits
from revec.doctor.examine import Report, examined
from revec.doctor.learning import learn
from revec.postgres.database import reached
from revec.postgres.server import Server

PAGE = 20_000
SLACK = 0.5  # seconds: what a look takes besides its longest statement
TABLE = "CREATE TABLE items (id int, org_id int, content text, embedding vector({dims}))"
AFTER = (
    "ALTER TABLE items ADD PRIMARY KEY (id)",
    "CREATE INDEX ON items (org_id)",
    "ALTER TABLE items ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
    "CREATE POLICY org ON items USING (org_id = current_setting('app.org')::int)",
    "ANALYZE items",
)


def load(dsn: str, rows: int, dims: int, lists: int) -> None:
    """The table, and what it took."""
    random = np.random.default_rng(0)
    centres = random.normal(size=(2_000, dims)).astype(np.float32)
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("CREATE EXTENSION IF NOT EXISTS vector")
        register_vector(conn)
        conn.execute(TABLE.format(dims=dims))  # type: ignore[arg-type]
        began = time.monotonic()
        copy = "COPY items FROM STDIN (FORMAT binary)"
        with conn.cursor().copy(copy) as into:
            into.set_types(["int4", "int4", "text", "vector"])
            for first in range(0, rows, PAGE):
                made = centres[random.integers(0, 2_000, PAGE)]
                made = made + 0.5 * random.normal(size=made.shape).astype(np.float32)
                made /= np.linalg.norm(made, axis=1, keepdims=True)
                for n, vector in enumerate(made[: rows - first], start=first):
                    into.write_row((n, n % 134, f"passage number {n} of a text that somebody wrote", vector))
        conn.execute("SET maintenance_work_mem = '1GB'")
        for statement in AFTER:
            conn.execute(statement)  # type: ignore[arg-type]
        loaded = time.monotonic()
        conn.execute(
            f"CREATE INDEX ON items USING ivfflat (embedding vector_cosine_ops) WITH (lists = {lists})"
        )
        print(f"loaded {rows:,} rows in {loaded - began:.0f} s, indexed in {time.monotonic() - loaded:.0f} s")


async def visit(dsn: str, limits: Limits) -> Report:
    async with reached(dsn) as conn:
        return await examined(conn, await learn(dsn, conn, limits))


def told(name: str, report: Report, limits: Limits) -> list[Figure]:
    """The slowest looks, and whether each kept its time-out."""
    slowest = sorted(report.looked, key=lambda look: look.ms, reverse=True)[:5]
    for look in slowest:
        print(
            f"  {name:5} {look.ms:7.0f} ms {look.name} ({look.outcome}{f': {look.why}' if look.why else ''})"
        )
    return [
        at_most(f"{name}: slowest look, s", slowest[0].ms / 1000, limits.statement + SLACK),
        reported(f"{name}: all looks, s", report.seconds),
        reported(f"{name}: not looked at", len(report.blind())),
        reported(f"{name}: findings", len(report.findings)),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dims", type=int, default=384)
    parser.add_argument("--lists", type=int, default=500)
    options = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="revec-bench-"))
    home.chmod(0o755)  # the server may run as another user
    figures: list[Figure] = []
    try:
        with Server(home / "home") as server:
            load(server.dsn, options.rows, options.dims, options.lists)
            print_machine(server.dsn)
            for name, limits in (("cold", Limits()), ("warm", Limits()), ("50 ms", Limits(statement=0.05))):
                figures += told(name, asyncio.run(visit(server.dsn, limits)), limits)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    finish("doctor", figures)


if __name__ == "__main__":
    main()
