"""Two layers: what each role may see and do, that no table of ours is left open, and what one layer means."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest
import pytest_asyncio
from psycopg import sql

from revec.app import App
from revec.cli.main import run
from revec.model.reading import Mode
from revec.postgres.database import Database, Role
from tests import servers, steps
from tests.conftest import settings_for
from tests.loopback import Loopback

WITHOUT_ROW_SECURITY = {
    "change",  # appended to by triggers on users' tables: nothing may fail there
    "schema_file",  # the ledger, read before any role exists
}
PLAIN = "plain_login"  # owns its database, may make no roles and was granted none

TABLES = """
    SELECT c.relname AS name, c.relrowsecurity AS enabled, c.relforcerowsecurity AS forced
      FROM pg_class c WHERE c.relnamespace = 'revec'::regnamespace AND c.relkind IN ('r', 'p')
"""


async def test_every_table_of_ours_has_row_security(any_app: App, loopback: Loopback) -> None:
    """Enabled and forced, the vectors' own tables included; two tables are left out, by name."""
    await steps.ready(any_app)
    tables = await steps.rows(any_app, TABLES)
    assert {row.name for row in tables} > {"document", "work", "route", "vectors_1", "vectors_2"}
    unprotected = {row.name for row in tables if not (row.enabled and row.forced)}
    assert unprotected == WITHOUT_ROW_SECURITY


async def test_every_policy_checks_what_is_written(any_app: App, loopback: Loopback) -> None:
    """A policy that lets write has WITH CHECK; one that has none is for reading."""
    await steps.ready(any_app)
    policies = await steps.rows(any_app, "SELECT * FROM pg_policies WHERE schemaname = 'revec'")
    tables = {row.name for row in await steps.rows(any_app, TABLES)} - WITHOUT_ROW_SECURITY
    for table in tables:
        names = {policy.policyname for policy in policies if policy.tablename == table}
        assert {"owner", "worker"} <= names <= {"owner", "worker", "reader"}, table
    for policy in policies:
        if policy.cmd == "SELECT":
            assert (policy.policyname, policy.roles) == ("reader", ["revec_reader"])
        else:
            assert (policy.cmd, policy.with_check) == ("ALL", "true")
        assert "public" not in policy.roles


async def test_nothing_of_ours_is_open_to_everybody(any_app: App, loopback: Loopback) -> None:
    """No right of PUBLIC on a table or on the schema."""
    await steps.ready(any_app)
    (found,) = await steps.rows(
        any_app,
        "SELECT bool_or(acl LIKE '=%%' OR acl LIKE '%%,=%%') AS open FROM ("
        " SELECT relacl::text AS acl FROM pg_class WHERE relnamespace = 'revec'::regnamespace"
        " UNION ALL SELECT nspacl::text FROM pg_namespace WHERE nspname = 'revec') AS acls",
        none=None,
    )
    assert not found.open


@pytest_asyncio.fixture
async def shared(any_app: App, loopback: Loopback) -> AsyncIterator[App]:
    """Documents of two tenants, searchable."""
    made = await steps.collection(any_app)
    for tenant in ("acme", "globex"):
        start = {"acme": 0, "globex": 5}[tenant]
        await steps.put(any_app, made, steps.drafts(5, start=start, tenant=tenant))
    await steps.drain(any_app)
    yield any_app


async def answer(app: App, query: str, role: Role, tenant: str | None = None) -> list[object]:
    async with app.database.transaction(role, tenant=tenant) as conn:
        return await (await conn.execute(query)).fetchall()


@pytest.mark.parametrize("table", ["document", "vectors_1", "unfolded"])
async def test_a_reader_sees_one_tenant(shared: App, table: str) -> None:
    """Its own rows; with no tenant, or an unknown one, none at all: it fails closed."""
    tenants = sql.SQL("SELECT DISTINCT tenant FROM {}").format(sql.Identifier("revec", table)).as_string()
    assert await answer(shared, tenants, "reader", "acme") == [("acme",)]
    assert await answer(shared, tenants, "reader", "globex") == [("globex",)]
    assert await answer(shared, tenants, "reader", None) == []
    assert await answer(shared, tenants, "reader", "") == []
    assert await answer(shared, tenants, "reader", "nobody") == []
    assert len(await answer(shared, tenants, "worker")) == 2


async def test_a_reader_sees_nothing_of_the_machinery(shared: App) -> None:
    """No right at all on what tells of other tenants."""
    of_its_tenant = {"document", "vectors_1", "posting", "unfolded", "lexicon"}
    open_to_all = {
        "collection",
        "source",
        "space",
        "index",
        "route",
        "installation",
        "fusion",
        "scale",
        "adopted",
    }
    hidden = {row.name for row in await steps.rows(shared, TABLES)} - of_its_tenant - open_to_all
    assert len(hidden) > 20
    for table in hidden:
        look = sql.SQL("SELECT FROM {}").format(sql.Identifier("revec", table)).as_string()
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await answer(shared, look, "reader", "acme")


async def test_a_reader_writes_nothing(shared: App) -> None:
    """Not even its own rows."""
    for write in (
        "UPDATE revec.document SET title = 'mine'",
        "DELETE FROM revec.document",
        "INSERT INTO revec.document (collection_id, source_id, key) VALUES (1, 1, 'x')",
        "DELETE FROM revec.vectors_1",
        "UPDATE revec.vectors_1 SET tenant = 'acme'",
        "UPDATE revec.route SET epoch = 0",
        "UPDATE revec.collection SET name = 'mine'",
        "TRUNCATE revec.document",
        "CREATE TABLE revec.mine (x int)",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await answer(shared, write, "reader", "acme")


async def test_a_worker_defines_nothing(shared: App) -> None:
    """It moves rows; tables are the owner's."""
    for write in ("DROP TABLE revec.vectors_1", "CREATE TABLE revec.x (y int)", "TRUNCATE revec.document"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await answer(shared, write, "worker")


async def test_a_role_ends_with_its_transaction(shared: App) -> None:
    """Also where the transaction failed: the next one on that connection is the owner's again."""
    with pytest.raises(psycopg.errors.DivisionByZero):
        await answer(shared, "SELECT 1/0", "reader", "acme")
    who = "SELECT current_user = session_user AS owner, current_setting('revec.tenant', true) AS tenant"
    for _ in range(10):
        (row,) = await answer(shared, who, "owner")
        assert row in {(True, None), (True, "")}


# --- one layer -------------------------------------------------------------------------------------


@pytest.fixture
def one_layer(maintenance: str) -> Iterator[str]:
    """A database of a login that may make no roles and was granted none of ours."""
    servers.run(maintenance, f"CREATE ROLE {PLAIN} LOGIN NOSUPERUSER NOCREATEROLE")
    try:
        with servers.copied(maintenance, "template0", "of_plain_login", owner=PLAIN) as dsn:
            servers.run(servers.at(maintenance, dbname="of_plain_login"), "CREATE EXTENSION vector")
            yield dsn
    finally:
        servers.run(maintenance, f"DROP ROLE {PLAIN}")


async def test_a_plain_login_has_one_layer_and_everything_works(one_layer: str, loopback: Loopback) -> None:
    """No roles can be taken: the queries alone keep tenants apart, and the whole job runs."""
    async with App(settings_for(one_layer, loopback.url), may_apply=True) as app:
        assert not app.database.two_layers
        made = await steps.ready(app)
        await steps.put(app, made, [steps.Draft("x", "of acme", "text", "acme")])
        await steps.drain(app)
        await app.commands.switch.cutover(made, why="test")
        reading = await app.retriever.search("c", "of acme", k=50, tenant="acme")
        assert [hit.id for hit in reading.hits] == ["x"]
        assert len((await app.retriever.search("c", "x", k=50, tenant="default")).hits) == 20
        await app.commands.switch.rollback(made, why="test")
        await steps.assert_oracle(app, made)


def test_one_layer_is_said_aloud(
    one_layer: str, loopback: Loopback, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`schema apply` says what is missing and what would bring it."""
    monkeypatch.setenv("REVEC_DSN", one_layer)
    assert run(["schema", "apply"]) == 0
    said = capsys.readouterr().err
    assert "One layer only" in said
    assert "CREATEROLE" in said


def test_two_layers_are_not_spoken_of(
    dsn: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The complement: where both are there, nothing is said."""
    monkeypatch.setenv("REVEC_DSN", dsn)
    assert run(["schema", "apply"]) == 0
    assert "layer" not in capsys.readouterr().err


async def test_a_login_that_may_make_roles_gets_two_layers(maintenance: str, loopback: Loopback) -> None:
    """CREATEROLE and no more than that: a managed database's usual administrator."""
    servers.run(maintenance, "CREATE ROLE administrator LOGIN NOSUPERUSER CREATEROLE")
    ours = ("revec_worker", "revec_reader")
    try:
        servers.run(maintenance, *(f"GRANT {role} TO administrator WITH ADMIN OPTION" for role in ours))
        with servers.copied(maintenance, "template0", "of_administrator", owner="administrator") as dsn:
            servers.run(servers.at(maintenance, dbname="of_administrator"), "CREATE EXTENSION vector")
            async with Database(dsn) as database:
                from revec.postgres import schema

                await schema.apply(database)
                assert database.two_layers
    finally:
        servers.run(maintenance, "DROP ROLE administrator")


async def test_where_nothing_may_be_called_by_everybody(maintenance: str, loopback: Loopback) -> None:
    """Default privileges that take EXECUTE from PUBLIC take it from none of our roles: the whole job runs."""
    with servers.copied(maintenance, "template0", "of_the_careful") as dsn:
        servers.run(dsn, "ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC")
        async with App(settings_for(dsn, loopback.url), may_apply=True) as app:
            assert app.database.two_layers
            made = await steps.ready(app)
            await steps.put(app, made, [steps.Draft("x", "of acme", "text", "acme")])
            await steps.drain(app)
            await app.commands.switch.cutover(made, why="test")
            for mode in Mode:
                reading = await app.retriever.search("c", "of acme", k=50, tenant="acme", mode=mode)
                assert [hit.id for hit in reading.hits] == ["x"], mode
            await steps.assert_oracle(app, made)
            (open_to_all,) = await steps.rows(
                app,
                "SELECT count(*) AS n FROM pg_proc p, aclexplode(proacl) WHERE grantee = 0 AND pronamespace = 'revec'::regnamespace",
            )
            assert open_to_all.n == 0
