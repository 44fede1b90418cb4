"""The verbs for tenants, as a person types them."""

from __future__ import annotations

import json
from pathlib import Path

import psycopg
import pytest

from tests.doors.test_cli import Shell
from tests.loopback import Loopback


@pytest.fixture
def revec(dsn: str, tmp_path: Path, loopback: Loopback) -> Shell:
    """A collection of three tenants, indexed."""
    shell = Shell(tmp_path, REVEC_DSN=dsn, OPENAI_BASE_URL=loopback.url, OPENAI_API_KEY="k")
    shell("collections", "create", "c", "--model", "openai:text-embedding-3-small", "--dims", "64")
    lines = [{"id": n, "text": f"text {n}", "tenant": "abc"[n % 3]} for n in range(9)]
    (tmp_path / "docs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    shell("ingest", "c", "docs.jsonl")
    shell("worker", "--drain", "--quiet")
    return shell


def test_what_is_said_of_tenants_is_listed(revec: Shell) -> None:
    """Several at once, one property at a time; the others keep what they have."""
    revec("tenants", "set", "c", "a", "b", "--tier", "gold", "--priority", "7")
    revec("tenants", "set", "c", "b", "--weight", "3", "--budget", "12.50")
    revec("tenants", "pause", "c", "c", "--reason", "over its budget")
    rows = {row["tenant"]: row for row in revec.json("tenants", "list", "c")["tenants"]}
    assert {name: (row["tier"], row["priority"], row["weight"]) for name, row in rows.items()} == {
        "a": ("gold", 7, 1),
        "b": ("gold", 7, 3),
        "c": ("", 0, 1),
    }
    assert (rows["b"]["budget"], rows["b"]["spent"], rows["b"]["documents"]) == ("12.50", "0", 3)
    assert (rows["c"]["paused"], rows["c"]["open"], rows["c"]["dead"]) == ("over its budget", 0, 0)
    revec("tenants", "set", "c", "b", "--no-budget")
    assert "Go on: c." in revec("tenants", "resume", "c", "a", "c")
    rows = {row["tenant"]: row for row in revec.json("tenants", "list", "c")["tenants"]}
    assert (rows["b"]["budget"], rows["c"]["paused"]) == (None, None)
    assert "gold" in revec("tenants", "list", "c", "--limit", "2")
    assert [row["tenant"] for row in revec.json("tenants", "list", "c", "--after", "a")["tenants"]] == [
        "b",
        "c",
    ]


def test_a_budget_that_nobody_could_keep_is_refused(revec: Shell) -> None:
    """Dollars want a price; nothing is said of the tenant then."""
    revec("collections", "create", "d", "--model", "openai:fake-64")
    revec("worker", "--drain", "--quiet")
    said = revec("tenants", "set", "d", "a", "--tier", "gold", "--budget", "5", code=1)
    assert "nobody knows the price of openai:fake-64" in said
    assert revec.json("tenants", "list", "d")["tenants"] == []


REFUSED = [
    ((), "name tenants, and --tier"),
    (("a",), "name tenants, and --tier"),
    (("--priority", "1"), "name tenants, and --tier"),
    (("a", "--weight", "0"), "a weight is 1 to 1,000,000, not 0"),
    (("a", "--priority", "5000000"), "a priority is -1,000,000 to 1,000,000"),
    (("a", "--budget", "-1"), "a budget is US dollars, 0 or more"),
    (("a", "--from-query", "SELECT 1"), "leave out tenants and the other options"),
    (("--from-query", "SELECT 1 AS n"), "no column `tenant`"),
]


def test_what_cannot_be_said(revec: Shell) -> None:
    """A sentence with the way out, and nothing is written."""
    for options, words in REFUSED:
        assert words in revec("tenants", "set", "c", *options, code=1)
    assert {row["tier"] for row in revec.json("tenants", "list", "c")["tenants"]} == {""}


def test_a_slip_of_the_pen_is_seen(revec: Shell) -> None:
    """A tenant without documents may come yet: it is said, not refused."""
    done = revec.run("tenants", "pause", "c", "acme", "--reason", "not paid")
    assert "acme: no documents in c yet" in done.stderr
    assert "acme" in revec("tenants", "list", "c")


def test_a_migration_tenant_by_tenant(revec: Shell) -> None:
    """Its progress, whom it waits for, and on."""
    assert "no migration of c is under way" in revec("tenants", "progress", "c", code=1)
    revec("start", "c", "--to", "openai:fake-b-96")
    assert "has not begun" in revec("tenants", "progress", "c")
    revec("tenants", "set", "c", "--from-query", "SELECT 'b' AS tenant, 5 AS priority")
    revec("tenants", "pause", "c", "a", "--reason", "later")
    revec("worker", "--drain", "--quiet")
    rows = revec.json("tenants", "progress", "c")
    assert [(row["tenant"], row["state"], row["done"], row["all"]) for row in rows] == [
        ("b", "complete", 3, 3),
        ("a", "pending", 0, 3),
        ("c", "complete", 3, 3),
    ]
    assert "pending" in revec("tenants", "progress", "c")
    shown = revec("status", "c")
    assert "paused      tenant a: later" in shown
    assert "only documents of paused tenants are left: a (later)" in shown
    revec("tenants", "resume", "c", "a")
    revec("worker", "--drain", "--quiet")
    assert revec.json("status", "c")["state"] == "ready"
    assert "paused a: later" in revec("history", "c")
    assert revec.json("check") == {"breaches": []}


def test_tenants_of_revec_toml(revec: Shell, dsn: str) -> None:
    """`init` keeps the query, a worker reads it; a bad one is refused before anything is made."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("CREATE TABLE account (name text, rank integer); INSERT INTO account VALUES ('a', 4)")
    toml = '[collections.c]\nmodel = "openai:fake-64"\ntenants = "SELECT name AS tenant, {} AS priority FROM account"\n'
    (revec.folder / "revec.toml").write_text(toml.format("nonsense"))
    assert 'column "nonsense" does not exist' in revec("init", code=1)
    (revec.folder / "revec.toml").write_text(toml.format("rank"))
    revec("init")
    revec("tenants", "pause", "c", "b", "--reason", "nothing to do with it")
    revec("worker", "--drain", "--quiet")
    seen = revec.json("tenants", "list", "c")
    assert {row["tenant"]: row["priority"] for row in seen["tenants"]} == {"a": 4, "b": 0, "c": 0}
    assert seen["fault"] is None
