"""The queue's verbs and reconcile as they are typed: words, JSON, exit codes."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

import psycopg
import pytest

from tests.doors.test_cli import Shell
from tests.loopback import Loopback

SOURCES = """
[collections.c]
model = "openai:fake-64"

[[collections.c.sources]]
table = "app.docs"
title = "title"
body = "body"
"""


@pytest.fixture
def shell(dsn: str, tmp_path: Path, loopback: Loopback) -> Shell:
    """A table of five rows, attached and embedded."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("CREATE SCHEMA app")
        conn.execute("CREATE TABLE app.docs (id bigint PRIMARY KEY, title text, body text)")
        conn.execute(
            "INSERT INTO app.docs SELECT n, 'title ' || n, 'body ' || n FROM generate_series(1, 5) n"
        )
    (tmp_path / "revec.toml").write_text(SOURCES)
    made = Shell(tmp_path, REVEC_DSN=dsn, OPENAI_BASE_URL=loopback.url, OPENAI_API_KEY="k")
    made("init")
    made("worker", "--drain", "--quiet")
    return made


def test_drift_is_found_told_and_healed(shell: Shell, dsn: str) -> None:
    """A dry run ends with 1 and changes nothing; the real one has it healed; status remembers."""
    assert "drift       not looked for yet; found within 1 d" in shell("status", "c")
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("ALTER TABLE app.docs DISABLE TRIGGER USER")
        conn.execute("DELETE FROM app.docs WHERE id = 3")
        conn.execute("ALTER TABLE app.docs ENABLE TRIGGER USER")
    assert "c: 1 gone" in shell("reconcile", "c", "--dry-run", code=1)
    (report,) = shell.json("reconcile")
    assert (report["collection"], report["found"]) == ("c", {"gone": 1})
    assert report["examples"] == [{"cause": "gone", "where": "app.docs", "key": "3"}]
    shell("worker", "--drain", "--quiet")
    assert shell("reconcile", "c", "--source", "app.docs").startswith("c: no drift (8 rows and documents")
    assert re.search(
        r"drift {7}no drift, \d+ m?s ago in \d+ m?s; found within 1 d, next look in ", shell("status", "c")
    )
    assert "`revec reconcile NAME --source …`" in shell("reconcile", "--source", "app.docs", code=1)
    assert shell.json("check") == {"breaches": []}


def test_a_walk_that_is_killed_goes_on(shell: Shell, dsn: str) -> None:
    """Kill -9 before the commit of its third page: the same verb again finds what was left, and no key twice."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("ALTER TABLE app.docs DISABLE TRIGGER USER")
        conn.execute("UPDATE app.docs SET body = 'edited' WHERE id = 1")
        conn.execute("DELETE FROM app.docs WHERE id = 3")
        conn.execute("DELETE FROM revec.vectors_1 WHERE doc_id = (SELECT max(doc_id) FROM revec.vectors_1)")
        conn.execute("ALTER TABLE app.docs ENABLE TRIGGER USER")
    killed = Shell(shell.folder, **shell.environment, REVEC_FAILPOINT="walk_page:3")
    killed.run("reconcile", "c", code=-signal.SIGKILL)
    assert "a walk is under way" in shell("status", "c")
    (report,) = shell.json("reconcile", "c")
    assert report["found"] == {"changed": 1, "gone": 1, "missing": 1}
    shell("worker", "--drain", "--quiet")
    assert shell.json("reconcile", "c")[0]["found"] == {}
    assert shell.json("check") == {"breaches": []}


def test_the_queue_is_read_by_people_and_programs(shell: Shell) -> None:
    """Figures, health, single documents, everything as lines; what is not there is said with what is."""
    (index,) = shell.json("queue", "stats", "c")["indexes"]
    assert (index["documents"], index["done"]) == (5, 5)
    assert "openai:fake-64#1: 5 done; 0 workers" in shell("queue", "monitor", "c", "--until-idle")
    assert shell.json("queue", "health")["healthy"]
    assert shell("queue", "list", "c") == "c has no dead letters.\n"
    assert shell("queue", "list", "c", "stuck") == "c has no work that is stuck.\n"
    assert shell.json("queue", "show", "c", "3")["indexes"][0]["state"] == "done"
    assert "has no document '33'" in shell("queue", "show", "c", "33", code=1)
    lines = [json.loads(line) for line in shell("queue", "export", "c").splitlines()]
    assert {line["key"]: line["state"] for line in lines} == {str(n): "done" for n in range(1, 6)}
    assert "has no index 'x' that is written" in shell("queue", "export", "c", "--index", "x", code=1)
    assert "every 5 s" in shell("queue", "rescue", "c", "--silence", "1", code=1)
    assert "add --yes" in shell("queue", "cancel", "c", "--reason", "all of it", code=1)
    assert shell("queue", "cancel", "c", "--reason", "none", "--yes").startswith("0 documents")


def test_a_mode_is_chosen_and_told(shell: Shell, tmp_path: Path, loopback: Loopback) -> None:
    """Inline: ingest embeds what it takes, and says from where on it could not."""
    shell("collections", "mode", "c", "inline")
    assert shell.json("collections", "mode", "c") == {"collection": "c", "mode": "inline", "open": 0}
    (tmp_path / "more.jsonl").write_text('{"id": "p", "text": "honey"}\n')
    assert shell.json("ingest", "c", "more.jsonl")["queued"] is None
    assert shell.json("queue", "show", "c", "p")["indexes"][0]["state"] == "done"
    loopback.fault("500", times=None)
    (tmp_path / "more.jsonl").write_text('{"id": "p", "text": "milk"}\n')
    assert "From there on: 1 of 1 documents are queued" in shell("ingest", "c", "more.jsonl")
    loopback.clear()
    shell("worker", "--drain", "--quiet")
    assert shell.json("check") == {"breaches": []}


def test_a_group_is_tried_again_and_that_is_undone(shell: Shell, tmp_path: Path, loopback: Loopback) -> None:
    """By its pattern; who did it is kept, and what nothing has touched comes back."""
    loopback.fault("refuse", times=None, match="poison")
    lines = [json.dumps({"id": f"p{n}", "text": f"poison {n}"}) for n in range(2)]
    (tmp_path / "more.jsonl").write_text("\n".join(lines))
    shell("ingest", "c", "more.jsonl")
    shell("worker", "--drain", "--quiet", code=1)
    loopback.clear()
    (cause,) = shell.json("queue", "causes", "c")
    assert cause["letters"] == 2
    assert cause["key"] in {"p0", "p1"}
    assert cause["pattern"] in shell("queue", "causes", "c")
    assert shell("queue", "retry", "c", "--like", "another").startswith("0 documents are to be tried again.")
    said = shell("queue", "retry", "c", "--like", cause["pattern"])
    assert "2 documents are to be tried again; `revec queue undo c --deed 2` takes it back" in said
    assert shell("queue", "list", "c") == "c has no dead letters.\n"
    assert shell("queue", "undo", "c") == "2 of 2 are dead letters again (deed 2).\n"
    assert "undone already" in shell("queue", "undo", "c", code=5)
    deeds = shell.json("queue", "deeds", "c")
    assert [(each["what"], each["letters"], each["returned"]) for each in deeds] == [
        ("retry", 2, 2),
        ("retry", 0, None),
    ]
    assert "like" in shell("queue", "deeds", "c")
    shell("queue", "retry", "c")
    shell("worker", "--drain", "--quiet")
    assert shell.json("check") == {"breaches": []}
    (index,) = shell.json("indexes", "c")
    assert (index["role"], index["work"]["done"]) == ("serving", 7)
    assert "is held by the route" in shell("indexes", "c")
