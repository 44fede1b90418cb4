"""When the table cannot be read nothing is deleted, and the user's own writes never notice us."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest
import pytest_asyncio

from revec.app import App
from revec.capture import attach, projector
from revec.model.errors import BadInput, Unavailable
from revec.model.index import Collection
from tests import servers, steps
from tests.capture import people
from tests.capture.people import User

FIVE = "INSERT INTO app.docs SELECT n, 'title ' || n, 'body ' || n FROM generate_series(1, 5) n"
EVERYTHING = {str(n): (f"title {n}", f"body {n}") for n in range(1, 6)}
WAY_OUT = "; mend that, then run `revec init`"


@pytest_asyncio.fixture
async def docs(user: User) -> None:
    await user.execute(people.DOCS)
    await user.execute(FIVE)


@pytest_asyncio.fixture
async def made(app: App, docs: None) -> Collection:
    """Five rows, captured, indexed, searchable."""
    made = await steps.collection(app)
    await people.attached(app, made)
    await people.settled(app, made, EVERYTHING)
    return made


async def assert_kept(app: App, made: Collection, why: str) -> None:
    """The source is at fault in a sentence; its documents and its changes are all there."""
    await steps.drain(app)
    (fault,) = await people.faults(app)
    assert fault.startswith("app.docs cannot be read: ")
    assert why in fault
    assert fault.endswith(WAY_OUT)
    assert await people.documents(app, made) == EVERYTHING
    assert await people.changes(app)
    found = await app.retriever.search("c", "title 1\nbody 1", k=1, tenant="default")
    assert found.hits[0].id == "1"
    await steps.assert_oracle(app, made)


# --- the table changes under us -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("breaking", "why", "mending"),
    [
        ("DROP COLUMN body", 'column "body" does not exist', "ADD body text"),
        ("RENAME body TO text", 'column "body" does not exist', "RENAME text TO body"),
        ("RENAME TO gone", 'relation "app.docs" does not exist', None),
        ("SET SCHEMA public", 'relation "app.docs" does not exist', None),
    ],
)
async def test_an_expression_that_breaks_later_costs_nothing(
    breaking: str, why: str, mending: str | None, app: App, user: User, made: Collection
) -> None:
    """A migration of the user's takes away what we read: a sentence, nothing deleted, and `init` goes on."""
    await user.execute(f"ALTER TABLE app.docs {breaking}")
    moved = {"RENAME TO gone": "app.gone", "SET SCHEMA public": "public.docs"}.get(breaking, "app.docs")
    await user.execute(f"UPDATE {moved} SET title = 'edited' WHERE id = 2")
    await user.execute(f"DELETE FROM {moved} WHERE id = 3")
    await assert_kept(app, made, why)
    await user.execute(f"INSERT INTO {moved} (id, title) VALUES (6, 'while it is broken')")
    assert len(await people.changes(app)) == 3
    if moved == "app.gone":
        await user.execute("ALTER TABLE app.gone RENAME TO docs")
    elif moved == "public.docs":
        await user.execute("ALTER TABLE public.docs SET SCHEMA app")
    else:
        await user.execute(f"ALTER TABLE app.docs {mending}")
    await people.attached(app, made)
    await people.settled(app, made, await people.rows_of(user))


async def test_a_table_that_was_dropped_takes_nothing_with_it(app: App, user: User, made: Collection) -> None:
    """No trigger tells of a DROP: the documents stay until the table is there again and has been read."""
    await user.execute("UPDATE app.docs SET title = 'edited'")
    await user.execute("DROP TABLE app.docs")
    await assert_kept(app, made, 'relation "app.docs" does not exist')
    with pytest.raises(BadInput, match="there is no table app.docs"):
        await people.attached(app, made)
    await user.execute(people.DOCS)
    await user.execute("INSERT INTO app.docs VALUES (2, 'restored')")
    await people.attached(app, made)
    await people.settled(app, made, {"2": ("restored", "")})


async def test_one_row_that_cannot_be_computed_stops_its_source_alone(
    app: App, user: User, docs: None
) -> None:
    """A division by zero in an expression: that source waits for a person, the other one goes on."""
    await user.execute("CREATE TABLE app.faq (id int PRIMARY KEY, title text, body text)")
    made = await steps.collection(app)
    await people.attached(app, made, body="'body ' || 5 * id / (id - coalesce(note::int, 0)) * 0 + id")
    await people.attached(app, made, "app.faq")
    await people.settled(app, made, EVERYTHING)
    await user.execute("UPDATE app.docs SET note = '3' WHERE id = 3")
    await user.execute("INSERT INTO app.faq VALUES (9, 'goes on', '')")
    await steps.drain(app)
    (fault,) = await people.faults(app)
    assert "DivisionByZero" in fault
    assert await people.documents(app, made) == EVERYTHING | {"9": ("goes on", "")}
    await user.execute("UPDATE app.docs SET note = NULL")
    await people.attached(app, made, body="'body ' || 5 * id / (id - coalesce(note::int, 0)) * 0 + id")
    await people.settled(app, made, EVERYTHING | {"9": ("goes on", "")})


async def test_a_key_too_long_for_an_index_is_a_fault_and_no_endless_retry(app: App, user: User) -> None:
    """The user's key may be longer than ours may be, as a composite with quotes is: the source says so."""
    await user.execute("CREATE TABLE app.docs (a text, b text, title text, body text, PRIMARY KEY (a, b))")
    await user.execute(  # random, so that it does not compress
        "INSERT INTO app.docs SELECT a, a, 'long', '' FROM ("
        "  SELECT string_agg(chr(32 + (random() * 4)::int), '') AS a FROM generate_series(1, 1300)) s"
    )
    await user.execute(
        "INSERT INTO app.docs VALUES (repeat('\"', 1000), (SELECT string_agg(md5(n::text), '\"')"
        " FROM generate_series(1, 75) n), 'longest', '')"
    )
    made = await steps.collection(app)
    await people.attached(app, made)
    await steps.drain(app)
    (fault,) = await people.faults(app)
    assert "54000" in fault
    await user.execute("UPDATE app.docs SET a = 'short', b = title")
    await people.attached(app, made)
    await people.settled(
        app, made, {'["short", "long"]': ("long", ""), '["short", "longest"]': ("longest", "")}
    )


@pytest.mark.parametrize(
    ("alter", "key", "column"),
    [
        ("RENAME id TO number", (), "number"),
        ("DROP COLUMN id", ("other",), "other"),
        ("ALTER id TYPE numeric", (), "id"),
        ("ALTER id TYPE text", (), "id"),
        ("RENAME id TO old; ALTER TABLE app.docs RENAME other TO id", ("id",), "id"),
    ],
)
async def test_a_key_that_changes_never_fails_the_users_write(
    alter: str, key: tuple[str, ...], column: str, app: App, user: User, another: User, docs: None
) -> None:
    """In sessions that wrote before and in new ones: renamed, dropped, of another type. `init` catches up."""
    await user.execute("ALTER TABLE app.docs ADD other int NOT NULL GENERATED ALWAYS AS IDENTITY UNIQUE")
    made = await steps.collection(app)
    await people.attached(app, made)
    await user.execute("UPDATE app.docs SET note = 'this session has planned for it'")
    await steps.drain(app)
    for statement in f"ALTER TABLE app.docs {alter}".split(";"):
        await another.execute(statement)
    for n, session in enumerate((user, another)):
        await session.execute(f"UPDATE app.docs SET title = title || '!' WHERE {column}::int = {n + 1}")
    await user.execute(f"DELETE FROM app.docs WHERE {column}::int = 4")
    await steps.drain(app)
    await people.attached(app, made, key=key)
    await people.settled(app, made, await people.rows_of(user, key=column))
    assert len(await people.documents(app, made)) == 4
    await user.execute(f"UPDATE app.docs SET title = 'after it' WHERE {column}::int = 5")
    await people.settled(app, made, await people.rows_of(user, key=column))


# --- rows that are hidden ----------------------------------------------------------------------------


@pytest_asyncio.fixture
async def owner(owned_dsn: str) -> AsyncIterator[User]:
    """The user as the owner of the table, without a superuser's eyes."""
    async with people.connected(owned_dsn) as conn:
        await conn.execute("CREATE SCHEMA app")
        await conn.execute(people.DOCS)
        await conn.execute(FIVE)
        yield conn


@pytest.fixture
def root(root_dsn: str) -> Iterator[str]:
    yield root_dsn
    servers.run(root_dsn, f"ALTER ROLE {servers.OWNER} NOBYPASSRLS")


HIDE = (
    "ALTER TABLE app.docs ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
    "CREATE POLICY nobody ON app.docs USING (id = 1)",
)


async def test_a_table_whose_rows_are_hidden_is_refused(owned_app: App, owner: User, root: str) -> None:
    """Row security that applies to our login: refused at once, with a way out that works."""
    servers.run(root, *HIDE)
    made = await steps.collection(owned_app)
    with pytest.raises(BadInput, match="row security hides rows of app.docs .* BYPASSRLS"):
        await people.attached(owned_app, made)
    assert await steps.rows(owned_app, "SELECT FROM revec.source") == []
    servers.run(root, f"ALTER ROLE {servers.OWNER} BYPASSRLS")
    await people.attached(owned_app, made)
    await people.settled(owned_app, made, EVERYTHING)


async def _hidden_later(app: App, owner: User, root: str) -> Collection:
    """Captured and indexed; then somebody switches row security on, and rows change."""
    made = await steps.collection(app)
    await people.attached(app, made)
    await people.settled(app, made, EVERYTHING)
    servers.run(root, *HIDE, "UPDATE app.docs SET note = 'seen'", "DELETE FROM app.docs WHERE id = 5")
    await steps.drain(app)
    return made


async def test_rows_hidden_later_are_not_mistaken_for_deleted(owned_app: App, owner: User, root: str) -> None:
    """The projector refuses to read what it may not see whole; mended, the real deletion goes through."""
    made = await _hidden_later(owned_app, owner, root)
    await assert_kept(owned_app, made, 'affected by row-level security policy for table "docs"')
    assert len(await people.changes(owned_app)) == 6
    servers.run(root, "TRUNCATE app.docs", FIVE)  # asks for a full pass: refused as well
    with pytest.raises(BadInput, match="row security hides"):
        await people.attached(owned_app, made)
    await assert_kept(owned_app, made, "row-level security")
    await owner.execute("ALTER TABLE app.docs NO FORCE ROW LEVEL SECURITY")
    await owner.execute("DELETE FROM app.docs WHERE id = 5")
    await people.attached(owned_app, made)
    await people.settled(owned_app, made, {key: row for key, row in EVERYTHING.items() if key != "5"})


async def test_mutant_a_projector_that_trusts_row_security_wipes_the_index(
    owned_app: App, owner: User, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same story without `row_security = off`: what policies hide is deleted. That line is the guard."""
    people.replaced(projector.SQL, "see_all_rows", "SELECT 1", monkeypatch)
    made = await _hidden_later(owned_app, owner, root)
    assert await people.faults(owned_app) == []
    assert list(await people.documents(owned_app, made)) == ["1"]  # of five, of which four exist


# --- the user's writes -------------------------------------------------------------------------------


async def test_writers_need_no_rights_of_ours(app: App, user: User, made: Collection, dsn: str) -> None:
    """A login that may write the table and nothing else, with a hostile search_path and temp tables."""
    role = f"writer_{people.database_of(dsn)}"
    await user.execute(f"CREATE ROLE {role} NOLOGIN")
    try:
        await user.execute(f"GRANT USAGE ON SCHEMA app TO {role}")
        await user.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON app.docs TO {role}")
        await user.execute(f"CREATE SCHEMA evil AUTHORIZATION {role}")
        async with user.transaction():
            await user.execute(f"SET LOCAL ROLE {role}")
            await user.execute(
                "CREATE TABLE evil.change (source_id text, old_key text, new_key text);"
                "CREATE FUNCTION evil.text(bigint) RETURNS text LANGUAGE sql AS $$ SELECT 'hijacked' $$;"
                "CREATE FUNCTION evil.int8out(bigint) RETURNS text LANGUAGE sql AS $$ SELECT 'hijacked' $$;"
                "CREATE DOMAIN evil.bigint AS int4"
            )
            await user.execute("CREATE TEMP TABLE change (source_id text, old_key text, new_key text)")
            await user.execute("SET LOCAL search_path = evil, pg_temp, pg_catalog")
            await user.execute("INSERT INTO app.docs VALUES (10, 'by a writer')")
            await user.execute("UPDATE app.docs SET title = 'by a writer' WHERE id = 1")
            await user.execute("DELETE FROM app.docs WHERE id = 2")
            for forbidden in ("SELECT FROM revec.change", "SELECT revec.capture_1()"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    async with user.transaction():
                        await user.execute(forbidden)
        await people.settled(app, made, await people.rows_of(user))
        assert (await (await user.execute("SELECT count(*) AS n FROM evil.change")).fetchall())[0].n == 0
    finally:
        await user.execute(f"DROP OWNED BY {role}")
        await user.execute(f"DROP ROLE {role}")


async def test_strict_isolation_meets_no_conflict_of_ours(
    app: App, user: User, another: User, made: Collection
) -> None:
    """Two serializable transactions that insert, which conflict with nothing, conflict not by us either."""
    for session in (user, another):
        await session.execute("BEGIN ISOLATION LEVEL SERIALIZABLE")
    await user.execute("INSERT INTO app.docs VALUES (11, 'one')")
    await another.execute("INSERT INTO app.docs VALUES (12, 'two')")
    await projector.project(app.database)
    await user.execute("INSERT INTO app.docs VALUES (13, 'one')")
    await user.execute("COMMIT")
    await another.execute("INSERT INTO app.docs VALUES (14, 'two')")
    await another.execute("COMMIT")
    await people.settled(app, made, await people.rows_of(user))


async def _crossing(one: User, two: User, watcher: User) -> list[BaseException | None]:
    """One deletes 1 then updates 2; two updates 2 then deletes 3. By rows, one waits for two, and that is all."""
    for session in (one, two):
        await session.execute("BEGIN")
        await session.execute("SET LOCAL deadlock_timeout = '50ms'")
    await one.execute("DELETE FROM app.docs WHERE id = 1")
    await two.execute("UPDATE app.docs SET title = 'two' WHERE id = 2")
    second = asyncio.create_task(two.execute("DELETE FROM app.docs WHERE id = 3"))
    waits = asyncio.create_task(people.waiting(watcher, two.info.backend_pid))
    await asyncio.wait([second, waits], return_when=asyncio.FIRST_COMPLETED)
    waits.cancel()

    async def to_the_end(session: User, last: asyncio.Task[object]) -> None:
        await last
        await session.execute("COMMIT")

    first = asyncio.create_task(one.execute("UPDATE app.docs SET title = 'one' WHERE id = 2"))
    ends = await asyncio.gather(to_the_end(one, first), to_the_end(two, second), return_exceptions=True)
    for session in (one, two):
        await session.execute("ROLLBACK") if session.info.transaction_status else None
    return list(ends)


async def test_captured_writers_wait_for_rows_only(
    app: App, user: User, another: User, made: Collection, dsn: str
) -> None:
    """Two transactions whose rows make no deadlock make none with our triggers either."""
    async with people.connected(dsn) as watcher:
        assert await _crossing(user, another, watcher) == [None, None]
    await people.settled(app, made, await people.rows_of(user))


async def test_mutant_capture_by_coalescing_upsert_deadlocks_the_users(
    user: User, another: User, made: Collection, dsn: str
) -> None:
    """The same two transactions, the trigger upserting one row per new key: what coalesces, locks."""
    await user.execute(
        "CREATE TABLE revec.coalesced (source_id int, new_key text, at timestamptz,"
        " UNIQUE NULLS NOT DISTINCT (source_id, new_key))"
    )
    await user.execute(
        "CREATE OR REPLACE FUNCTION revec.capture_1() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$"
        " BEGIN"
        "   INSERT INTO revec.coalesced"
        "   VALUES (1, CASE WHEN TG_OP <> 'DELETE' THEN NEW.id::text END, now())"
        "   ON CONFLICT (source_id, new_key) DO UPDATE SET at = excluded.at;"
        "   RETURN NULL;"
        " END $$"
    )
    async with people.connected(dsn) as watcher:
        ends = await _crossing(user, another, watcher)
    assert sum(isinstance(end, psycopg.errors.DeadlockDetected) for end in ends) == 1


@pytest.mark.parametrize("captured", [False, True])
async def test_the_users_own_deadlock_is_as_it_was(
    captured: bool, app: App, user: User, another: User, docs: None, dsn: str
) -> None:
    """Two rows in opposite order: one victim, with our triggers as without; the survivor's rows are indexed."""
    made = await steps.collection(app)
    if captured:
        await people.attached(app, made)
    for session in (user, another):
        await session.execute("BEGIN")
        await session.execute("SET LOCAL deadlock_timeout = '50ms'")
    write = "UPDATE app.docs SET title = %s WHERE id = %s"
    await user.execute(write, ("one", 1))
    await another.execute(write, ("two", 2))
    first = asyncio.create_task(user.execute(write, ("one", 2)))
    async with people.connected(dsn) as watcher:
        await people.waiting(watcher, user.info.backend_pid)
        ends = await asyncio.gather(first, another.execute(write, ("two", 1)), return_exceptions=True)
    for session in (user, another):
        await session.execute("COMMIT")
    assert sum(isinstance(end, psycopg.errors.DeadlockDetected) for end in ends) == 1
    if captured:
        await people.settled(app, made, await people.rows_of(user))


async def test_a_projector_in_the_middle_keeps_no_write_waiting(
    app: App, user: User, made: Collection, dsn: str
) -> None:
    """It holds its changes and documents; the same rows are edited again meanwhile, without a wait."""
    await user.execute("UPDATE app.docs SET title = 'first'")
    async with app.database.transaction() as conn:
        await conn.execute(projector.SQL.lock, {"source": 1})
        taken = await conn.execute(projector.SQL.claim, {"source": 1, "limit": 1000, "idle": True})
        assert len(await taken.fetchall()) == 5
        async with user.transaction():
            await user.execute("SET LOCAL lock_timeout = '1ms'")
            await user.execute("UPDATE app.docs SET title = 'second'")
            await user.execute("DELETE FROM app.docs WHERE id = 1")
    await people.settled(app, made, await people.rows_of(user))


# --- attaching to a table in use ------------------------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    people.replaced(
        attach.SQL, "lock_timeout", "SELECT set_config('lock_timeout', '200ms', true)", monkeypatch
    )


async def _waits_for_docs(watcher: User, table: str = "app.docs") -> None:
    async def someone() -> bool:
        found = await watcher.execute(
            "SELECT FROM pg_locks WHERE relation = %s::regclass AND NOT granted"
            " AND mode = 'ShareRowExclusiveLock'",
            (table,),
        )
        return bool(await found.fetchall())

    await people.until(someone)


async def test_attaching_behind_a_long_transaction_stalls_writers_briefly(
    app: App, user: User, another: User, docs: None, dsn: str, impatient: None
) -> None:
    """The triggers wait their turn, give way after the lock time-out, and miss no row of either writer."""
    made = await steps.collection(app)
    await user.execute("BEGIN")
    await user.execute("UPDATE app.docs SET title = 'in flight' WHERE id = 1")
    attaching = asyncio.create_task(people.attached(app, made))
    async with people.connected(dsn) as watcher:
        await _waits_for_docs(watcher)
    async with asyncio.timeout(people.PATIENCE):  # the long transaction is still open
        await another.execute("UPDATE app.docs SET title = 'behind it' WHERE id = 2")
    assert not attaching.done()
    await user.execute("COMMIT")
    await attaching
    await people.settled(app, made, await people.rows_of(user))


async def test_a_table_that_stays_locked_is_given_up_with_a_sentence(
    app: App, user: User, docs: None, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is half made: no source, no trigger, no function."""
    monkeypatch.setattr(attach, "LOCK_TRIES", 1)
    made = await steps.collection(app)
    async with user.transaction():
        await user.execute("UPDATE app.docs SET title = 'held' WHERE id = 1")
        with pytest.raises(Unavailable, match="app.docs stayed locked .* then run `revec init` again"):
            await people.attached(app, made)
    assert await steps.rows(app, "SELECT FROM revec.source") == []
    assert await steps.rows(app, "SELECT FROM pg_trigger WHERE tgname LIKE 'revec%%'") == []
    assert await steps.rows(app, "SELECT FROM pg_proc WHERE proname LIKE 'capture%%'") == []
    await people.attached(app, made)
    await people.settled(app, made, await people.rows_of(user))


async def test_attaching_gives_way_where_it_would_deadlock(app: App, user: User, dsn: str) -> None:
    """A transaction that writes a partition and then the parent: it goes through, attaching tries again."""
    await user.execute(
        "CREATE TABLE app.docs (id int PRIMARY KEY, title text, body text) PARTITION BY RANGE (id)"
    )
    await user.execute("CREATE TABLE app.low PARTITION OF app.docs FOR VALUES FROM (0) TO (100)")
    made = await steps.collection(app)
    await user.execute("BEGIN")
    await user.execute("INSERT INTO app.low VALUES (1, 'straight')")
    attaching = asyncio.create_task(people.attached(app, made))
    async with people.connected(dsn) as watcher:
        await _waits_for_docs(watcher, "app.low")
    await user.execute("INSERT INTO app.docs VALUES (2, 'through the parent')")
    await user.execute("COMMIT")
    await attaching
    await people.settled(app, made, {"1": ("straight", ""), "2": ("through the parent", "")})


async def test_attaching_twice_at_once_is_attaching_once(app: App, user: User, docs: None) -> None:
    """Two operators, one source, one set of triggers."""
    made = await steps.collection(app)
    first, second = await asyncio.gather(people.attached(app, made), people.attached(app, made))
    assert first == second
    assert len(await steps.rows(app, "SELECT FROM pg_trigger WHERE tgname LIKE 'revec%%'")) == 2
    await user.execute("DELETE FROM app.docs WHERE id = 1")
    assert await people.changes(app) == [("1", None)]
    await people.settled(app, made, await people.rows_of(user))
