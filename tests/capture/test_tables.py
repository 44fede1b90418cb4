"""Which tables can be sources, and what identity their rows have."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from revec.app import App
from revec.capture import projector
from revec.model.errors import BadInput
from tests import steps
from tests.capture import people
from tests.capture.people import User


async def test_a_plain_table_is_read_and_followed(any_app: App, any_user: User) -> None:
    """Rows from before, and every insert, edit and delete after, are searchable; then nothing is left over."""
    app, user = any_app, any_user
    await user.execute(people.DOCS)
    await user.execute(
        "INSERT INTO app.docs SELECT n, 'title ' || n, 'body ' || n FROM generate_series(1, 20) n"
    )
    made = await steps.collection(app)
    await people.attached(app, made)
    await people.settled(app, made, await people.rows_of(user))

    await user.execute("INSERT INTO app.docs VALUES (21, 'fresh', 'from the press')")
    await user.execute("UPDATE app.docs SET body = 'edited' WHERE id = 2")
    await user.execute("DELETE FROM app.docs WHERE id = 3")
    expected = await people.rows_of(user)
    assert len(expected) == 20
    await people.settled(app, made, expected)
    found = await app.retriever.search("c", "fresh\nfrom the press", k=1, tenant="default")
    assert found.hits[0].id == "21"
    assert await people.changes(app) == []


async def test_a_partitioned_table_is_one_source(any_app: App, any_user: User) -> None:
    """Writes to the parent, straight to a partition, moves between partitions, both TRUNCATEs: all is followed."""
    app, user = any_app, any_user
    await user.execute(
        "CREATE TABLE app.docs (id bigint, region text, title text, body text, PRIMARY KEY (region, id))"
        " PARTITION BY LIST (region)"
    )
    for region in ("eu", "us"):
        await user.execute(f"CREATE TABLE app.docs_{region} PARTITION OF app.docs FOR VALUES IN ('{region}')")
    await user.execute("INSERT INTO app.docs SELECT n, 'eu', 'eu ' || n, 'text' FROM generate_series(1, 6) n")
    made = await steps.collection(app)
    await people.attached(app, made)
    key = "jsonb_build_array(region, id)"

    await user.execute("INSERT INTO app.docs VALUES (1, 'us', 'through the parent', '')")
    await user.execute("INSERT INTO app.docs_us VALUES (2, 'us', 'straight', 'into it')")
    await user.execute("UPDATE app.docs_eu SET body = 'edited straight' WHERE id = 1")
    await user.execute("DELETE FROM app.docs_eu WHERE id = 2")
    await user.execute("UPDATE app.docs SET region = 'us' WHERE id = 3")
    await people.settled(app, made, await people.rows_of(user, key=key))
    assert '["us", 3]' in await people.documents(app, made)

    await user.execute("TRUNCATE app.docs_us")
    await people.settled(app, made, await people.rows_of(user, key=key))
    assert len(await people.documents(app, made)) == 4
    await user.execute("INSERT INTO app.docs_us VALUES (9, 'us', 'again', '')")
    await user.execute("TRUNCATE app.docs")
    await people.settled(app, made, {})


async def test_a_partition_that_comes_later_is_followed(app: App, user: User) -> None:
    """Its writes are captured at once; `init` again reads what it brought along and hears its TRUNCATE."""
    await user.execute(
        "CREATE TABLE app.docs (id bigint PRIMARY KEY, title text, body text) PARTITION BY RANGE (id)"
    )
    await user.execute("CREATE TABLE app.low PARTITION OF app.docs FOR VALUES FROM (0) TO (100)")
    await user.execute("INSERT INTO app.docs VALUES (1, 'low', '')")
    made = await steps.collection(app)
    await people.attached(app, made)
    await people.settled(app, made, {"1": ("low", "")})

    await user.execute("CREATE TABLE app.high (id bigint PRIMARY KEY, title text, body text)")
    await user.execute("INSERT INTO app.high VALUES (100, 'brought along', '')")
    await user.execute("ALTER TABLE app.docs ATTACH PARTITION app.high FOR VALUES FROM (100) TO (200)")
    await user.execute("INSERT INTO app.high VALUES (101, 'written later', '')")
    await people.settled(app, made, {"1": ("low", ""), "101": ("written later", "")})

    await people.attached(app, made)
    await people.settled(app, made, await people.rows_of(user))
    assert "100" in await people.documents(app, made)
    await user.execute("TRUNCATE app.high")
    await people.settled(app, made, {"1": ("low", "")})


# name: the columns of the key, the values, how one of them reads as a document's key
KEYS: dict[str, tuple[str, list[tuple[Any, ...]], str]] = {
    "bigint": ("id bigint", [(n * 10**17,) for n in range(-3, 9)], "-300000000000000000"),
    "smallint": ("id smallint", [(n,) for n in range(-4, 12)], "11"),
    "uuid": ("id uuid", [(UUID(int=n << 120),) for n in range(12)], str(UUID(int=11 << 120))),
    "text": (
        "id text",
        [
            (key,)
            for key in (
                "plain",
                "with 'single' and \"double\"",
                "per%cent %s",
                "back\\slash",
                "tab\tnew\nline",
                "Ünïcödé",
                "日本",
                "👩‍🚀",
                "é",
                "e\u0301",
                "",
                " ",
                "null",
                "[1, 2]",
                '{"a":1}',
                "$1",
                "--",
                ";",
            )
        ],
        "with 'single' and \"double\"",
    ),
    "varchar": ("id varchar(20)", [(f"key {n}",) for n in range(12)], "key 3"),
    "character": ("id char(8)", [(f"k{n}",) for n in range(12)], "k7"),
    "numeric": ("id numeric", [(f"{n}.50",) for n in range(-2, 11)], "-2.50"),
    "composite": (
        "site integer, id bigint",
        [(site, n) for site in (2, 10, 100) for n in range(4)],
        "[10, 3]",
    ),
    "composite of texts": (
        "lang text, slug text",
        [(lang, slug) for lang in ("de", 'q"uote') for slug in ("a,b", "[x]", "ü", "c\\d")],
        '["q\\"uote", "a,b"]',
    ),
    "composite with uuid and numeric": (
        "a uuid, b numeric, c char(4)",
        [(UUID(int=n), "1.10", "x") for n in range(8)],
        '["00000000-0000-0000-0000-000000000003", 1.10, "x   "]',
    ),
    # Columns named like what we select: ORDER BY must not mean ours.
    "a column named key": ("key integer", [(n,) for n in range(1, 40, 3)], "13"),
    "columns named tenant and title": (
        "tenant integer, title integer",
        [(tenant, n) for tenant in (2, 10, 100) for n in (1, 5, 30)],
        "[10, 30]",
    ),
    "awkward column names": (
        '"The ""Id"" 100%" integer, "a.b" text',
        [(n, "x") for n in range(12)],
        '[7, "x"]',
    ),
}


async def test_every_kind_of_key_is_an_identity(
    app: App, user: User, monkeypatch: pytest.MonkeyPatch, subtests: pytest.Subtests
) -> None:
    """Read in pages, edited and deleted by its key; a hit's id is the key as text, or a JSON array."""
    monkeypatch.setattr(projector, "PAGE", 3)
    for place, (name, (columns, keys, shown)) in enumerate(KEYS.items()):
        with subtests.test(name):
            table, collection = f"app.docs{place}", f"c{place}"
            await _with_rows(user, table, columns, keys)
            made = await steps.collection(app, collection)
            await people.attached(app, made, table, title="'t'", body="words")
            await people.project(app)
            before = await people.ids(app, made)
            assert len(before) == len(keys)
            assert shown in before

            await user.execute(f"UPDATE {table} SET words = 'edited ' || n WHERE n % 2 = 0")
            await user.execute(f"DELETE FROM {table} WHERE n % 4 = 1")
            await people.project(app)
            found = await people.documents(app, made)
            assert sorted(body for _, body in found.values()) == sorted(
                f"{'words' if n % 2 else 'edited'} {n}" for n in range(len(keys)) if n % 4 != 1
            )
            after = await people.ids(app, made)
            assert {key: before[key] for key in after} == after  # edited, never made anew
            await steps.drain(app)
            key, (_, words) = max(found.items(), key=lambda each: each[0] == shown)
            answer = await app.retriever.search(collection, f"t\n{words}", k=1, tenant="default")
            assert answer.hits[0].id == key
            await user.execute(f"TRUNCATE {table}")
            await people.settled(app, made, {})


async def _with_rows(user: User, table: str, columns: str, keys: list[tuple[Any, ...]]) -> None:
    names = ", ".join(each.rsplit(" ", 1)[0] for each in columns.split(", "))
    await user.execute(f"CREATE TABLE {table} ({columns}, words text, n integer, PRIMARY KEY ({names}))")
    places = ", ".join(["%s"] * len(keys[0]))
    async with user.cursor() as cursor:
        await cursor.executemany(
            f"INSERT INTO {table} VALUES ({places}, %s, %s)",
            [(*key, f"words {n}", n) for n, key in enumerate(keys)],
        )


async def test_several_sources_with_equal_keys_are_told_apart(any_app: App, any_user: User) -> None:
    """Two tables and a push, one key: three documents, each hit says where it is from."""
    app, user = any_app, any_user
    made = await steps.collection(app)
    for table in ("app.news", "app.faq"):
        await user.execute(f"CREATE TABLE {table} (id integer PRIMARY KEY, title text, body text)")
        await user.execute(f"INSERT INTO {table} VALUES (1, '{table}', 'one')")
        await people.attached(app, made, table)
    await steps.put(app, made, steps.drafts(1, start=1))
    await steps.drain(app)
    found = await app.retriever.search("c", "app.faq\none", k=5, tenant="default")
    assert [hit.id for hit in found.hits] == ["1", "1", "1"]
    assert found.hits[0].source == "app.faq"
    assert {hit.source for hit in found.hits} == {"app.news", "app.faq", "push"}

    await user.execute("DELETE FROM app.news")
    await user.execute("UPDATE app.faq SET title = 'edited'")
    await steps.drain(app)
    left = await steps.rows(app, "SELECT title FROM revec.document ORDER BY title")
    assert [row.title for row in left] == ["document 1", "edited"]
    await steps.assert_oracle(app, made)


# as the table is made, as revec.toml names it
NAMES = [
    ('app."Mixed Case"', 'app."Mixed Case"'),
    ('app."with.dot"', 'app."with.dot"'),
    ('app."quo""te"', 'app."quo""te"'),
    ('app."100%"', 'app."100%"'),
    ('"Other Schema"."T"', '"Other Schema"."T"'),
    ("app.folded", "APP.Folded"),
    ("public.unqualified", "unqualified"),
    ('public."Unqualified Too"', '"Unqualified Too"'),
]


async def test_names_are_written_as_in_sql(app: App, user: User, subtests: pytest.Subtests) -> None:
    """Quoted names keep their case, spaces, dots and quotes; unquoted ones fold, as everywhere in Postgres."""
    await user.execute('CREATE SCHEMA "Other Schema"')
    made = await steps.collection(app)
    for table, name in NAMES:
        with subtests.test(name):
            await user.execute(
                f'CREATE TABLE {table} ("Doc Id" integer PRIMARY KEY, "Title" text, "50%" text, "select" text)'
            )
            await user.execute(f"INSERT INTO {table} VALUES (1, 'one', 'half', 'kept')")
            await people.attached(
                app,
                made,
                name,
                key=("Doc Id",),
                title='"Title"',
                body='"50%"',
                metadata=("50%", "select"),
            )
            await people.settled(app, made, {"1": ("one", "half")})
            await user.execute(f"UPDATE {table} SET \"50%\" = 'whole'")
            await people.settled(app, made, {"1": ("one", "whole")})
            (row,) = await steps.rows(app, "SELECT metadata FROM revec.document")
            assert row.metadata == {"50%": "whole", "select": "kept"}
            await user.execute(f"TRUNCATE {table}")
            await people.settled(app, made, {})


async def test_partitions_with_awkward_names(app: App, user: User) -> None:
    """A partition's name may be anything, and it may live in another schema."""
    await user.execute('CREATE SCHEMA "Part s"')
    await user.execute(
        "CREATE TABLE app.docs (id integer PRIMARY KEY, title text, body text) PARTITION BY RANGE (id)"
    )
    await user.execute('CREATE TABLE "Part s"."p.1 ""q""" PARTITION OF app.docs FOR VALUES FROM (0) TO (10)')
    made = await steps.collection(app)
    await people.attached(app, made)
    await user.execute("INSERT INTO app.docs VALUES (1, 'a', 'b')")
    await people.settled(app, made, {"1": ("a", "b")})
    await user.execute('TRUNCATE "Part s"."p.1 ""q"""')
    await people.settled(app, made, {})


# what there is, what is asked for, what is said
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("SELECT 1", {"table": "app.nowhere"}, "there is no table app.nowhere"),
    ("SELECT 1", {"table": "no.where"}, "there is no table no.where"),
    ("SELECT 1", {"table": "a.b.c.d"}, "there is no table a.b.c.d"),
    ("SELECT 1", {"table": 'app."open'}, 'there is no table app."open'),
    ("SELECT 1", {"table": ""}, "there is no table"),
    ("SELECT 1", {"table": "revec.document"}, "revec.document is Revec's own"),
    ("CREATE VIEW app.docs AS SELECT 1 AS id", {}, "app.docs is no table"),
    ("CREATE TABLE app.docs (title text)", {}, "ADD PRIMARY KEY"),
    ("CREATE TABLE app.docs (id int UNIQUE, title text, body text)", {}, "SET NOT NULL"),
    ("CREATE TABLE app.docs (id date PRIMARY KEY, title text)", {}, "is date; a key may be bigint"),
    (people.DOCS, {"key": ("title",)}, r"no unique index .* \(title\): use \(id\) as its key"),
    (people.DOCS, {"key": ("nope",)}, r"use \(id\)"),
    (people.DOCS, {"metadata": ("nope",)}, "no column 'nope'"),
    (people.DOCS, {"body": "text"}, 'column "text" does not exist'),
    (people.DOCS, {"body": "body ||"}, "syntax error"),
    (people.DOCS, {"title": "'; DROP TABLE app.docs; --"}, "do not run"),
    (people.DOCS, {"filter": "id"}, "do not run"),
    (people.DOCS, {"body": "count(*)"}, "do not run"),
    (
        f"{people.DOCS}; CREATE TABLE app.child () INHERITS (app.docs)",
        {},
        "child tables",
    ),
]


async def test_a_table_that_cannot_serve_is_refused_in_a_sentence(
    app: App, user: User, subtests: pytest.Subtests
) -> None:
    """What is wrong, and the way out; nothing is left behind in our tables or on the user's."""
    made = await steps.collection(app)
    for ddl, mapping, sentence in REFUSED:
        with subtests.test(ddl=ddl, mapping=mapping):
            await user.execute("DROP SCHEMA app CASCADE")
            await user.execute("CREATE SCHEMA app")
            await user.execute(ddl)
            with pytest.raises(BadInput, match=sentence):
                await people.attached(app, made, **mapping)
            assert await steps.rows(app, "SELECT FROM revec.source") == []
            assert await steps.rows(app, "SELECT FROM pg_trigger WHERE tgname LIKE 'revec%%'") == []
