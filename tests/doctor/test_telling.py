"""What a person and a program are told: the verb, its exit codes, JSON, the page, the smoke."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from revec.cli.doctor import _exit
from revec.cli.door import Exit
from revec.doctor.base import Severity
from revec.doctor.telling import VERSION, page, shape
from tests import servers
from tests.doctor.patients import visited
from tests.doors.test_cli import Shell
from tests.loopback import Loopback

ZERO = "UPDATE questions SET embedding = array_fill(0, ARRAY[24])::vector WHERE id = 7"


@pytest.fixture
def shell(healthy: str, tmp_path: Path, loopback: Loopback) -> Shell:
    return Shell(tmp_path, REVEC_DSN=healthy, OPENAI_BASE_URL=loopback.url, OPENAI_API_KEY="k")


def test_the_verb_before_anything_of_ours_is_there(shell: Shell, healthy: str, tmp_path: Path) -> None:
    """The first thing that a new user runs: a headline, findings, a page; and nothing is left there."""
    before = servers.ask(healthy, "SELECT count(*) FROM pg_class")
    assert ": nothing found (" in shell("doctor", "--fail-on", "note")
    servers.run(healthy, ZERO)
    said = shell("doctor", "--html", "report.html")
    assert "critical zero-vectors: 1 of 399 vectors of public.questions.embedding are zero" in said
    assert "  do: embed these rows again" in said
    assert '  see: SELECT * FROM "public"."questions"' in said
    assert "1 critical" in said
    assert "zero-vectors" in (tmp_path / "report.html").read_text()
    assert servers.ask(healthy, "SELECT count(*) FROM pg_class") == before


def test_it_fails_on_what_it_is_told_to_fail_on(shell: Shell, healthy: str) -> None:
    """A note fails only who asks for notes; what was not looked at is no pass."""
    servers.run(healthy, "ALTER TABLE questions DISABLE ROW LEVEL SECURITY")
    assert "note no-row-security" in shell("doctor")
    shell("doctor", "--fail-on", "warning")
    shell("doctor", "--fail-on", "note", code=1)
    servers.run(healthy, ZERO)
    shell("doctor", "--fail-on", "warning", code=1)
    shell("doctor", "--fail-on", "critical", code=1)
    shell("doctor")
    shell("doctor", "--fail-on", "sometimes", code=2)
    shell("doctor", "--timeout", "0", code=1)


def test_what_could_not_be_looked_at_is_no_pass(shell: Shell, owned_dsn: str) -> None:
    """A login that may not see others' sessions."""
    shell.environment["REVEC_DSN"] = owned_dsn
    said = shell("doctor", "--fail-on", "critical", code=3)
    assert "not looked at: long-transaction: app_owner may not see the sessions of others" in said


def test_json_has_a_shape_that_stays(shell: Shell, healthy: str) -> None:
    """Its version, and the fields of each part."""
    servers.run(healthy, ZERO)
    told = shell.json("doctor")
    assert told["version"] == VERSION == 1
    assert told.keys() == {
        *("version", "database", "server", "pgvector", "login", "revec", "pooler", "seconds"),
        *("counts", "findings", "looks", "smoke"),
    }
    assert told["counts"] == {"critical": 1, "warning": 0, "note": 0}
    (finding,) = told["findings"]
    assert finding.keys() == {"name", "severity", "subject", "sentence", "evidence", "sql", "do"}
    assert finding["evidence"] == {"n": 399, "found": 1}
    assert all(
        look.keys() == {"name", "subject", "outcome", "ms", "why", "n", "of"} for look in told["looks"]
    )
    assert {look["outcome"] for look in told["looks"]} == {"clean", "found", "nothing to look at"}


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, Any]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))


async def test_the_page_needs_nothing_and_runs_nothing(dsn: str) -> None:
    """Names that are markup are text; no script, nothing from elsewhere."""
    evil = '<script>alert(1)</script>"><img src=x onerror=alert(2)>'
    quoted = evil.replace('"', '""')
    servers.run(
        dsn,
        f'CREATE TABLE public."{quoted[:60]}" (embedding_model text, embedding vector(2))',
        f"INSERT INTO public.\"{quoted[:60]}\" VALUES ('<b>one</b>', '[0,0]'), ('two', '[0,1]')",
    )
    report = await visited(dsn)
    assert {finding.name for finding in report.findings} == {"zero-vectors", "mixed-models"}
    text = page(report)
    tags = Tags(text).seen
    assert {tag for tag, _ in tags} <= {
        *("html", "meta", "title", "style", "body", "h1", "h2", "p", "b", "code", "table", "tr", "th", "td"),
        *("details", "summary"),
    }
    assert not [attrs for _, attrs in tags if attrs.keys() & {"src", "href", "onerror", "onload"}]
    assert "&lt;script&gt;" in text
    assert not re.search("https?:", text)
    assert json.dumps(shape(report), default=str)


async def test_who_asks_to_fail_is_not_told_a_pass_of_what_was_not_seen(dsn: str) -> None:
    """No time for any look: without --fail-on that is told, with it that is no pass."""
    report = await visited(dsn, whole=0.0)
    assert _exit(report, [], None) is Exit.DONE
    assert _exit(report, [], Severity.CRITICAL) is Exit.GATE


def test_severities_are_in_order() -> None:
    assert [each.reaches(Severity.WARNING) for each in Severity] == [True, True, False]


def test_smoke_says_what_a_document_and_a_search_cost(shell: Shell, healthy: str, loopback: Loopback) -> None:
    """Two calls of the real provider, money and milliseconds, and nothing is left behind."""
    before = servers.ask(healthy, "SELECT count(*) FROM pg_class")
    said = shell("doctor", "--smoke", "--model", "openai:fake-64")
    assert "smoke: openai:fake-64 ok: a document is found by its own words; 64 dims" in said
    assert "counted by the provider" in said
    (told,) = shell.json("doctor", "--smoke", "--model", "openai:text-embedding-3-small")["smoke"]
    assert told["passed"]
    assert told["tokens"] > 20
    assert float(told["dollars"]) > 0
    assert min(told["embed_ms"], told["query_ms"], told["search_ms"]) > 0
    assert servers.ask(healthy, "SELECT count(*) FROM pg_class") == before


def test_smoke_of_a_model_that_does_not_answer(shell: Shell, loopback: Loopback) -> None:
    """Said, with the provider's words, and the exit code is a failure; without a model there is nothing to try."""
    loopback.fault("401", times=None)
    said = shell("doctor", "--smoke", "--model", "openai:fake-64", code=1)
    assert "smoke: openai:fake-64 FAILED" in said
    assert "name the one to try with --model" in shell("doctor", "--smoke", code=1)


def test_smoke_beside_revec_leaves_no_line_in_the_ledger(
    filled: str, tmp_path: Path, loopback: Loopback
) -> None:
    """The models of its indexes, by themselves."""
    revec = Shell(tmp_path, REVEC_DSN=filled, OPENAI_BASE_URL=loopback.url, OPENAI_API_KEY="k")
    count = "SELECT count(*) FROM revec.call"
    before = servers.ask(filled, count)
    assert "smoke: openai:fake-64 ok" in revec("doctor", "--smoke")
    assert servers.ask(filled, count) == before


def test_without_a_database_nothing_is_started(tmp_path: Path) -> None:
    """No server is made for a look at nothing."""
    revec = Shell(tmp_path, REVEC_HOME=str(tmp_path / "nowhere"))
    assert "there is no database to look at: set REVEC_DSN" in revec("doctor", code=1)
    assert not (tmp_path / "nowhere").exists()
