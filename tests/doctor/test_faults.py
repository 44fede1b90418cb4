"""Each planted fault is found by its name, and nothing else is; a clean database has none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

import psycopg
import pytest

from revec import seams
from revec.doctor.base import Severity, looks
from revec.doctor.looks import server
from tests import servers
from tests.doctor.patients import INSERT, ROWS, UNIT, blind, names, visited

CRITICAL, WARNING, NOTE = Severity

MODS = "SET allow_system_table_mods = on"
GRAPH = "UPDATE pg_index SET indisready = {} WHERE indexrelid = 'questions_graph'::regclass"
WIDE = f"""CREATE TABLE wide AS SELECT n AS id, {UNIT.format(dims=700, type="vector")}::vector(700) AS embedding
             FROM generate_series(1, 120) AS n"""


@dataclass(frozen=True)
class Plant:
    """A fault, how it comes about, and what is said of it."""

    name: str
    statements: tuple[str, ...]
    severity: Severity
    says: str  # part of the sentence
    look: dict[str, Any] = field(default_factory=dict)  # what the visit is told


def planted(name: str, severity: Severity, says: str, *statements: str, **look: Any) -> Plant:
    return Plant(name, statements, severity, says, look)


OF_USERS = [
    planted(
        "mixed-dims",
        CRITICAL,
        "(12: 3, 24: 396)",
        "DROP INDEX questions_graph",
        "ALTER TABLE questions ALTER COLUMN embedding TYPE vector",
        "UPDATE questions SET embedding = subvector(embedding, 1, 12) WHERE id <= 3",
        "UPDATE questions SET embedding = l2_normalize(embedding) WHERE id <= 3",
    ),
    planted(
        "mixed-models",
        CRITICAL,
        "(one: 379, other: 20)",
        "UPDATE questions SET embedding_model = 'other' WHERE id <= 20",
    ),
    planted(
        "zero-vectors",
        CRITICAL,
        "1 of 399 vectors",
        "UPDATE questions SET embedding = array_fill(0, ARRAY[24])::vector WHERE id = 7",
    ),
    planted(
        "unnormalised-vectors",
        WARNING,
        "20 of 399 vectors of public.questions.embedding have not the length 1 (1.0 to 2.0)",
        "UPDATE questions SET embedding = embedding + embedding WHERE id <= 20",
    ),
    planted(
        "unequal-vectors",
        CRITICAL,
        "1 of 399 rows",
        "UPDATE questions SET content = 'question number 8' WHERE id = 9",
    ),
    planted(
        "duplicate-vectors",
        WARNING,
        "8 of 399 rows",
        "UPDATE questions SET embedding = (SELECT embedding FROM questions WHERE id = 1) WHERE id <= 8",
    ),
    planted(
        "missing-texts",
        WARNING,
        "3 of 399 rows",
        "UPDATE questions SET content = '  ' WHERE id <= 3",
    ),
    planted(
        "rows-without-vectors",
        WARNING,
        "30 of 399 rows with a text (7.5%)",
        "UPDATE questions SET embedding = NULL WHERE id <= 30",
    ),
    planted(
        "invalid-index",
        CRITICAL,
        "index public.broken of",
        "CREATE UNIQUE INDEX CONCURRENTLY broken ON questions (org_id)",
    ),
    planted(
        "unused-index",
        WARNING,
        "was used 0 times while its table was scanned",
        *["SELECT count(*) FROM questions WHERE content <> ''"] * 40,
        "SELECT pg_stat_force_next_flush()",
    ),
    planted(
        "no-index",
        WARNING,
        "no approximate index",
        "DROP INDEX questions_graph",
        large=1,
    ),
    planted(
        "self-retrieval",
        CRITICAL,
        "are not found by public.questions_graph",
        MODS,
        GRAPH.format("false"),
        INSERT.format(first=ROWS + 1, last=ROWS + 200),
        GRAPH.format("true"),
        "ANALYZE questions",
        recall=0.0,  # what is lost is missed as well
    ),
    planted(
        "low-recall",
        WARNING,
        "of the ten nearest",
        "DROP INDEX questions_graph",
        "CREATE INDEX lists ON questions USING ivfflat (embedding vector_cosine_ops) WITH (lists = 40)",
    ),
    planted(
        "dead-rows",
        WARNING,
        "rows of public.questions are dead",
        "ALTER TABLE questions SET (autovacuum_enabled = off)",
        "UPDATE questions SET org_id = org_id + 1",
        "SELECT pg_stat_force_next_flush()",
    ),
    planted("toasted-vectors", NOTE, "(2,808 bytes)", WIDE, "ANALYZE wide"),
    planted("tenant-without-btree", WARNING, "no index on org_id", "DROP INDEX questions_org"),
    planted(
        "row-security-not-forced",
        WARNING,
        "does not bind its owner",
        "ALTER TABLE questions NO FORCE ROW LEVEL SECURITY",
    ),
    planted("row-security-without-policy", WARNING, "it has no policy", "DROP POLICY org ON questions"),
    planted(
        "policy-for-everybody",
        CRITICAL,
        "policy open of",
        "CREATE POLICY open ON questions USING (true)",
    ),
    planted(
        "past-row-security",
        WARNING,
        "view shown reads",
        "CREATE VIEW shown AS SELECT id, content FROM questions",
    ),
    planted(
        "past-row-security",
        WARNING,
        "function matching(vector) reads",
        "CREATE FUNCTION matching(q vector) RETURNS SETOF int LANGUAGE sql SECURITY DEFINER AS"
        " 'SELECT id FROM questions ORDER BY embedding <=> q LIMIT 3'",
    ),
    planted("no-row-security", NOTE, "one layer", "ALTER TABLE questions DISABLE ROW LEVEL SECURITY"),
    planted(
        "old-pgvector",
        WARNING,
        "pgvector 0.8.2 can damage an HNSW index",
        MODS,
        "UPDATE pg_extension SET extversion = '0.8.2' WHERE extname = 'vector'",
    ),
    planted(
        "model-shutdown",
        CRITICAL,
        "your model gemini:text-embedding-004 was switched off on 2026-01-14",
        models=["gemini:text-embedding-004", "openai:text-embedding-3-small"],
        shutdown_of=seams.shutdown,
    ),
    planted("disk", WARNING, "0.0 GiB of disk are free", free_bytes=1),
]

SPACE = "(SELECT min(id) FROM revec.space)"
OF_REVEC = [
    planted("distrusted-model", CRITICAL, "it drifted", "UPDATE revec.index SET fault = 'it drifted'"),
    planted(
        "resting-model",
        WARNING,
        "failed 3 times and has not answered since: no key",
        "UPDATE revec.provider SET failures = 3, trouble = 'auth', why = 'no key', resting_until = now()",
    ),
    planted(
        "unwatched-model",
        WARNING,
        "was last asked 48 hours ago",
        "UPDATE revec.space SET checked_at = now() - interval '48 hours'",
    ),
    planted(
        "capture-triggers",
        CRITICAL,
        "the triggers on public.articles of collection c",
        "CREATE TABLE public.articles (id int PRIMARY KEY)",
        "INSERT INTO revec.source (collection_id, name, mapping, trigger_of)"
        " VALUES (1, 'public.articles', '{}', 'public.articles'::regclass)",
    ),
    planted(
        "unreadable-source",
        CRITICAL,
        "rows of push cannot be read",
        "UPDATE revec.source SET fault = 'a column was dropped'",
    ),
    planted(
        "dead-letters",
        WARNING,
        "2 documents of c are dead letters",
        "INSERT INTO revec.dead (index_id, doc_id, input_hash, rev, tenant, cause, attempts)"
        " SELECT 1, id, input_hash, rev, tenant, 'too long', 3 FROM revec.document LIMIT 2",
    ),
    planted(
        "no-worker",
        CRITICAL,
        "1 documents wait",
        "INSERT INTO revec.work (index_id, doc_id, rev, action, lane, tenant, since)"
        " VALUES (1, 1, 1, 'embed', 0, 'default', now() - interval '1 hour')",
    ),
    planted(
        "dead-worker",
        WARNING,
        "the worker on host (process 7) fell silent 10 minutes ago",
        "INSERT INTO revec.worker (id, host, pid, beat_at)"
        " VALUES (gen_random_uuid(), 'host', 7, now() - interval '10 minutes')",
    ),
    planted(
        "no-conductor",
        WARNING,
        "is backfilling and nobody conducts it",
        "INSERT INTO revec.migration (collection_id, old_index, state, target, space_id, query, index_kind, gates, changed_at)"
        f" VALUES (1, 1, 'backfilling', 'm', {SPACE}, '{{}}', 'exact', '{{}}', now() - interval '1 hour')",
        "UPDATE revec.lease SET until = now() - interval '1 minute'",
    ),
    planted("one-layer", WARNING, "one layer only", "UPDATE revec.installation SET two_layers = false"),
    planted(
        "opened-table",
        CRITICAL,
        "row security of revec.document does not bind its owner",
        "ALTER TABLE revec.document NO FORCE ROW LEVEL SECURITY",
    ),
    planted(
        "old-schema",
        WARNING,
        "lack 0020_canary.sql",
        "DELETE FROM revec.schema_file WHERE name = '0020_canary.sql'",
    ),
    planted(
        "zero-vectors",
        CRITICAL,
        "1 of 10 vectors of revec.vectors_1.embedding",
        "UPDATE revec.vectors_1 SET embedding = array_fill(0, ARRAY[64])::halfvec WHERE doc_id = 3",
    ),
]
BY_OTHERS = {  # their tests are below, or in test_manners.py
    *("long-transaction", "old-snapshot", "abandoned-slot", "old-server"),
    *("pooler", "session-locks"),
}


def plant(dsn: str, fault: Plant) -> None:
    with psycopg.connect(dsn, autocommit=True) as conn:
        for statement in fault.statements:
            try:
                conn.execute(statement)  # type: ignore[arg-type]
            except psycopg.errors.UniqueViolation:
                assert fault.name == "invalid-index"  # that is how they come about


async def assert_found(dsn: str, fault: Plant) -> None:
    report = await visited(dsn, **fault.look)
    assert names(report) == [fault.name], [finding.sentence for finding in report.findings]
    (finding,) = report.findings
    assert finding.severity is fault.severity
    assert fault.says in finding.sentence
    assert finding.do
    assert blind(report) == []
    if finding.sql:
        servers.run(dsn, finding.sql)  # it is SQL, and it runs


async def test_a_clean_database_of_a_user_has_no_finding(healthy: str) -> None:
    """Twice: the doctor's own probes are no fault. Everything there is was looked at."""
    for _ in range(2):
        report = await visited(healthy)
        assert names(report) == []
        assert blind(report) == []
    looked = {each.name: each for each in report.looked if each.subject}
    assert looked["zero-vectors"].n == ROWS - 1
    assert looked["self-retrieval"].n == 50


async def test_a_clean_database_of_revec_has_no_finding(filled: str) -> None:
    """A collection that is served, and no worker at the moment: nothing waits for one."""
    report = await visited(filled)
    assert names(report) == []
    assert blind(report) == []
    assert report.case.installed


async def test_an_empty_database_has_no_finding_but_the_extension(other_dsn: str) -> None:
    """Whoever comes here first of all hears what is lacking, and no error."""
    report = await visited(other_dsn)
    assert names(report) == ["old-pgvector"]
    assert "has no extension `vector`" in report.findings[0].sentence
    assert blind(report) == []


@pytest.mark.parametrize("fault", OF_USERS, ids=[fault.name for fault in OF_USERS])
async def test_a_fault_of_a_user_s_own_database_is_found(healthy: str, fault: Plant) -> None:
    """That one, with its numbers, and SQL that shows it."""
    plant(healthy, fault)
    await assert_found(healthy, fault)


@pytest.mark.parametrize("fault", OF_REVEC, ids=[fault.name for fault in OF_REVEC])
async def test_a_fault_of_revec_s_house_is_found(filled: str, fault: Plant) -> None:
    """The same beside Revec."""
    plant(filled, fault)
    await assert_found(filled, fault)


def test_every_look_has_a_planted_fault() -> None:
    """A look that never found anything may be blind."""
    planted = {fault.name for fault in [*OF_USERS, *OF_REVEC]}
    assert planted | BY_OTHERS == {name for name, _ in looks()}
    assert len(planted | BY_OTHERS) >= 20


@contextmanager
def held(dsn: str, *statements: str) -> Iterator[psycopg.Connection[Any]]:
    """Another session's transaction, open."""
    with psycopg.connect(dsn) as conn:
        for statement in statements:
            conn.execute(statement)  # type: ignore[arg-type]
        yield conn
        conn.rollback()


async def test_a_long_transaction_is_found(healthy: str) -> None:
    with held(healthy, "SELECT 1"):
        await assert_found(
            healthy,
            planted("long-transaction", WARNING, "is idle in transaction", long_transaction=0.0),
        )


async def test_what_holds_the_horizon_back_is_found(healthy: str) -> None:
    """In transactions, not in minutes: a quiet database does not suffer."""
    with held(healthy, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "SELECT count(*) FROM questions"):
        servers.run(healthy, *["SELECT txid_current()"] * 40)
        await assert_found(
            healthy, planted("old-snapshot", WARNING, "still sees the database", old_snapshot=30)
        )


async def test_an_abandoned_slot_is_found(healthy: str) -> None:
    servers.run(healthy, "SELECT pg_create_physical_replication_slot('left_behind', true)")
    try:
        await assert_found(
            healthy,
            planted("abandoned-slot", CRITICAL, "nobody reads replication slot left_behind", slot_bytes=0),
        )
    finally:
        servers.run(healthy, "SELECT pg_drop_replication_slot('left_behind')")


async def test_an_old_server_is_found(healthy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(server.OLD_SERVER.more, "minimum", 990_000)
    await assert_found(healthy, planted("old-server", CRITICAL, "Revec needs 99 or newer"))


async def test_a_model_that_lives_for_years_is_no_finding(healthy: str) -> None:
    """Nor one that nobody announced anything of; within the year it is a warning."""
    day = date.today() + timedelta(days=700)  # noqa: DTZ011 - the server's day is this machine's
    far = await visited(healthy, models=["a:b"], shutdown_of=lambda _: day)
    assert names(far) == []
