"""Whatever the user does to a row, its document becomes what the row is, and nothing is paid for in vain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from revec.app import App
from revec.capture import projector
from revec.model.index import Collection
from revec.postgres import documents
from tests import steps
from tests.capture import people
from tests.capture.people import User
from tests.loopback import Loopback

EVERYTHING = {str(n): (f"title {n}", f"body {n}") for n in range(1, 6)}
FIVE = "INSERT INTO app.docs SELECT n, 'title ' || n, 'body ' || n FROM generate_series(1, 5) n"


@pytest_asyncio.fixture
async def docs(user: User) -> None:
    await user.execute(people.DOCS)
    await user.execute(FIVE)


# --- every way to write -----------------------------------------------------------------------------


async def key_change(user: User) -> None:
    await user.execute("UPDATE app.docs SET id = id + 100 WHERE id < 3")


async def keys_swapped(user: User) -> None:
    async with user.transaction():
        for old, new in ((1, -1), (2, 1), (-1, 2)):
            await user.execute("UPDATE app.docs SET id = %s WHERE id = %s", (new, old))


async def upsert(user: User) -> None:
    await user.execute(
        "INSERT INTO app.docs SELECT n, 'upserted', 'x' FROM generate_series(4, 8) n"
        " ON CONFLICT (id) DO UPDATE SET title = excluded.title"
    )
    await user.execute("INSERT INTO app.docs VALUES (1, 'ignored') ON CONFLICT DO NOTHING")


async def merge(user: User) -> None:
    await user.execute(
        "MERGE INTO app.docs d USING generate_series(3, 7) n ON d.id = n"
        " WHEN MATCHED AND n = 3 THEN DELETE WHEN MATCHED THEN UPDATE SET title = 'merged'"
        " WHEN NOT MATCHED THEN INSERT VALUES (n, 'merged in', '')"
    )


async def copy(user: User) -> None:
    async with user.cursor() as cursor, cursor.copy("COPY app.docs (id, title, body) FROM STDIN") as rows:
        for n in range(100, 130):
            await rows.write_row((n, f"copied {n}", "text"))


async def many_rows(user: User) -> None:
    await user.execute("UPDATE app.docs SET title = title || '!', body = upper(body)")
    await user.execute("DELETE FROM app.docs WHERE id % 2 = 0")


async def savepoints(user: User) -> None:
    async with user.transaction():
        await user.execute("UPDATE app.docs SET title = 'kept' WHERE id = 1")
        await user.execute("SAVEPOINT s")
        await user.execute("UPDATE app.docs SET title = 'taken back' WHERE id = 1")
        await user.execute("DELETE FROM app.docs WHERE id = 2")
        await user.execute("INSERT INTO app.docs VALUES (50, 'taken back too')")
        await user.execute("ROLLBACK TO SAVEPOINT s")
        await user.execute("INSERT INTO app.docs VALUES (51, 'kept')")


async def rollback(user: User) -> None:
    async with user.transaction(force_rollback=True):
        await user.execute("TRUNCATE app.docs")


async def there_and_back(user: User) -> None:
    async with user.transaction():
        await user.execute("INSERT INTO app.docs VALUES (60, 'short life')")
        await user.execute("DELETE FROM app.docs WHERE id = 60")
        await user.execute("DELETE FROM app.docs WHERE id = 1")
        await user.execute("INSERT INTO app.docs VALUES (1, 'born again')")


async def truncate(user: User) -> None:
    await user.execute("TRUNCATE app.docs")
    await user.execute("INSERT INTO app.docs VALUES (2, 'after it')")


async def truncate_cascade(user: User) -> None:
    await user.execute("CREATE TABLE app.parent (id bigint PRIMARY KEY)")
    await user.execute("ALTER TABLE app.docs ADD parent bigint REFERENCES app.parent")
    await user.execute("TRUNCATE app.parent CASCADE")
    await user.execute("ALTER TABLE app.docs DROP COLUMN parent")
    await user.execute("DROP TABLE app.parent")


async def cascade(user: User) -> None:
    await user.execute("CREATE TABLE app.parent AS SELECT id FROM app.docs")
    await user.execute("ALTER TABLE app.parent ADD PRIMARY KEY (id)")
    await user.execute(
        "ALTER TABLE app.docs ADD FOREIGN KEY (id) REFERENCES app.parent ON DELETE CASCADE ON UPDATE CASCADE"
    )
    await user.execute("DELETE FROM app.parent WHERE id = 1")
    await user.execute("UPDATE app.parent SET id = 77 WHERE id = 2")


WAYS = [
    key_change, keys_swapped, upsert, merge, copy, many_rows, savepoints, rollback, there_and_back, truncate,
    truncate_cascade, cascade,
]  # fmt: skip


async def test_every_way_to_write_is_followed(
    any_app: App, any_user: User, subtests: pytest.Subtests
) -> None:
    """What the table holds afterwards is what the documents and their vectors are, no matter how it got there."""
    await any_user.execute(people.DOCS)
    made = await steps.collection(any_app)
    await people.attached(any_app, made)
    for write in WAYS:
        with subtests.test(write.__name__):
            await any_user.execute("TRUNCATE app.docs")
            await any_user.execute(FIVE)
            await people.settled(any_app, made, EVERYTHING)
            await write(any_user)
            await people.settled(any_app, made, await people.rows_of(any_user))


# --- what counts as a change ------------------------------------------------------------------------


async def test_an_unrelated_column_costs_nothing(
    app: App, user: User, docs: None, loopback: Loopback
) -> None:
    """An edit of a column that no expression reads, and one that changes nothing, embed nothing."""
    made = await steps.collection(app)
    await people.attached(app, made)
    await steps.drain(app)
    loopback.clear()
    await user.execute("UPDATE app.docs SET note = 'seen'")
    await user.execute("UPDATE app.docs SET title = title")
    revs = await steps.rows(app, "SELECT rev FROM revec.document ORDER BY id")
    await people.settled(app, made, await people.rows_of(user))
    assert loopback.bill() == []
    assert await steps.rows(app, "SELECT rev FROM revec.document ORDER BY id") == revs
    assert await people.changes(app) == []


async def test_a_filter_takes_rows_out_and_in(any_app: App, any_user: User, loopback: Loopback) -> None:
    """`deleted_at IS NULL`: a soft-deleted row is not found, comes back when it is undeleted, and costs once."""
    app, user = any_app, any_user
    await user.execute(
        "CREATE TABLE app.docs (id int PRIMARY KEY, title text, body text, deleted_at timestamptz)"
    )
    await user.execute("INSERT INTO app.docs VALUES (1, 'a', 'b', NULL), (2, 'c', 'd', now())")
    made = await steps.collection(app)
    await people.attached(app, made, filter="deleted_at IS NULL")
    await people.settled(app, made, {"1": ("a", "b")})
    await user.execute("UPDATE app.docs SET deleted_at = CASE id WHEN 1 THEN now() END")
    await people.settled(app, made, {"2": ("c", "d")})
    gone = await app.retriever.search("c", "a\nb", k=5, tenant="default")
    assert [hit.id for hit in gone.hits] == ["2"]
    await user.execute("UPDATE app.docs SET deleted_at = NULL")
    await people.settled(app, made, {"1": ("a", "b"), "2": ("c", "d")})


async def test_a_filter_that_is_null_keeps_a_row_out(app: App, user: User, docs: None) -> None:
    """Unknown is not true, as in any WHERE."""
    made = await steps.collection(app)
    await people.attached(app, made, filter="note <> 'hidden'")
    await people.settled(app, made, {})
    await user.execute("UPDATE app.docs SET note = 'shown' WHERE id = 1")
    await people.settled(app, made, {"1": ("title 1", "body 1")})


async def test_a_row_that_moves_to_another_tenant_leaves_the_first(any_app: App, any_user: User) -> None:
    """It is deleted there and made anew here: never seen by both, and the text is not paid for twice."""
    app, user = any_app, any_user
    await user.execute("CREATE TABLE app.docs (id int PRIMARY KEY, title text, body text, org int)")
    await user.execute("INSERT INTO app.docs VALUES (1, 'a', 'b', 7), (2, 'c', 'd', 8), (3, 'e', 'f', NULL)")
    made = await steps.collection(app)
    await people.attached(app, made, tenant="'org-' || org")
    await steps.drain(app)
    before = await people.ids(app, made)

    async def seen(tenant: str) -> list[str]:
        found = await app.retriever.search("c", "a\nb", k=9, tenant=tenant)
        return sorted(hit.id for hit in found.hits)

    assert [await seen(tenant) for tenant in ("org-7", "org-8", "default")] == [["1"], ["2"], ["3"]]
    await user.execute("UPDATE app.docs SET org = 8 WHERE id = 1")
    await steps.drain(app)
    assert [await seen(tenant) for tenant in ("org-7", "org-8", "default")] == [[], ["1", "2"], ["3"]]
    after = await people.ids(app, made)
    assert (after["1"] != before["1"], after["2"]) == (True, before["2"])
    await people.settled(app, made, await people.rows_of(user))


async def test_columns_are_kept_as_metadata(app: App, user: User, loopback: Loopback) -> None:
    """Any type becomes JSON; a change of metadata alone is stored and embeds nothing."""
    await user.execute(
        "CREATE TABLE app.docs (id int PRIMARY KEY, title text, body text, url text, price numeric(20, 4),"
        " tags text[], extra jsonb, at timestamptz, n float8)"
    )
    await user.execute(
        "INSERT INTO app.docs VALUES (1, 'a', 'b', 'x\"y', 12345678.9, '{p,q}',"
        " '{\"deep\": [1, null, \"ü\"]}', '2026-01-02 03:04Z', 'Infinity')"
    )
    await user.execute("INSERT INTO app.docs VALUES (2, 'c', 'd')")
    made = await steps.collection(app)
    columns = ("url", "price", "tags", "extra", "at", "n")
    await people.attached(app, made, metadata=columns)
    await people.settled(app, made, await people.rows_of(user))
    one, two = await steps.rows(app, "SELECT metadata FROM revec.document ORDER BY key")
    assert one.metadata["url"] == 'x"y'
    assert one.metadata["price"] == 12345678.9
    assert one.metadata["tags"] == ["p", "q"]
    assert one.metadata["extra"] == {"deep": [1, None, "ü"]}
    assert one.metadata["n"] == "Infinity"
    assert two.metadata == dict.fromkeys(columns)
    loopback.clear()
    await user.execute("UPDATE app.docs SET url = 'moved'")
    await people.settled(app, made, await people.rows_of(user))
    found = await steps.rows(app, "SELECT metadata ->> 'url' AS url FROM revec.document")
    assert {row.url for row in found} == {"moved"}
    assert loopback.bill() == []


async def test_a_number_beyond_python_is_a_fault_and_not_a_crash(app: App, user: User) -> None:
    """A numeric of 5,000 digits as metadata: the source says so, the worker lives."""
    await user.execute("CREATE TABLE app.docs (id int PRIMARY KEY, title text, body text, big numeric)")
    await user.execute("INSERT INTO app.docs VALUES (1, 'a', 'b', 10::numeric ^ 5000)")
    made = await steps.collection(app)
    await people.attached(app, made, metadata=("big",))
    await steps.drain(app)
    (fault,) = await people.faults(app)
    assert fault.startswith("app.docs cannot be read: ")
    await user.execute("UPDATE app.docs SET big = 1")
    await people.attached(app, made, metadata=("big",))
    await people.settled(app, made, {"1": ("a", "b")})


# mapping, and the title and body that it makes of the row
EXPRESSIONS: list[tuple[dict[str, str], str, str]] = [
    ({"title": "title || ' 100% %s %(x)s %%'"}, "t'1 100% %s %(x)s %%", "b"),
    ({"title": "replace(title, '''', '\"')"}, 't"1', "b"),
    ({"body": "format('%s of %I', body, title)"}, "t'1", 'b of "t\'1"'),
    ({"body": "$q${braces} {0} $q$ || body"}, "t'1", "{braces} {0} b"),
    ({"title": "(SELECT string_agg(n::text, ',') FROM generate_series(1, 3) n)"}, "1,2,3", "b"),
    ({"title": "docs.title", "body": "id"}, "t'1", "1"),
    ({"title": "NULL", "body": "NULL"}, "", ""),
    ({"title": "CASE WHEN title LIKE 't%' THEN 'yes' END"}, "yes", "b"),
    ({"body": "key || k || kept"}, "t'1", "column keycolumn kcolumn kept"),
    ({"tenant": "''"}, "t'1", "b"),
    ({"tenant": "NULL", "filter": "id % 2 = 1"}, "t'1", "b"),
]


async def test_expressions_are_the_operators_own_sql(app: App, user: User, subtests: pytest.Subtests) -> None:
    """Percent signs, quotes, braces, subqueries, columns named like ours: as psql would have it."""
    await user.execute(
        "CREATE TABLE app.docs (id int PRIMARY KEY, title text, body text,"
        " key text DEFAULT 'column key', k text DEFAULT 'column k', kept text DEFAULT 'column kept')"
    )
    made = await steps.collection(app)
    for mapping, title, body in EXPRESSIONS:
        with subtests.test(mapping=mapping):
            await user.execute("TRUNCATE app.docs")
            await user.execute("INSERT INTO app.docs VALUES (1, 't''1', 'b')")
            await people.attached(app, made, **mapping)
            await people.settled(app, made, {"1": (title, body)})
            await user.execute("UPDATE app.docs SET id = 3")
            text = "3" if mapping.get("body") == "id" else body
            await people.settled(app, made, {"3": (title, text)})
            found = await steps.rows(app, "SELECT DISTINCT tenant FROM revec.document")
            assert [row.tenant for row in found] == ["default"]


async def test_nothing_at_all_is_a_document_without_a_vector(app: App, user: User) -> None:
    """NULL title, body and tenant: kept as an empty document, excluded with a reason, found when it has text."""
    await user.execute("CREATE TABLE app.docs (id int PRIMARY KEY, title text, body text, org text)")
    await user.execute("INSERT INTO app.docs VALUES (1), (2), (3)")
    await user.execute("UPDATE app.docs SET body = 'text', org = '' WHERE id = 2")
    made = await steps.collection(app)
    await people.attached(app, made, tenant="org")
    await people.settled(app, made, {"1": ("", ""), "2": ("", "text"), "3": ("", "")})
    assert len(await steps.rows(app, "SELECT FROM revec.excluded")) == 2
    await user.execute("UPDATE app.docs SET title = 'now' WHERE id = 1")
    await people.settled(app, made, {"1": ("now", ""), "2": ("", "text"), "3": ("", "")})


# --- full passes --------------------------------------------------------------------------------------


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projector, "PAGE", 10)


@pytest_asyncio.fixture
async def many(user: User, docs: None) -> AsyncIterator[None]:
    """Five rows and 90 more: ten pages."""
    await user.execute(
        "INSERT INTO app.docs SELECT n, 'title ' || n, 'body ' || n FROM generate_series(6, 95) n"
    )
    yield


async def in_half(app: App) -> str | None:
    (row,) = await steps.rows(app, "SELECT scan FROM revec.source")
    return row.scan


async def until_half(app: App, half: str | None) -> None:
    while await in_half(app) != half:
        assert await projector.project(app.database)


async def test_a_full_pass_among_writes_misses_nothing(app: App, user: User, many: None, pages: None) -> None:
    """Rows written before, behind and ahead of the pass, at every page of it: the end is the table."""
    made = await steps.collection(app)
    await people.attached(app, made)
    step = 0
    while await projector.project(app.database):
        step += 1
        if step <= 12:
            await user.execute("UPDATE app.docs SET body = 'edit ' || %s WHERE id %% 12 = %s", (step, step))
            await user.execute("DELETE FROM app.docs WHERE id IN (%s, %s)", (step * 7, 96 - step * 3))
            await user.execute("INSERT INTO app.docs VALUES (%s, 'low'), (%s, 'high')", (-step, 1000 + step))
            await user.execute("UPDATE app.docs SET id = id + 2000 WHERE id = %s", (step * 5,))
    assert step > 12
    await people.settled(app, made, await people.rows_of(user))


@pytest.mark.parametrize("half", [projector.ROWS, projector.DOCUMENTS])
async def test_a_truncate_during_a_pass_empties_all_the_same(
    half: str, app: App, user: User, many: None, pages: None
) -> None:
    """In either half: what the pass had read goes again, what came after stays."""
    made = await steps.collection(app)
    await people.attached(app, made)
    await until_half(app, half)
    for _ in range(3):
        await projector.project(app.database)
    assert await in_half(app) == half
    await user.execute("TRUNCATE app.docs")
    await user.execute("INSERT INTO app.docs VALUES (3, 'after it'), (500, 'and this')")
    await people.settled(app, made, {"3": ("after it", ""), "500": ("and this", "")})


async def test_a_pass_comes_to_its_end_under_truncates_that_never_end(
    app: App, user: User, many: None, pages: None
) -> None:
    """A staging partition emptied again and again asks for passes; each one is finished first."""
    made = await steps.collection(app)
    source = await people.attached(app, made)
    reached: set[str | None] = set()
    for _ in range(30):  # one TRUNCATE of some partition per page: as its trigger says it
        await user.execute("INSERT INTO revec.change (source_id) VALUES (%s)", (source,))
        await projector.project(app.database)
        reached.add(await in_half(app))
    assert reached == {projector.ROWS, projector.DOCUMENTS, None}
    await people.settled(app, made, await people.rows_of(user))


async def test_a_changed_mapping_reads_everything_again(
    app: App, user: User, many: None, pages: None, loopback: Loopback
) -> None:
    """Another body: every document is made anew, and only then paid for; the same mapping again does nothing."""
    made = await steps.collection(app)
    await people.attached(app, made)
    await people.settled(app, made, await people.rows_of(user))
    loopback.clear()
    await people.attached(app, made)
    assert not await projector.project(app.database)
    await people.attached(app, made, body="upper(body)", filter="id % 2 = 0")
    rows = {key: (title, body.upper()) for key, (title, body) in (await people.rows_of(user)).items()}
    await people.settled(app, made, {key: row for key, row in rows.items() if int(key) % 2 == 0})
    assert len({line["text"] for line in loopback.bill()}) == 47


@pytest.mark.parametrize("first", ["slug", "id", "u", "both"])
async def test_a_changed_key_gives_every_row_its_new_identity(
    first: str, app: App, user: User, pages: None
) -> None:
    """Documents and changes of the old key, whatever it looked like, are gone; none of them stands in the way."""
    await user.execute(
        "CREATE TABLE app.docs (id integer NOT NULL UNIQUE, slug text NOT NULL UNIQUE, title text, body text,"
        " u uuid NOT NULL UNIQUE DEFAULT gen_random_uuid(), UNIQUE (id, slug))"
    )
    await user.execute(
        "INSERT INTO app.docs (id, slug, title, body)"
        " SELECT n, 's' || 40 - n, 'title ' || n, '' FROM generate_series(1, 30) n"
    )
    keys = {"slug": ("slug",), "id": ("id",), "u": ("u",), "both": ("id", "slug")}
    shown = {"slug": "slug", "id": "id", "u": "u", "both": "jsonb_build_array(id, slug)"}
    made = await steps.collection(app)
    await people.attached(app, made, key=keys[first])
    await people.project(app)
    for after, key in keys.items():
        await user.execute("UPDATE app.docs SET title = title || '!' WHERE id < 5")  # old keys, not yet read
        await people.attached(app, made, key=key)
        await user.execute("DELETE FROM app.docs WHERE id = (SELECT max(id) FROM app.docs)")
        await people.projected(app, made, await people.rows_of(user, key=shown[after]))
    await people.settled(app, made, await people.rows_of(user, key=shown["both"]))


async def test_writes_without_triggers_are_found_by_a_new_pass(app: App, user: User, many: None) -> None:
    """Replica role, as logical replication and restores write: unseen, until the table is read again."""
    made = await steps.collection(app)
    source = await people.attached(app, made)
    await people.settled(app, made, before := await people.rows_of(user))
    async with user.transaction():
        await user.execute("SET LOCAL session_replication_role = replica")
        await user.execute("DELETE FROM app.docs WHERE id < 10")
        await user.execute("UPDATE app.docs SET body = 'replicated' WHERE id = 20")
        await user.execute("INSERT INTO app.docs VALUES (200, 'replicated')")
    await people.settled(app, made, before)
    async with app.database.transaction() as conn:
        await conn.execute(
            "UPDATE revec.source SET scan = 'rows', scan_after = NULL WHERE id = %s", (source,)
        )
    await people.settled(app, made, await people.rows_of(user))


@pytest.mark.parametrize(
    "lose",
    [
        "ALTER TABLE app.docs DISABLE TRIGGER ALL",
        "ALTER TABLE app.docs DISABLE TRIGGER revec_1_rows",
        "ALTER TABLE app.docs ENABLE REPLICA TRIGGER revec_1_truncate",
        "DROP TRIGGER revec_1_rows ON app.docs",
        "DROP TABLE app.docs; CREATE TABLE app.docs (id bigint PRIMARY KEY, title text, body text)",
        (
            "ALTER TABLE app.docs RENAME TO gone;"
            " CREATE TABLE app.docs (id bigint PRIMARY KEY, title text, body text)"
        ),
    ],
)
async def test_triggers_that_were_lost_come_back_and_the_table_is_read_again(
    lose: str, app: App, user: User, docs: None
) -> None:
    """Switched off, dropped, or gone with the table: `init` mends it and catches up with what was missed."""
    made = await steps.collection(app)
    await people.attached(app, made)
    await people.settled(app, made, await people.rows_of(user))
    for statement in lose.split(";"):
        await user.execute(statement)
    await user.execute("DELETE FROM app.docs WHERE id = 1")
    await user.execute("INSERT INTO app.docs VALUES (99, 'missed')")
    await people.attached(app, made)
    await people.settled(app, made, await people.rows_of(user))
    await user.execute("TRUNCATE app.docs")
    await user.execute("INSERT INTO app.docs VALUES (100, 'seen')")
    await people.settled(app, made, {"100": ("seen", "")})


# --- several at once ------------------------------------------------------------------------------------


class Held:
    """The projector stops before it writes, until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.there, self.go = asyncio.Event(), asyncio.Event()
        put = documents.put

        async def held(*args: Any) -> None:
            self.there.set()
            await self.go.wait()
            await put(*args)

        monkeypatch.setattr(documents, "put", held)


async def test_an_edit_while_its_row_is_being_projected_wins(
    app: App, user: User, docs: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row was read, then changed, then written as it was: the second change brings the last word."""
    made = await steps.collection(app)
    await people.attached(app, made)
    await people.project(app)
    await user.execute("UPDATE app.docs SET title = 'read'")
    held = Held(monkeypatch)
    running = asyncio.create_task(projector.project(app.database))
    await held.there.wait()
    await user.execute("UPDATE app.docs SET title = 'last word' WHERE id = 1")  # waits for nobody
    await user.execute("DELETE FROM app.docs WHERE id = 2")
    held.go.set()
    assert await running
    assert (await people.documents(app, made))["1"] == ("read", "body 1")
    await people.settled(app, made, await people.rows_of(user))


async def test_two_projectors_share_the_sources(
    app: App, user: User, docs: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one has a source in hand the other goes past it, to a source that is free."""
    await user.execute("CREATE TABLE app.faq (id int PRIMARY KEY, title text, body text)")
    await user.execute("INSERT INTO app.faq VALUES (100, 'free', '')")
    made = await steps.collection(app)
    await people.attached(app, made)
    held = Held(monkeypatch)
    first = asyncio.create_task(projector.project(app.database))
    await held.there.wait()
    monkeypatch.undo()
    await people.attached(app, made, "app.faq")
    while await projector.project(app.database):
        pass
    assert [title for title, _ in (await people.documents(app, made)).values()] == ["free"]
    held.go.set()
    await first
    await steps.drain(app)
    assert len(await people.documents(app, made)) == 6
    await steps.assert_oracle(app, made)


async def test_a_late_commit_is_not_passed_by(app: App, user: User, another: User, docs: None) -> None:
    """A change with a lower number that commits later than its successors is projected all the same."""
    made = await steps.collection(app)
    await people.attached(app, made)
    await people.project(app)
    async with user.transaction():
        await user.execute("UPDATE app.docs SET title = 'slow' WHERE id = 1")
        await another.execute("UPDATE app.docs SET title = 'quick' WHERE id = 2")
        await people.project(app)
        assert (await people.documents(app, made))["2"] == ("quick", "body 2")
        assert (await people.documents(app, made))["1"] == ("title 1", "body 1")
    await people.settled(app, made, await people.rows_of(user))


async def test_a_storm_of_writers_and_projectors_ends_at_the_table(app: App, dsn: str, user: User) -> None:
    """Four writers, three projectors, few keys: no error for anybody, and the end is the table."""
    await user.execute(people.DOCS)
    made: Collection = await steps.collection(app)
    await people.attached(app, made)
    writing = asyncio.Event()

    async def write(seed: int) -> None:
        async with people.connected(dsn) as conn:
            for n in range(60):
                key = (seed * 7 + n * 3) % 11
                async with conn.transaction():
                    if n % 5 == 4:
                        await conn.execute("DELETE FROM app.docs WHERE id = %s", (key,))
                    else:
                        await conn.execute(
                            "INSERT INTO app.docs VALUES (%s, %s, '') ON CONFLICT (id)"
                            " DO UPDATE SET title = excluded.title, id = excluded.id",
                            (key, f"{seed} {n}"),
                        )

    async def follow() -> None:
        while not writing.is_set():
            await projector.project(app.database)

    async with asyncio.TaskGroup() as tasks:
        followers = [tasks.create_task(follow()) for _ in range(3)]
        async with asyncio.TaskGroup() as writers:
            for seed in range(4):
                writers.create_task(write(seed))
        writing.set()
    assert all(task.done() for task in followers)
    await people.settled(app, made, await people.rows_of(user))


# --- long rows --------------------------------------------------------------------------------------


async def test_a_long_row_is_moved_inside_the_server(
    any_app: App, any_user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its text never comes here; its edits, its tenant, its filter and its end are those of any row."""
    app, handed = any_app, []
    put = documents.put

    async def witnessed(conn: Any, source_id: int, drafts: Any) -> None:
        handed.extend(drafts)
        await put(conn, source_id, drafts)

    monkeypatch.setattr(documents, "put", witnessed)
    monkeypatch.setattr(projector, "LONG", 1_000)
    await any_user.execute(people.DOCS)
    await any_user.execute(FIVE)
    made = await steps.collection(app)
    mapping = {"tenant": "coalesce(note, 'mine')", "filter": "title <> 'hidden'", "metadata": ("note",)}
    await people.attached(app, made, **mapping)
    for change in (
        "UPDATE app.docs SET body = repeat('long ', 300) WHERE id IN (2, 4)",
        "UPDATE app.docs SET body = repeat('other', 300), note = 'theirs' WHERE id = 2",
        "UPDATE app.docs SET title = repeat('t', 1200), body = '' WHERE id = 5",
        "UPDATE app.docs SET body = 'short again' WHERE id = 4",
        "TRUNCATE app.docs",
        "INSERT INTO app.docs SELECT n, 't', repeat('x', n * 300) FROM generate_series(1, 9) n",
    ):
        await any_user.execute(change)
        await people.settled(app, made, await people.rows_of(any_user))
    (tenant,) = await steps.rows(app, "SELECT tenant, metadata FROM revec.document WHERE key = '9'")
    assert (tenant.tenant, tenant.metadata) == ("mine", {"note": None})
    await any_user.execute("UPDATE app.docs SET title = 'hidden' WHERE id = 9")
    await people.settled(app, made, {k: v for k, v in (await people.rows_of(any_user)).items() if k != "9"})
    await any_user.execute("DELETE FROM app.docs WHERE id > 2")
    await people.settled(app, made, await people.rows_of(any_user))
    assert max(len(draft.title) + len(draft.body) for draft in handed) < 1_000


async def test_a_long_row_that_leaves_its_tenant_in_mid_reading(
    any_app: App, any_user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody's text is ever filed under another tenant, not for a moment."""
    app, seen = any_app, []
    move = documents.move

    async def late(conn: Any, source_id: int, tenants: Any, rows: Any) -> None:
        if tenants and not seen:
            seen.append(tenants)
            await any_user.execute(
                "UPDATE app.docs SET note = 'theirs', title = 'secret', body = repeat('secret', 300) WHERE id = 1"
            )
        await move(conn, source_id, tenants, rows)
        found = await conn.execute(
            "SELECT key FROM revec.document WHERE tenant = 'mine' AND title = 'secret'"
        )
        assert await found.fetchall() == []

    monkeypatch.setattr(documents, "move", late)
    monkeypatch.setattr(projector, "LONG", 1_000)
    await any_user.execute(people.DOCS)
    await any_user.execute(FIVE)
    await any_user.execute("UPDATE app.docs SET body = repeat('long ', 300) WHERE id = 1")
    made = await steps.collection(app)
    await people.attached(app, made, tenant="coalesce(note, 'mine')")
    while await projector.project(app.database):
        pass
    assert seen
    ((tenant, title),) = await steps.rows(app, "SELECT tenant, title FROM revec.document WHERE key = '1'")
    assert (tenant, title) == ("theirs", "secret")
