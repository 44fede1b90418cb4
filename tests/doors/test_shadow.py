"""`shadow` as a person types it: set, seen, replayed, ended; and what is no log is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.doors.test_cli import Shell
from tests.doors.test_tuning import lines
from tests.loopback import Loopback


@pytest.fixture
def revec(dsn: str, tmp_path: Path, loopback: Loopback) -> Shell:
    """Two indexes of twenty documents."""
    shell = Shell(tmp_path, REVEC_DSN=dsn, OPENAI_BASE_URL=loopback.url, OPENAI_API_KEY="k")
    shell("collections", "create", "c", "--model", "openai:fake-64")
    lines(tmp_path / "docs.jsonl", [{"id": n, "text": f"document {n}"} for n in range(20)])
    shell("ingest", "c", "docs.jsonl")
    shell("worker", "--drain", "--quiet")
    planned = shell("plan", "c", "--to", "openai:fake-b-96", "--shadow", "0.02")
    assert "at first of 2% of the queries, then of 5%, then of 10%" in planned
    shell("start", "c", "--to", "openai:fake-b-96", "--shadow", "1")
    shell("worker", "--drain", "--quiet")
    return shell


def test_a_shadow_is_set_fed_by_a_log_and_ended(revec: Shell) -> None:
    """Equal questions of a log are one, and weigh; a report says what is waited for."""
    assert "shadowing" in revec("status", "c")
    log = [
        {"text": "what is document 3", "count": 5},
        {"text": "and document 7"},
        {"text": "and  document 7"},
    ]
    lines(revec.folder / "log.jsonl", log)
    said = revec("shadow", "c", "--replay", "log.jsonl")
    assert "2 questions, 1 were known" in said
    assert "2 questions of 7 requests" in said
    assert "overlap@10" in said
    seen = revec.json("shadow", "c")
    assert (seen["on"], seen["rate"], seen["questions"], seen["candidate"]) == (
        True,
        1.0,
        2,
        "openai:fake-b-96#2",
    )
    assert revec.json("shadow", "c", "--rate", "0.05")["rate"] == 0.05
    assert "off" in revec("shadow", "c", "--off")
    assert "`revec shadow c --rate 0.02`" in revec("shadow", "c", "--replay", "log.jsonl", code=5)
    told = [each["why"] for each in json.loads(revec("history", "c", "--json"))]
    assert "the shadow is off" in told


def test_what_makes_no_sense_is_refused(revec: Shell) -> None:
    """In a sentence, before anything is asked of a model."""
    (revec.folder / "bad.jsonl").write_text('{"text": "a"}\n{"query": "b"}\n')
    assert "line 2 of bad.jsonl is no query" in revec("shadow", "c", "--replay", "bad.jsonl", code=1)
    assert "cannot be read" in revec("shadow", "c", "--replay", "none.jsonl", code=1)
    assert "no share" in revec("shadow", "c", "--rate", "2", code=1)
    assert "--off stands alone" in revec("shadow", "c", "--off", "--rate", "0.1", code=1)
    assert "choose of openai:fake-b-96#2" in revec("shadow", "c", "--to", "99", code=1)
    assert revec.json("shadow", "c")["questions"] == 0
