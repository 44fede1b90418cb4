"""`revec init`: from a revec.toml to a captured table, or to a sentence that says what to do."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from revec.cli.main import run
from tests import servers
from tests.capture import people
from tests.loopback import Loopback

DOCS = (
    "CREATE SCHEMA app",
    people.DOCS,
    "INSERT INTO app.docs SELECT n, 'title ' || n, 'body ' || n FROM generate_series(1, 5) n",
)
SOURCE = {"table": "app.docs", "title": "title", "body": "body"}


@dataclass
class Said:
    code: int
    out: str
    err: str


Door = Callable[..., Said]


def toml(model: str = "openai:fake-64", name: str = "docs", index: str | None = None, **source: Any) -> str:
    """A collection with one source; more sources may follow."""
    lines = [f"[collections.{name}]", f"model = {model!r}"]
    lines += [f"index = {index!r}"] if index else []
    return "\n".join([*lines, sourced(name, **source)])


def sourced(name: str = "docs", **source: Any) -> str:
    settings = "\n".join(f"{key} = {value!r}" for key, value in (SOURCE | source).items())
    return f"[[collections.{name}.sources]]\n{settings}\n"


def write(text: str) -> None:
    Path("revec.toml").write_text(text, encoding="utf-8")


@pytest.fixture
def revec(dsn: str, loopback: Loopback, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Door:
    """The command, in this process, in an empty folder, with a database and a provider."""
    monkeypatch.setenv("REVEC_DSN", dsn)
    monkeypatch.setenv("OPENAI_BASE_URL", loopback.url)
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    monkeypatch.setenv("REVEC_IDLE", "0.02")
    monkeypatch.setenv("REVEC_MEMORY", "2G")  # the worker is in this process, which holds all the tests

    def door(*arguments: str) -> Said:
        capsys.readouterr()
        code = run(arguments)
        return Said(int(code), *capsys.readouterr())

    return door


def rows(dsn: str, query: str) -> list[Any]:
    with psycopg.connect(dsn, autocommit=True) as conn:
        return conn.execute(query).fetchall()  # type: ignore[call-overload]


def assert_untouched(dsn: str) -> None:
    """Nothing half-made: no collection, source, migration, trigger or function of ours."""
    for left in (
        "SELECT FROM revec.collection",
        "SELECT FROM revec.source",
        "SELECT FROM revec.migration",
        "SELECT FROM revec.change",
        "SELECT FROM pg_trigger WHERE tgname LIKE 'revec%'",
        "SELECT FROM pg_proc WHERE proname LIKE 'capture_%'",
    ):
        assert rows(dsn, left) == [], left


def assert_refused(said: Said, dsn: str, *words: str) -> None:
    assert said.code == 1, said
    assert said.err.startswith("revec: ")
    assert said.err.count("\n") == 1, said.err  # one sentence
    for word in words:
        assert word in said.err, said.err
    assert_untouched(dsn)


def test_from_a_table_to_an_answer(revec: Door, dsn: str) -> None:
    """init, worker --drain, search; run twice it is once, and says the same."""
    servers.run(dsn, *DOCS)
    write(toml(metadata=["note"]))
    first = revec("init")
    assert first.code == 0
    assert "docs: app.docs is captured" in first.out
    assert "docs: its first index, by openai:fake-64, is to be filled" in first.out
    assert "`revec worker` does the work" in first.out
    before = rows(dsn, "SELECT * FROM revec.source")
    second = revec("init")
    assert second.code == 0
    assert "first index" not in second.out
    assert rows(dsn, "SELECT * FROM revec.source") == before
    assert revec("worker", "--drain").code == 0
    third = revec("init")
    assert (third.code, "revec start" in third.out) == (0, False)
    found = revec("search", "docs", "title 3\nbody 3", "--k", "1")
    assert (found.code, "title 3" in found.out) == (0, True), found
    assert len(rows(dsn, "SELECT FROM revec.migration")) == 1
    assert len(rows(dsn, "SELECT FROM pg_trigger WHERE tgname LIKE 'revec%'")) == 2
    assert revec("check").code == 0


def test_the_command_in_a_process_of_its_own(revec: Door, dsn: str) -> None:
    """As a person runs it: in a shell, with the environment and a file."""
    servers.run(dsn, *DOCS)
    write(toml())
    done = subprocess.run(
        [sys.executable, "-m", "revec.cli.main", "init"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "docs: app.docs is captured" in done.stdout


def test_without_a_file_an_example_is_written(revec: Door, dsn: str) -> None:
    """It parses, names every setting, is never overwritten; as it stands it names no table of yours."""
    said = revec("init")
    assert (said.code, said.err) == (0, "")
    assert "Wrote an example revec.toml: name your tables in it, then run `revec init` again." in said.out
    text = Path("revec.toml").read_text(encoding="utf-8")
    uncommented = re.sub(r"^# (\w+ = )", r"\1", text, flags=re.MULTILINE)
    (source,) = tomllib.loads(uncommented)["collections"]["articles"]["sources"]
    assert set(source) == {"table", "title", "body", "tenant", "filter", "metadata"}
    assert_refused(revec("init"), dsn, "there is no table public.articles", "schema.table in revec.toml")
    assert Path("revec.toml").read_text(encoding="utf-8") == text


def test_the_example_works_for_the_table_that_it_describes(revec: Door, dsn: str) -> None:
    """Every commented line taken in, on a table that has those columns."""
    revec("init")
    text = Path("revec.toml").read_text(encoding="utf-8")
    text = re.sub(r"^# (\w+ = )", r"\1", text, flags=re.MULTILINE)
    write(text.replace("local:wordllama-256", "openai:fake-64"))
    servers.run(
        dsn,
        "CREATE TABLE public.articles (id int PRIMARY KEY, title text, body text, tenant_id uuid,"
        " deleted_at timestamptz, url text, author text)",
        "CREATE TABLE public.accounts (id text, plan text, rank int)",
        "INSERT INTO public.articles VALUES (1, 'a', 'b')",
        "INSERT INTO public.articles VALUES (2, 'gone', '', NULL, now())",
    )
    said = revec("init")
    assert said.code == 0, said
    assert revec("worker", "--drain").code == 0
    assert rows(dsn, "SELECT key, tenant FROM revec.document") == [("1", "default")]


# what revec.toml says, and words of the answer
IMPOSSIBLE: list[tuple[str, list[str]]] = [
    ("collections = [", ["revec.toml is not TOML", "end of document"]),
    ("\x00", ["revec.toml is not TOML"]),
    ("", ["names no collection: add [collections.NAME]"]),
    ("[collections]", ["names no collection"]),
    ("colections = {}", ["colections in revec.toml", "not permitted"]),
    (toml(bdy="x"), ["collections.docs.sources.0.bdy in revec.toml", "not permitted"]),
    (toml().replace("body = 'body'", ""), ["collections.docs.sources.0.body", "required"]),
    (toml(key="id"), ["collections.docs.sources.0.key", "list"]),
    (toml(metadata=[1]), ["collections.docs.sources.0.metadata.0", "string"]),
    (toml().replace("model = ", "modell = "), ["collections.docs.model", "required"]),
    (toml(index="ivfflat"), ["collections.docs.index", "'exact', 'hnsw', 'binary' or 'native'"]),
    (toml(name="'My Docs'"), ["'My Docs' cannot name a collection", "a-z"]),
    (toml() + sourced(body="title"), ["docs names app.docs twice"]),
    (toml("openai:nonsense"), ["nonsense"]),
    (toml("nonsense"), ["'nonsense' is not the address of a model", "write provider:model"]),
    (toml("nobody:x"), ["there is no provider 'nobody'", "openai"]),
    (toml("local:nonsense"), ["nonsense"]),
    (toml(table="app.nowhere"), ["there is no table app.nowhere", "schema.table"]),
    (toml(table="app.a_view"), ["app.a_view is no table"]),
    (toml(table="app.no_key"), ["ALTER TABLE app.no_key ADD PRIMARY KEY"]),
    (toml(table="app.nullable"), ["ALTER COLUMN id SET NOT NULL"]),
    (toml(table="app.dated"), ["column id of app.dated is date; a key may be"]),
    (toml(key=["title"]), ["no unique index of app.docs covers exactly (title)", "use (id)"]),
    (toml(body="nope"), ['column "nope" does not exist']),
    (toml(filter="deleted IS NULL"), ['column "deleted" does not exist']),
    (toml(metadata=["nope"]), ["has no column 'nope'"]),
    # The first is right, the second is not: neither is made.
    (toml() + toml(name="more", table="app.nowhere"), ["there is no table app.nowhere"]),
    (toml() + sourced(table="app.no_key"), ["app.no_key has no primary key"]),
    (toml() + toml("openai:nonsense", name="more", table="app.dated", key=[]), ["date"]),
]


def test_what_cannot_be_is_one_sentence_and_nothing_half_made(
    revec: Door, dsn: str, subtests: pytest.Subtests
) -> None:
    """Exit code 1, what is wrong and the way out; the right part of the file is not begun either."""
    servers.run(
        dsn,
        *DOCS,
        "CREATE VIEW app.a_view AS SELECT * FROM app.docs",
        "CREATE TABLE app.no_key (id int, title text, body text)",
        "CREATE TABLE app.nullable (id int UNIQUE, title text, body text)",
        "CREATE TABLE app.dated (id date PRIMARY KEY, title text, body text)",
    )
    for text, words in IMPOSSIBLE:
        with subtests.test(text):
            write(text)
            assert_refused(revec("init"), dsn, *words)


def test_a_provider_that_does_not_answer_stops_init_before_it_begins(
    revec: Door, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No index could be filled; once it answers, the same command does it all."""
    servers.run(dsn, *DOCS)
    write(toml())
    with monkeypatch.context() as broken:
        broken.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
        assert_refused(revec("init"), dsn, "127.0.0.1:9")
    assert revec("init").code == 0
    with monkeypatch.context() as broken:  # what is begun needs no provider to be looked at again
        broken.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
        assert revec("init").code == 0


def test_a_changed_model_is_a_migration_of_its_own(revec: Door, dsn: str) -> None:
    """Init never swaps a model: it names the command that does."""
    servers.run(dsn, *DOCS)
    write(toml())
    assert revec("init").code == 0
    assert revec("worker", "--drain").code == 0
    write(toml("openai:fake-b-96"))
    said = revec("init")
    assert said.code == 0
    assert "docs: openai:fake-64 serves; `revec start docs --to openai:fake-b-96` migrates it" in said.out
    assert len(rows(dsn, "SELECT FROM revec.migration")) == 1
    assert revec("start", "docs", "--to", "openai:fake-b-96").code == 0


def test_a_changed_source_is_read_again(revec: Door, dsn: str) -> None:
    """Another expression, one more table: the same command takes them in."""
    servers.run(
        dsn, *DOCS, "CREATE TABLE app.faq AS TABLE app.docs", "ALTER TABLE app.faq ADD PRIMARY KEY (id)"
    )
    write(toml())
    assert revec("init").code == 0
    assert revec("worker", "--drain").code == 0
    write(toml(title="upper(title)", filter="id <> 2") + sourced(table="app.faq"))
    assert revec("init").code == 0
    assert revec("worker", "--drain").code == 0
    found = rows(
        dsn, "SELECT name, key, title FROM revec.document d JOIN revec.source s ON s.id = d.source_id"
    )
    assert sorted(found) == [
        *(("app.docs", str(n), f"TITLE {n}") for n in (1, 3, 4, 5)),
        *(("app.faq", str(n), f"title {n}") for n in range(1, 6)),
    ]
    assert revec("check").code == 0


def test_a_broken_source_is_mended_by_init(revec: Door, dsn: str) -> None:
    """`worker` goes on, `status` says what is wrong in words, `init` refuses until it is mended and then catches up."""
    servers.run(dsn, *DOCS)
    write(toml())
    assert revec("init").code == 0
    assert revec("worker", "--drain").code == 0
    servers.run(dsn, "ALTER TABLE app.docs RENAME body TO text", "UPDATE app.docs SET title = 'edited'")
    revec("worker", "--drain")
    assert 'column "body" does not exist' in revec("status", "docs").out
    again = revec("init")
    assert (again.code, 'column "body" does not exist' in again.err) == (1, True)
    assert len(rows(dsn, "SELECT FROM revec.document")) == 5
    write(toml(body="text"))
    assert revec("init").code == 0
    assert revec("worker", "--drain").code == 0
    assert set(rows(dsn, "SELECT title FROM revec.document")) == {("edited",)}
    assert revec("check").code == 0


def _granted(said: Said, login: str) -> list[str]:
    """The statements that the sentence asks for."""
    assert said.code == 1, said
    assert f"TO {login};" in said.err
    return re.findall(r"GRANT [^;]+;", said.err.partition("let its owner run: ")[2])


@pytest.mark.parametrize(
    ("made", "grants"),
    [
        (
            ["CREATE TABLE app.docs (id int PRIMARY KEY, title text, body text)"],
            ["GRANT SELECT, TRIGGER ON app.docs TO app_owner;", "GRANT USAGE ON SCHEMA app TO app_owner;"],
        ),
        (
            [
                "CREATE TABLE app.docs (id int PRIMARY KEY, title text, body text)",
                "GRANT USAGE ON SCHEMA app TO app_owner",
                "GRANT SELECT ON app.docs TO app_owner",
            ],
            ["GRANT TRIGGER ON app.docs TO app_owner;"],
        ),
        (
            [
                "CREATE TABLE app.docs (id int PRIMARY KEY, title text, body text) PARTITION BY RANGE (id)",
                'CREATE SCHEMA "Parts"',
                'CREATE TABLE "Parts"."P 1" PARTITION OF app.docs FOR VALUES FROM (0) TO (100)',
                "CREATE TABLE app.p2 PARTITION OF app.docs FOR VALUES FROM (100) TO (200)",
            ],
            [
                'GRANT TRIGGER ON "Parts"."P 1" TO app_owner;',
                "GRANT SELECT, TRIGGER ON app.docs TO app_owner;",
                "GRANT TRIGGER ON app.p2 TO app_owner;",
                'GRANT USAGE ON SCHEMA "Parts" TO app_owner;',
                "GRANT USAGE ON SCHEMA app TO app_owner;",
            ],
        ),
    ],
)
def test_missing_rights_are_listed_as_grants_that_suffice(
    made: list[str],
    grants: list[str],
    revec: Door,
    owned_dsn: str,
    root_dsn: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another owner's table: exactly the GRANTs, all at once; after them the same command works."""
    monkeypatch.setenv("REVEC_DSN", owned_dsn)
    servers.run(root_dsn, "CREATE SCHEMA app", *made)
    write(toml())
    said = revec("init")
    assert sorted(_granted(said, servers.OWNER)) == sorted(grants)
    assert_untouched(owned_dsn)
    servers.run(root_dsn, *grants)
    assert revec("init").code == 0
    servers.run(root_dsn, "INSERT INTO app.docs VALUES (1, 'seen', ''), (2, 'gone', '')")
    servers.run(root_dsn, "DELETE FROM app.docs WHERE id = 2")
    assert revec("worker", "--drain").code == 0
    assert rows(owned_dsn, "SELECT key, title FROM revec.document") == [("1", "seen")]
    assert revec("check").code == 0


def test_hidden_rows_are_refused_by_the_command_too(
    revec: Door, owned_dsn: str, root_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row security on another owner's table: the way out is named before anything is read."""
    monkeypatch.setenv("REVEC_DSN", owned_dsn)
    servers.run(
        root_dsn,
        *DOCS,
        "ALTER TABLE app.docs ENABLE ROW LEVEL SECURITY",
        f"GRANT USAGE ON SCHEMA app TO {servers.OWNER}",
        f"GRANT SELECT, TRIGGER ON app.docs TO {servers.OWNER}",
    )
    write(toml())
    assert_refused(revec("init"), owned_dsn, "row security hides rows of app.docs", "BYPASSRLS")
