"""Our own tables: applied once, whole, in order; printed as applied; nothing that a pooler breaks."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import psycopg
import pytest

import revec
from revec.app import App
from revec.model.errors import Refused, Unavailable
from revec.postgres import database as of_database
from revec.postgres import schema
from revec.postgres.database import Database, check_server
from tests import servers, steps
from tests.capture import people
from tests.conftest import settings_for
from tests.loopback import Loopback

_numbers = count(1)

# Everything that a schema is made of, by name and by definition; sizes and object numbers are not.
CATALOG = {
    "columns": """
        SELECT c.relname, c.relkind, c.relpersistence, c.reloptions, c.relrowsecurity,
               c.relforcerowsecurity, c.relacl::text, a.attname, a.attnotnull, a.attidentity,
               format_type(a.atttypid, a.atttypmod), pg_get_expr(d.adbin, d.adrelid), a.attacl::text
          FROM pg_class c
          LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
          LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
         WHERE c.relnamespace = 'revec'::regnamespace ORDER BY c.relname, a.attnum""",
    "constraints": """
        SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
         WHERE connamespace = 'revec'::regnamespace ORDER BY 1, 2""",
    "indexes": """
        SELECT pg_get_indexdef(i.indexrelid) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
         WHERE c.relnamespace = 'revec'::regnamespace ORDER BY 1""",
    "triggers": """
        SELECT pg_get_triggerdef(t.oid) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
         WHERE c.relnamespace = 'revec'::regnamespace AND NOT t.tgisinternal ORDER BY 1""",
    "functions": """
        SELECT pg_get_functiondef(oid), proacl::text FROM pg_proc
         WHERE pronamespace = 'revec'::regnamespace ORDER BY 1""",
    "policies": "SELECT * FROM pg_policies WHERE schemaname = 'revec' ORDER BY tablename, policyname",
    "rights": "SELECT nspacl::text FROM pg_namespace WHERE nspname = 'revec'",
    "ledger": "SELECT name, checksum FROM revec.schema_file ORDER BY name",
    "layers": "SELECT two_layers FROM revec.installation",
}


@pytest.fixture
def empty(maintenance: str) -> Iterator[str]:
    """A database that never saw Revec."""
    with servers.copied(maintenance, "template0", f"empty_{next(_numbers)}") as dsn:
        yield dsn


def catalog(dsn: str) -> dict[str, list[tuple[object, ...]]]:
    with psycopg.connect(dsn) as conn:
        return {name: conn.execute(query).fetchall() for name, query in CATALOG.items()}


async def applied(dsn: str) -> list[str]:
    async with Database(dsn) as database:
        return await schema.apply(database)


async def test_applied_twice_is_applied_once(empty: str) -> None:
    """The second time does nothing, and says so."""
    assert await applied(empty) == [file.name for file in schema.files()]
    before = catalog(empty)
    assert await applied(empty) == []
    assert catalog(empty) == before


async def test_nobody_s_database_is_changed_by_the_way(empty: str, loopback: Loopback) -> None:
    """A database of yours gets our tables when that is asked for; else the sentence names the command."""
    with pytest.raises(Refused, match="`revec schema apply` makes them"):
        async with App(settings_for(empty, loopback.url)):
            pass
    servers.run(empty, "DO $$ BEGIN ASSERT to_regnamespace('revec') IS NULL; END $$")
    async with App(settings_for(empty, loopback.url), may_apply=True) as app:
        assert app.schema_applied == [file.name for file in schema.files()]
    async with App(settings_for(empty, loopback.url)) as app:
        assert app.schema_applied == []


async def test_several_at_once_are_one(empty: str) -> None:
    """Eight processes start on an empty database: one applies, all go on."""
    results = await asyncio.gather(*(applied(empty) for _ in range(8)))
    assert sorted(map(len, results)) == [0] * 7 + [len(schema.files())]
    assert len(catalog(empty)["ledger"]) == len(schema.files())


async def test_printed_is_what_is_applied(maintenance: str, empty: str) -> None:
    """`schema print` in a tool of one's own makes the same catalog, to the last right and comment."""
    with servers.copied(maintenance, "template0", f"printed_{next(_numbers)}") as other:
        with psycopg.connect(other, autocommit=True) as conn:
            conn.execute(schema.printed())  # type: ignore[arg-type]
        await applied(empty)
        assert catalog(other) == catalog(empty)
        assert await applied(other) == []  # and is recognised as complete


async def test_a_script_that_fails_leaves_nothing(empty: str) -> None:
    """One transaction: a broken last file takes the first ones with it."""
    broken = schema.printed().replace("CREATE TABLE revec.worker", "CREATE TABLE revec.migration")
    with psycopg.connect(empty, autocommit=True) as conn, pytest.raises(psycopg.errors.DuplicateTable):
        conn.execute(broken)  # type: ignore[arg-type]
    servers.run(empty, "DO $$ BEGIN ASSERT to_regnamespace('revec') IS NULL; END $$")


async def test_a_file_that_changed_is_refused(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was applied is not what the file says now: no guess is made."""
    first, *rest = schema.files()
    changed = schema.SchemaFile(first.name, first.text + "\n-- a harmless comment")
    monkeypatch.setattr(schema, "files", lambda: [changed, *rest])
    with pytest.raises(Refused, match=rf"schema file {first.name} is not the one that was applied"):
        await applied(dsn)


async def test_a_newer_database_is_refused(dsn: str) -> None:
    """Its files are unknown to us: update Revec, do not touch it."""
    servers.run(dsn, "INSERT INTO revec.schema_file VALUES ('0099_future.sql', 'x')")
    with pytest.raises(Refused, match=r"written by a newer Revec \(0099_future.sql\): update Revec"):
        await applied(dsn)


async def test_a_new_file_is_applied_to_an_old_database(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what is missing, in order; what was there stays as it is."""
    added = schema.SchemaFile("0099_next.sql", "CREATE TABLE revec.next (id int)")
    monkeypatch.setattr(schema, "files", lambda before=schema.files: [*before(), added])
    assert await applied(dsn) == ["0099_next.sql"]
    assert await applied(dsn) == []


async def test_nobody_waits_behind_a_file_that_waits(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dump reads the table for longer than we wait: the schema stays as it is, and may be applied again."""
    added = schema.SchemaFile("0099_next.sql", "ALTER TABLE revec.dead ADD COLUMN next int")
    monkeypatch.setattr(schema, "files", lambda before=schema.files: [*before(), added])
    people.replaced(
        schema.SQL, "lock_timeout", "SELECT set_config('lock_timeout', '50ms', true)", monkeypatch
    )
    with psycopg.connect(dsn) as dump:
        dump.execute("SELECT FROM revec.dead")
        with pytest.raises(Unavailable, match="Run `revec schema apply` again"):
            await applied(dsn)
    assert await applied(dsn) == ["0099_next.sql"]


async def test_a_server_that_is_too_old(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said before anything is created, with the version that is needed."""
    monkeypatch.setattr(of_database, "MINIMUM_SERVER", 990_000)
    with pytest.raises(Unavailable, match=r"runs Postgres \d\d; Revec needs 15 or newer"):
        await check_server(dsn)


async def test_a_pgvector_that_is_too_old(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the way out: an update of the extension where it is installed."""
    monkeypatch.setattr(of_database, "MINIMUM_VECTOR", (99, 0))
    with pytest.raises(Unavailable, match=r"too old, 0.8 is needed: run ALTER EXTENSION vector UPDATE"):
        await check_server(dsn)


async def test_no_pgvector_at_all(empty: str) -> None:
    """A server that does not offer the extension, seen through catalogs that do not list it."""
    hide = "CREATE VIEW public.{0} AS SELECT * FROM pg_catalog.{0} WHERE false"
    servers.run(empty, *(hide.format(name) for name in ("pg_extension", "pg_available_extensions")))
    blind = servers.at(empty, options="-c search_path=public,pg_catalog")
    with pytest.raises(Unavailable, match=r"no extension `vector`: install pgvector 0.8 or newer"):
        await check_server(blind)


async def test_no_server(dsn: str) -> None:
    """Nobody listens there: one sentence and the setting to look at."""
    with pytest.raises(Unavailable, match=r"cannot reach the database: .*Is REVEC_DSN right\?"):
        await check_server(servers.at(dsn, host="127.0.0.1", port="1"))


async def test_a_login_without_rights_is_told_which(maintenance: str, empty: str) -> None:
    """No CREATE on the database: who has it can print the script and run it."""
    servers.run(maintenance, "CREATE ROLE nobody_in_particular LOGIN")
    try:
        with pytest.raises(Unavailable, match=r"may not create Revec's schema.*`revec schema print \| psql`"):
            await applied(servers.at(empty, user="nobody_in_particular"))
    finally:
        servers.run(maintenance, "DROP ROLE nobody_in_particular")


# --- what a transaction-mode pooler breaks ---------------------------------------------------------

SOURCE = Path(revec.__file__).parent
SESSION_THINGS = {
    "LISTEN or NOTIFY": r"\b(UN)?LISTEN\s+\w|\bNOTIFY\s+\w|\bpg_notify\b",
    "a session SET": r"(?<![\w.])SET\s+(?!LOCAL\b|NOT\b)(SESSION\s+)?[a-z_.]+\s*(=|\bTO\b)\s*['\"\w]",
    "set_config for the session": r"set_config\([^()]*(\([^()]*\)[^()]*)*,\s*false\s*\)",
    "a prepared statement": r"\bPREPARE\s+\w|\bDEALLOCATE\b|prepare=True|prepare_threshold=\d",
    "a session advisory lock": r"\bpg_(try_)?advisory_(lock|unlock)\w*",
    "a temp table": r"\bTEMP(ORARY)?\s+TABLE\b|\bINTO\s+TEMP\b",
    "a cursor that outlives its transaction": r"\bWITH\s+HOLD\b",
}


def sql_of(path: Path) -> str:
    """The file without what is harmless: comments, and the SET of an UPDATE, a database, a function."""
    text = path.read_text(encoding="utf-8")
    text = re.sub(r'"""[^"]*"""|#.*' if path.suffix == ".py" else r"--.*", "", text)
    text = re.sub(r"\b(UPDATE|ALTER DATABASE)\b[^;]*?\bSET\b", "", text)
    return re.sub(r"\bFUNCTION\b[^;]*?\bSET\s+search_path\b", "FUNCTION", text)


@pytest.mark.parametrize("thing", SESSION_THINGS)
def test_nothing_that_belongs_to_a_session(thing: str) -> None:
    """Behind PgBouncer in transaction mode the next transaction has another session."""
    found = [
        f"{path.relative_to(SOURCE)}: {match[0]!r}"
        for path in sorted([*SOURCE.rglob("*.sql"), *SOURCE.rglob("*.py")])
        for match in re.finditer(SESSION_THINGS[thing], sql_of(path))
    ]
    assert found == []


@pytest.mark.parametrize(
    ("thing", "planted"),
    [
        ("LISTEN or NOTIFY", "LISTEN revec"),
        ("LISTEN or NOTIFY", "SELECT pg_notify('x', 'y')"),
        ("a session SET", "SET work_mem = '1GB'"),
        ("a session SET", "SET SESSION statement_timeout TO 0"),
        ("set_config for the session", "SELECT set_config('role', %s, false)"),
        ("a prepared statement", "PREPARE q AS SELECT 1"),
        ("a session advisory lock", "SELECT pg_try_advisory_lock(1)"),
        ("a temp table", "CREATE TEMP TABLE t (x int)"),
        ("a cursor that outlives its transaction", "DECLARE c CURSOR WITH HOLD FOR SELECT 1"),
    ],
)
def test_the_search_would_find_it(thing: str, planted: str, tmp_path: Path) -> None:
    """The complement: each pattern sees what it is for."""
    file = tmp_path / "planted.sql"
    file.write_text(f"-- name: q\n{planted};\n")
    assert re.search(SESSION_THINGS[thing], sql_of(file))


async def test_no_setting_outlives_its_transaction(any_dsn: str, loopback: Loopback) -> None:
    """After a whole migration no connection has a role, a setting or a lock of its own."""
    mine = (
        "SELECT current_user = session_user AS owner,"
        " (SELECT array_agg(name ORDER BY name) FROM pg_settings WHERE source = 'session') AS settings,"
        " (SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory') AS locks,"
        " (SELECT count(*) FROM pg_prepared_statements) AS prepared,"
        " current_setting('revec.tenant', true) AS tenant"
    )
    async with App(settings_for(any_dsn, loopback.url)) as app:
        (before,) = await steps.rows(app, mine)
        made = await steps.ready(app)
        await app.commands.switch.cutover(made, why="test")
        await app.retriever.search("c", "x", tenant="default")
        for _ in range(20):
            (after,) = await steps.rows(app, mine)
            assert after[:4] == before[:4]
            assert not after.tenant
        assert (before.owner, before.locks, before.prepared) == (True, 0, 0)
