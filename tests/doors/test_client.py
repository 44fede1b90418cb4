"""The verbs for applications, as a person types them; what they print is run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path

import psycopg
import pytest

from tests import loopback
from tests.doors.test_cli import Shell
from tests.loopback import Loopback

TOML = """[collections.questions]
model = "openai:fake-64"

[[collections.questions.sources]]
table = "app.questions"
body = "question"
"""
TABLE = """CREATE SCHEMA app;
CREATE TABLE app.questions (id bigint PRIMARY KEY, question text);
INSERT INTO app.questions SELECT n, 'question ' || n FROM generate_series(1, 20) AS n"""


@pytest.fixture
def revec(dsn: str, tmp_path: Path, loopback: Loopback) -> Shell:
    """Twenty questions of a table, indexed."""
    shell = Shell(tmp_path, REVEC_DSN=dsn, OPENAI_BASE_URL=loopback.url, OPENAI_API_KEY="k")
    with psycopg.connect(dsn) as conn:
        conn.execute(TABLE)
    (tmp_path / "revec.toml").write_text(TOML)
    shell("init")
    shell("worker", "--drain", "--quiet")
    return shell


def vector(text: str, model: str) -> str:
    return str(loopback.vectors([text], model)[0].tolist())


def test_a_function_is_printed_and_made(revec: Shell, dsn: str) -> None:
    """What is printed runs as it stands, and makes what --apply makes; a function of theirs is kept to go back to."""
    script = revec("function", "questions", "--function", "app.match", "--returns", "id,question,similarity")
    assert "DROP" not in script
    with psycopg.connect(dsn, autocommit=True) as conn:
        assert conn.execute("SELECT to_regproc('app.match')").fetchone() == (None,)
        conn.execute(script)  # type: ignore[arg-type]
        printed = conn.execute("SELECT pg_get_functiondef('app.match'::regproc)").fetchone()
        said = revec.json(
            *(
                "function",
                "questions",
                "--function",
                "app.match",
                "--returns",
                "id,question,similarity",
                "--apply",
            )
        )
        assert said["applied"]
        assert said["replaced"] is None
        assert conn.execute("SELECT pg_get_functiondef('app.match'::regproc)").fetchone() == printed
        found = conn.execute(
            "SELECT * FROM app.match(%s, 0.5, 1)", (vector("question 7", "fake-64"),)
        ).fetchall()
        assert [(number, text) for number, text, _ in found] == [(7, "question 7")]
        conn.execute(
            "CREATE FUNCTION app.mine(q vector, many int) RETURNS TABLE (id bigint) LANGUAGE sql AS 'SELECT 1::bigint'"
        )
    refused = revec("function", "questions", "--like", "app.mine", "--apply", code=1)
    assert "stands there, and is replaced: add --yes" in refused
    done = revec("function", "questions", "--like", "app.mine", "--apply", "--yes")
    assert "to go back to" in done
    assert "SELECT 1::bigint" in done
    wrong = revec("function", "questions", "--function", "app.mine", "--args", "q,many:int", code=5)
    assert "is there already and returns (id bigint): say --like app.mine(" in wrong


def test_the_lines_ask_the_route(revec: Shell, dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As they are printed they run, before and after a cutover, and no model stands in them."""
    assert "`revec function questions --apply` makes one" in revec(
        "client", "questions", "--for", "sql", code=5
    )
    revec("function", "questions", "--returns", "id,question,similarity", "--apply")
    lines = {each: revec("client", "questions", "--for", each) for each in ("sql", "python", "nextjs")}
    assert not any("fake" in each or len(each.splitlines()) > 14 for each in lines.values())
    assert "/v1/collections/questions/search" in lines["nextjs"]
    asks, finds = [part.strip() for part in lines["sql"].split(";\n")[:2]]
    for name, value in revec.environment.items():
        if name.startswith(("REVEC_", "OPENAI_")):
            monkeypatch.setenv(name, value)
    known: dict[str, Callable[[str], Coroutine[None, None, list[tuple[str, str, float]]]]] = {}
    exec(lines["python"], known)  # noqa: S102 - they are ours
    for model, dims in (("openai:fake-64", 64), ("openai:fake-b-96", 96)):
        with psycopg.connect(dsn) as conn, psycopg.RawCursor(conn) as cursor:
            row = cursor.execute(asks).fetchone()  # type: ignore[arg-type]
            assert row is not None
            assert row[:2] == (model, dims)
            asked = vector("question 7", row[0].partition(":")[2])
            found = cursor.execute(finds, (asked, 0.5, 1)).fetchall()  # type: ignore[arg-type]
            assert [number for number, *_ in found] == [7]
        assert "7" in {id_ for id_, *_ in asyncio.run(known["search"]("question 7"))}
        if dims == 64:
            revec("start", "questions", "--to", "openai:fake-b-96")
            revec("worker", "--drain", "--quiet")
            revec("cutover", "questions", "--yes")
