"""`plan` and `start` as a person types them: words, a page, facts for programs, and stages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.doors.test_cli import Shell
from tests.loopback import Loopback

NEW = ("--to", "openai:text-embedding-3-small", "--dims", "96")


@pytest.fixture
def revec(dsn: str, tmp_path: Path, loopback: Loopback) -> Shell:
    """A collection of three tenants of four documents, indexed."""
    shell = Shell(tmp_path, REVEC_DSN=dsn, OPENAI_BASE_URL=loopback.url, OPENAI_API_KEY="k")
    shell("collections", "create", "c", "--model", "openai:fake-64")
    lines = [{"id": n, "text": f"text {n}", "tenant": "abc"[n % 3]} for n in range(12)]
    (tmp_path / "docs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    shell("ingest", "c", "docs.jsonl")
    shell("worker", "--drain", "--quiet")
    return shell


def test_a_plan_is_read_handed_round_and_parsed(revec: Shell, tmp_path: Path) -> None:
    """The same things in words, on a page and as JSON; a page that cannot be written is a sentence."""
    said = revec("plan", "c", *NEW, "--html", "plan.html")
    for label in (
        "documents",
        "sources",
        "disk",
        "tokens",
        "cost",
        "time",
        "order",
        "batches",
        "risks",
        "dump",
        "rollback",
    ):
        assert f"\n{label:12}" in said
    assert "Nothing was written. `revec start c --to openai:text-embedding-3-small --dims 96` begins." in said
    page = (tmp_path / "plan.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert "pg_dump --format=custom" in page
    facts = revec.json("plan", "c", *NEW)
    assert (facts["version"], facts["documents"], facts["embedded"]) == (1, 12, 12)
    assert facts["rollback"]["live"].startswith("`revec rollback c`")
    assert "cannot be written" in revec("plan", "c", *NEW, "--html", "nowhere/plan.html", code=1)


def test_a_dry_run_says_what_it_would_do_and_writes_nothing(revec: Shell) -> None:
    """With the options of `start`, and refused where `start` would be."""
    staged = ("--priority", "c,a", "--tenants", "c,a", "--until", "50%", "--batch-size", "2", "--budget", "5")
    said = revec("start", "c", *NEW, *staged, "--dry-run")
    for words in (
        "Nothing was written. It would begin a migration of c to openai:text-embedding-3-small",
        "take the documents of c, a alone",
        "begin with those of c, a",
        "take 2 documents in a claim",
        "pause at 50% of the documents",
        "pause before it costs more than $5",
        "waiting     4 documents of 1 tenants (b)",
    ):
        assert words in said
    facts = revec.json("start", "c", *NEW, *staged, "--dry-run")
    assert facts["order"] == ["4 documents of 1 tenants (c)", "4 documents of 1 tenants (a)"]
    assert revec.json("status", "c")["state"] == "finished"
    assert revec.json("throttle", "c") == {}
    assert "no documents in c" in revec("start", "c", *NEW, "--tenants", "x", "--dry-run", code=1)
    assert "no part of the documents" in revec("start", "c", *NEW, "--until", "most", "--dry-run", code=1)
    priced = revec("start", "c", "--to", "openai:fake-b-96", "--budget", "5", "--dry-run", code=1)
    assert "nobody knows the price" in priced


def test_a_migration_in_stages(revec: Shell) -> None:
    """Half of one tenant's documents, then that tenant, then everybody; the end says what it took."""
    revec("start", "c", *NEW, "--tenants", "a", "--until", "20%", "--batch-size", "3")
    revec("worker", "--drain", "--quiet")
    assert "paused: 3 of 12 documents are through: it was to stop at 20%" in revec("status", "c")
    assert "at most 3 documents in a claim" in revec("throttle", "c")
    revec("resume", "c")
    revec("worker", "--drain", "--quiet")
    assert "left are 8 documents of tenants that it is not for yet: b, c" in revec("status", "c")
    assert "the backfill is for all of them" in revec("resume", "c", "--tenants", "all")
    revec("worker", "--drain", "--quiet")
    shown = revec("status", "c")
    assert "ready: `revec cutover c`" in shown
    assert "load took   tokens " in shown
    assert "(none was planned)" not in shown
    history = revec("history", "c")
    assert "load took   tokens " in history
    assert "paused: 3 of 12 documents" in history
    assert revec.json("status", "c")["reality"][0]["within"]
    assert revec.json("check") == {"breaches": []}
