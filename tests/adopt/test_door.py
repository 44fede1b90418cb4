"""`revec init --adopt`: what it finds, what it asks, what it writes down, and what it refuses."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from revec.cli.main import run
from tests import loopback as speaking
from tests import servers
from tests.adopt import questions
from tests.loopback import Loopback

SAID = (
    *("init", "--adopt", "--text", "question", "--filter", "deleted_at IS NULL"),
    *("--model", "openai:fake-768", "--writer", "app"),
)
Door = Callable[..., tuple[int, str, str]]


@pytest.fixture
def revec(dsn: str, loopback: Loopback, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Door:
    monkeypatch.setenv("REVEC_DSN", dsn)
    monkeypatch.setenv("OPENAI_BASE_URL", loopback.url)
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    monkeypatch.setenv("REVEC_IDLE", "0.02")
    monkeypatch.setenv("REVEC_MEMORY", "2G")

    def door(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = run(arguments)
        return int(code), *capsys.readouterr()

    return door


@pytest.fixture
def table(dsn: str) -> str:
    """Twenty questions with vectors; the database."""
    rows = [
        f"INSERT INTO app.questions (question, embedding) VALUES ('question {n}', "
        f"'{questions.literal(speaking.vector(f'question {n}', questions.OLD))}')"
        for n in range(20)
    ]
    servers.run(dsn, *questions.SCHEMA.split(";\n"), *rows, questions.GRAPH)
    return dsn


def test_what_there_is_is_written_down(revec: Door, table: str) -> None:
    """Graph, function, trigger and row security stand as comments over settings that TOML reads."""
    code, out, err = revec(*SAID)
    assert code == 0, err
    text = Path("revec.toml").read_text()
    for said in (
        "# index idx_questions_embedding: CREATE INDEX",
        "# function app.match_questions_with_solutions",
        "# trigger touch: an UPDATE of the column alone wakes it",
        "# row security: everyone: true",
    ):
        assert said in text
    made = tomllib.loads(text)["collections"]["questions"]
    assert made["model"] == "openai:fake-768"
    assert made["sources"] == [
        {
            "table": "app.questions",
            "vector": "embedding",
            "writer": "app",
            "body": "question",
            "filter": "deleted_at IS NULL",
        }
    ]
    assert "20 of 20 sampled rows have the vector" in out
    assert "kept current by your application" in out


def test_again_is_no_harm(revec: Door, table: str) -> None:
    """`revec init` goes on from the file; --adopt does not write a second one over it."""
    assert revec(*SAID)[0] == 0
    code, out, err = revec("init")
    assert code == 0, err
    assert "is captured" in out
    code, _, err = revec(*SAID)
    assert code == 1
    assert "names a collection questions already" in err
    assert servers.ask(table, "SELECT count(*) FROM revec.index") == [1]


def test_the_column_is_searched_and_shown(revec: Door, table: str) -> None:
    assert revec(*SAID)[0] == 0
    assert revec("worker", "--drain", "--quiet")[0] == 0
    code, out, _ = revec("search", "questions", "question 7", "--k", "1")
    assert code == 0
    assert "8" in out
    code, out, _ = revec("status", "questions")
    assert "app.questions.embedding is written by app" in out
    assert revec("verify", "questions")[0] == 0
    assert revec("check")[0] == 0
    code, out, _ = revec("plan", "questions", "--to", "openai:fake-b-1536")
    assert "app.questions.embedding stays as it is" in out


def test_a_script_is_told_what_to_say(revec: Door, table: str) -> None:
    """Nobody is there to be asked: each flag by its name, with what there is to choose from."""
    servers.run(table, "ALTER TABLE app.questions ADD other vector(3)")
    code, _, err = revec("init", "--adopt")
    assert code == 1
    assert "name one with --table and --column" in err
    code, _, err = revec("init", "--adopt", "--column", "embedding")
    assert "say it with --text (there is question, solution)" in err.replace(
        "solution, question", "question, solution"
    )
    code, _, err = revec("init", "--adopt", "--column", "embedding", "--text", "question")
    assert "say it with --model" in err
    code, _, err = revec(*SAID[:-2], "--column", "embedding")
    assert "say it with --writer" in err
    code, _, err = revec("init", "--text", "question")
    assert "but not --adopt" in err
    assert not Path("revec.toml").exists()


def test_a_person_is_asked(revec: Door, table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a terminal: an empty line takes the first choice."""
    answers = iter(["question", "openai:fake-768", "nobody"])
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda: next(answers))
    code, _, err = revec("init", "--adopt", "--filter", "deleted_at IS NULL")
    assert code == 0, err
    assert 'writer = "nobody"' in Path("revec.toml").read_text()


def test_missing_rights_are_named_as_grants(
    revec: Door, table: str, monkeypatch: pytest.MonkeyPatch, maintenance: str
) -> None:
    """Whoever owns the table gets the statements; nothing was written."""
    servers.run(maintenance, "DROP ROLE IF EXISTS poor", "CREATE ROLE poor LOGIN")
    name = servers.ask(table, "SELECT current_database()")[0]
    servers.run(
        table,
        f"GRANT ALL ON DATABASE {name} TO poor",
        "GRANT USAGE ON SCHEMA app, revec TO poor",
        "GRANT ALL ON ALL TABLES IN SCHEMA revec TO poor",
        "GRANT revec_worker TO poor",
    )
    monkeypatch.setenv("REVEC_DSN", servers.at(table, user="poor"))
    code, _, err = revec(*SAID[:-1], "revec")
    servers.run(table, "DROP OWNED BY poor")
    servers.run(maintenance, "DROP ROLE poor")
    assert code == 1
    assert "GRANT SELECT, TRIGGER ON app.questions TO poor;" in err
    assert "GRANT UPDATE (embedding) ON app.questions TO poor;" in err
    assert not Path("revec.toml").exists()


def test_nothing_to_adopt_is_said(revec: Door) -> None:
    code, _, err = revec("init", "--adopt")
    assert code == 1
    assert "no table that this login can see has a column of type vector" in err
