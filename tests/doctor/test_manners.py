"""A guest on a production database: it writes nothing, takes little, waits for nobody, and vouches for nothing unseen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from revec.doctor import examine
from revec.doctor.base import Look, Of, Severity, by_query
from revec.doctor.looks import vectors
from revec.model.errors import BadInput, Unavailable
from revec.postgres.database import reached
from tests import servers
from tests.doctor.patients import blind, names, visited

CLERK = "clerk"  # logs in, and may read what it was granted


def only(monkeypatch: pytest.MonkeyPatch, **chosen: Look) -> None:
    """Of all looks these."""
    monkeypatch.setattr(
        examine, "looks", lambda: iter([(name.replace("_", "-"), look) for name, look in chosen.items()])
    )


def asking(query: str, **more: Any) -> Look:
    return Look(
        of=Of.DATABASE, severity=Severity.NOTE, query=sql.SQL(query), sentence="it ran", do="nothing", **more
    )


async def test_whatever_a_look_asks_nothing_is_written(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server refuses; the look is not taken, and the others are."""
    servers.run(dsn, "CREATE TABLE public.kept (x int)", "CREATE SEQUENCE public.counted")
    only(
        monkeypatch,
        writes=asking("INSERT INTO public.kept VALUES (1) RETURNING x"),
        counts=asking("SELECT nextval('public.counted')"),
        reads=asking("SELECT 1 AS one"),
    )
    report = await visited(dsn)
    assert [each.name for each in report.looked if each.outcome == "found"] == ["reads"]
    assert blind(report) == [
        "writes: the server refuses: cannot execute INSERT in a read-only transaction",
        "counts: the server refuses: cannot execute nextval() in a read-only transaction",
    ]
    assert servers.ask(dsn, "SELECT count(*) FROM public.kept") == [0]


async def test_a_look_has_an_end(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes too long is ended by the server, and was not looked at; the next one is asked."""
    only(monkeypatch, slow=asking("SELECT pg_sleep(3)"), quick=asking("SELECT 1 AS found WHERE false"))
    report = await visited(dsn, statement=0.2)
    assert blind(report) == ["slow: it takes longer than 0.2 s"]
    assert [each.outcome for each in report.looked] == ["not looked at", "clean"]
    assert report.looked[0].ms < 2_500


async def test_a_locked_table_is_waited_for_no_longer_than_said(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind an ALTER TABLE of somebody else's: not looked at, and no queue behind us."""
    servers.run(dsn, "CREATE TABLE public.items (embedding vector(3))")
    only(monkeypatch, zero_vectors=vectors.ZERO_VECTORS)
    with psycopg.connect(dsn) as other:
        other.execute("LOCK TABLE public.items IN ACCESS EXCLUSIVE MODE")
        report = await visited(dsn, lock=0.2)
        assert blind(report) == ["zero-vectors: others have locked it for longer than 0.2 s"]
    assert blind(await visited(dsn, lock=0.2)) == []


async def test_all_looks_together_have_an_end(healthy: str) -> None:
    """What there was no time for was not looked at either."""
    report = await visited(healthy, whole=0.0)
    assert not [each for each in report.looked if each.outcome in {"clean", "found"}]
    assert "zero-vectors: all looks together may take 0 s" in blind(report)


async def test_rows_that_are_hidden_are_no_pass(dsn: str) -> None:
    """By row security or for want of a right: said with the way out, for each look."""
    servers.run(
        dsn,
        f"DO $$ BEGIN CREATE ROLE {CLERK} LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$",
        "CREATE TABLE public.secrets (embedding vector(3))",
        "CREATE TABLE public.shared (embedding vector(3))",
        "INSERT INTO public.shared VALUES ('[0,0,0]')",
        "ALTER TABLE public.shared ENABLE ROW LEVEL SECURITY",
        f"GRANT SELECT ON public.shared TO {CLERK}",
    )
    report = await visited(servers.at(dsn, user=CLERK))
    servers.run(dsn, f"DROP OWNED BY {CLERK}")
    said = set(blind(report))
    assert (
        "zero-vectors: row security hides rows of it from clerk: connect as a role that sees them all" in said
    )
    assert "zero-vectors: clerk may not read it: GRANT SELECT ON public.secrets TO clerk" in said
    assert (
        "long-transaction: clerk may not see the sessions of others: GRANT pg_read_all_stats TO clerk" in said
    )
    assert "zero-vectors" not in names(report)


async def test_another_login_s_view_of_revec_s_house_is_no_pass(filled: str) -> None:
    """Its tables look empty to whom row security hides them from."""
    servers.run(
        filled,
        f"DO $$ BEGIN CREATE ROLE {CLERK} LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$",
        f"GRANT USAGE ON SCHEMA revec TO {CLERK}",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA revec TO {CLERK}",
        "UPDATE revec.index SET fault = 'it drifted'",
    )
    report = await visited(servers.at(filled, user=CLERK))
    assert any(
        each.startswith("distrusted-model: row security hides Revec's rows from clerk")
        for each in blind(report)
    )
    assert "distrusted-model" not in names(report)
    servers.run(filled, f"DROP OWNED BY {CLERK}")


async def test_a_large_table_is_sampled_and_says_so(other_dsn: str) -> None:
    """A part of its blocks, of all parts; the number that was looked at stands beside the whole."""
    servers.run(
        other_dsn,
        "CREATE EXTENSION vector",
        "CREATE TABLE items AS SELECT n AS id, ARRAY[1, n, n % 9]::vector(3) AS embedding"
        " FROM generate_series(1, 40000) AS n",
        "ANALYZE items",
    )
    report = await visited(other_dsn, sample=2000)
    (zeros,) = (each for each in report.looked if each.name == "zero-vectors")
    assert zeros.of == 40_000
    assert zeros.n is not None
    assert 500 < zeros.n <= 4_000
    servers.run(other_dsn, "UPDATE items SET embedding = '[0,0,0]' WHERE id > 20000", "ANALYZE items")
    found = await visited(other_dsn, sample=2000)
    assert "zero-vectors" in names(found)


async def test_a_pooler_is_seen_and_what_it_leaks(healthy: str, pooler: str) -> None:
    """In transaction mode: a note, and a lock that outlived its client is a warning; without one, neither."""
    behind = servers.at(pooler, dbname=str(conninfo_to_dict(healthy)["dbname"]))
    report = await visited(behind)
    assert names(report) == ["pooler"]
    assert "a pooler in transaction mode" in report.findings[0].sentence
    assert blind(report) == []
    with psycopg.connect(behind, autocommit=True, prepare_threshold=None) as client:
        client.execute("SELECT pg_advisory_lock(7)")
    leaked = await visited(behind)
    assert names(leaked) == ["pooler", "session-locks"]
    assert names(await visited(healthy)) == []


async def test_a_look_at_an_index_that_is_not_used_proves_nothing(
    healthy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the planner goes elsewhere, the rows that it finds say nothing of the graph."""
    servers.run(healthy, "CREATE INDEX twin ON questions USING hnsw (embedding vector_cosine_ops)")
    report = await visited(healthy)
    unproved = [
        each for each in blind(report) if each.startswith("self-retrieval: the planner does not search by")
    ]
    assert len(unproved) == 1


async def test_what_is_no_address_and_what_does_not_answer(tmp_path: Any) -> None:
    """A sentence, without what may be a password."""
    with pytest.raises(BadInput, match="no connection string"):
        async with reached("secret secret"):
            pass
    with pytest.raises(Unavailable, match="cannot reach the database"):
        async with reached(f"host={tmp_path} dbname=x"):
            pass


async def test_an_object_s_name_cannot_be_sql(other_dsn: str) -> None:
    """Tables and columns that are called like statements are looked at like any other."""
    servers.run(
        other_dsn,
        "CREATE EXTENSION vector",
        """CREATE TABLE "a""; DROP TABLE b; --%s{x}" ("body%" text, "v""%(n)s{}" vector(2))""",
        """INSERT INTO "a""; DROP TABLE b; --%s{x}" VALUES ('one', '[0,0]'), ('two', '[0,1]')""",
    )
    report = await visited(other_dsn)
    assert names(report) == ["zero-vectors"]
    assert blind(report) == []
    servers.run(other_dsn, report.findings[0].sql)


async def test_the_time_a_statement_may_take_is_the_server_s_to_keep(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a look's transaction is told, read back from inside."""
    said: dict[str, Any] = {}

    async def listen(*of: Any) -> Any:
        rows = await by_query(*of)
        said.update(rows[0])
        return []

    shown = (
        "statement_timeout",
        "lock_timeout",
        "transaction_read_only",
        "max_parallel_workers_per_gather",
        "search_path",
    )
    query = "SELECT " + ", ".join(f"current_setting('{name}') AS {name}" for name in shown)
    only(monkeypatch, listens=replace(asking(query), ask=listen))
    await visited(dsn)
    assert said == {
        "statement_timeout": "2s",
        "lock_timeout": "500ms",
        "transaction_read_only": "on",
        "max_parallel_workers_per_gather": "0",
        "search_path": "pg_catalog, public",
    }
