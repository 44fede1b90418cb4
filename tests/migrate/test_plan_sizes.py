"""What a plan says of disk, log and memory is what real tables take."""

from __future__ import annotations

import numpy as np
import pytest
from psycopg import sql

from revec.app import App
from revec.migrate.planning.shape import Size, size_of
from revec.model.index import Kind
from tests import steps
from tests.loopback import Loopback
from tests.migrate import world

ROWS = 600
NEAR = 0.08


@pytest.mark.parametrize("dims", [96, 384, 1024, 1536, 3072, 4000])
async def test_a_table_of_vectors_is_as_large_as_planned(app: App, loopback: Loopback, dims: int) -> None:
    """Also where a page holds one row, and where PostgreSQL moves the hashes of large rows elsewhere."""
    made = await steps.filled(app, 1)
    await app.start(made, f"openai:fake-{dims}")
    await steps.drain(app)
    async with app.database.transaction() as conn:
        await conn.execute(
            sql.SQL(
                "INSERT INTO revec.vectors_2 SELECT n, 0, 'default', sha256(n::text::bytea),"
                " sha256((-n)::text::bytea), 1, {vector}::halfvec FROM generate_series(2, {rows}) AS n"
            ).format(vector=sql.Literal(str(np.ones(dims).tolist())), rows=sql.Literal(ROWS))
        )
        taken = (
            await (await conn.execute("SELECT pg_total_relation_size('revec.vectors_2') AS n")).fetchone()
        ).n
    assert size_of(Kind.EXACT, dims, ROWS).disk == pytest.approx(taken, rel=NEAR)


async def test_the_log_grows_by_what_was_planned(app: App, loopback: Loopback) -> None:
    """Of the load as workers do it; more where a checkpoint comes in between, so within a third."""
    made = await steps.filled(app, ROWS)
    at = "SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint AS n"
    await app.start(made, "openai:fake-384")
    before = (await steps.rows(app, at))[0].n
    await steps.drain(app)
    written = (await steps.rows(app, at))[0].n - before
    assert (await world.migration(app, made)).state == "ready"
    assert size_of(Kind.EXACT, 384, ROWS).wal == pytest.approx(written, rel=1 / 3)


@pytest.mark.parametrize("kind", [Kind.HNSW, Kind.BINARY])
def test_a_graph_asks_for_memory_in_bounds(kind: Kind) -> None:
    """Nothing is asked for where nothing is built; 64 MB to 4 GB where something is."""
    assert size_of(Kind.EXACT, 1536, 1_000_000).memory == 0
    assert size_of(kind, 1536, 100).memory == 64 << 20
    assert size_of(kind, 1536, 10**8).memory == 4 << 30


def test_nothing_takes_nothing() -> None:
    for kind in Kind:
        assert size_of(kind, 1536, 0) == Size(0, 0, 0, 0)
