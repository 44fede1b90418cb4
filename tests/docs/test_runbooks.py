"""Every command of a runbook, in its order, by a shell, against a collection that is in that very trouble."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest

from revec.cli import runbook
from revec.postgres.binaries import find_binaries
from tests import places, servers
from tests.forked import Forked
from tests.loopback import Loopback

OLD, NEW = "openai:text-embedding-ada-002", "openai:text-embedding-3-small"
CUT = "openai:text-embedding-3-large"  # one that can be asked for fewer dims
ROWS = 30
TENANTS = ("default", "acme", "globex", "initech")
TABLE = f"""
CREATE TABLE public.articles (id bigint PRIMARY KEY, title text NOT NULL, body text, account text NOT NULL);
INSERT INTO public.articles
SELECT n, 'article ' || n, 'how to reset password number ' || n,
       ('{{{",".join(TENANTS)}}}'::text[])[1 + n % 4]
  FROM generate_series(1, {ROWS}) AS n;
"""
MAPPING = """
[collections.articles]
model = "{model}"

[[collections.articles.sources]]
table = "public.articles"
title = "title"
body = "body"
tenant = "account"
"""
SLOW = 120.0  # seconds that no command takes
WORDS = re.compile(rf"\b(?:{'|'.join(runbook.WORDS)})\b")
ONLY_OURS = re.compile(r"revec [^|<>$&;#]*")
COMMAND = "from revec.cli.main import main; main()"


@dataclass(frozen=True, slots=True)
class Step:
    under: tuple[str, ...]  # headings
    command: str
    code: int


def steps_of(text: str) -> list[Step]:
    """Each line of the blocks of `sh`."""
    found, under, inside = [], (), False
    for line in text.splitlines():
        if line.startswith("```"):
            inside = line == "```sh"
        elif inside:
            command, _, ends = line.partition("  # ends with ")
            found.append(Step(under, command, int(ends[:1] or 0)))
        elif heading := re.match(r"##+ (.+)", line):
            under = (heading[1],) if line.startswith("## ") else (*under[:1], heading[1])
    return found


@dataclass
class Place:
    """A folder, a database, a provider: all that the person at the keyboard has."""

    folder: Path
    dsn: str
    loopback: Loopback
    monkeypatch: pytest.MonkeyPatch
    said: dict[str, str] = field(default_factory=dict)  # command → what it said last

    def __post_init__(self) -> None:
        programs = self.folder / "bin"
        programs.mkdir()
        wrapper = programs / "revec"
        wrapper.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m revec.cli.main "$@"\n')
        wrapper.chmod(0o755)
        self.set("PATH", f"{programs}:{find_binaries()}:{os.environ['PATH']}")
        self.set("REVEC_DSN", self.dsn)
        self.set("OPENAI_BASE_URL", self.loopback.url)
        self.set("OPENAI_API_KEY", "k")
        self.set("REVEC_IDLE", "0.02")
        self.set("REVEC_LEASE", "2")
        self.set("REVEC_CONDUCTOR_LEASE", "1")
        self.set("REVEC_REQUEST_DEADLINE", "2")

    def set(self, name: str, value: str) -> None:
        self.monkeypatch.setenv(name, value)

    def sql(self, *statements: str) -> list[tuple]:
        with psycopg.connect(os.environ["REVEC_DSN"], autocommit=True) as conn:
            for statement in statements:
                done = conn.execute(statement)  # type: ignore[arg-type]
            return done.fetchall() if done.description else []

    def run(self, command: str, code: int = 0) -> str:
        """As a shell does it; one of ours without anything of a shell's is forked off, which is quicker."""
        if ONLY_OURS.fullmatch(command):
            out = self.folder / "said"
            out.unlink(missing_ok=True)
            arguments = tuple(shlex.split(command)[1:])
            ours = Forked.started(COMMAND, arguments, cwd=self.folder, env=dict(os.environ), out=out)
            ended, output = ours.join(SLOW), out.read_text()
        else:
            done = subprocess.run(
                ["bash", "-o", "pipefail", "-c", command],
                capture_output=True,
                text=True,
                timeout=SLOW,
                check=False,
            )
            ended, output = done.returncode, done.stdout + done.stderr
        assert ended == code, f"{command}: ended with {ended}\n{output}"
        self.said[command] = output
        return output

    def step(self, step: Step) -> None:
        if exported := re.fullmatch(r'export (\w+)="\$(\w+)"', step.command):
            self.set(exported[1], os.environ[exported[2]])
        else:
            self.run(step.command, step.code)

    def captured(self, model: str = OLD) -> None:
        """The table is a source, its first index serves."""
        (self.folder / "revec.toml").write_text(MAPPING.format(model=model))
        self.sql(TABLE)
        self.run("revec init")
        self.run("revec worker --drain --quiet")

    def serving(self) -> str:
        return self.sql("SELECT serving FROM revec.route")[0][0]

    def play(self, book: str, moments: dict[tuple[str, ...], Callable[[], None]], **known: str) -> None:
        """All of its steps; before those of a heading, what life has happen there.

        The page is printed anew for each heading, as it would be: by then there are names that were not known.
        """
        headings = list(dict.fromkeys(step.under for step in steps_of(runbook.read(book))))
        assert headings
        assert moments.keys() <= set(headings)
        for heading in headings:
            moments.get(heading, lambda: None)()
            for step in self.page(book, heading, **known):
                self.step(step)

    def page(self, book: str, heading: tuple[str, ...], **known: str) -> list[Step]:
        """The steps of a heading as `revec runbook` prints them now."""
        told = "".join(f" --{name} '{value}'" for name, value in known.items())
        printed = self.run(f"revec runbook {book} articles{told}")
        steps = [step for step in steps_of(printed) if step.under == heading]
        left = [word for step in steps for word in WORDS.findall(step.command)]
        assert not left, f"{book}, {heading}: nobody said what {left} is"
        return steps


@pytest.fixture
def place(
    dsn: str,
    tmp_path: Path,
    loopback: Loopback,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Place]:
    made = Place(tmp_path, dsn, loopback, monkeypatch)
    yield made
    assert "All invariants hold" in made.run("revec check")


PLAYED = {
    "model-change",
    "dimension-change",
    "store-change",
    "sync-to-queue",
    "tenant-fleet",
    "emergency",
    "disaster-restore",
}


def test_every_page_is_played() -> None:
    """A page that is new needs a story here; one that went leaves none."""
    assert set(runbook.names()) == PLAYED


@pytest.mark.parametrize("book", runbook.names())
def test_no_command_hides_from_the_tests(book: str) -> None:
    """What stands in a block is run; so every block is one of commands, and says who it is for in its first lines."""
    text = runbook.read(book)
    assert set(re.findall(r"^```(.*)$", text, re.MULTILINE)) <= {"sh", ""}
    assert text.count("```sh") * 2 == text.count("```")
    title, blank, when = text.splitlines()[:3]
    assert title.startswith("# ")
    assert not blank
    assert when
    assert "Go back" in text
    assert len(text.splitlines()) <= 140


def test_another_model(place: Place) -> None:
    """There, back, there again, and the old one is dropped."""
    place.captured()

    def back_again() -> None:
        assert place.serving() == 2

    place.play("model-change", {("Go back",): back_again}, to=NEW)
    assert place.serving() == 2
    assert place.sql("SELECT to_regclass('revec.vectors_1')") == [(None,)]
    assert "finished" in place.run("revec status articles")


def test_other_dims(place: Place) -> None:
    """To 512 dims and back to all of them."""
    place.captured(CUT)
    place.play("dimension-change", {("Go back",): lambda: None})
    assert place.serving() == 1
    assert place.sql("SELECT state FROM revec.migration WHERE id = 2") == [("aborted",)]


def test_another_store(place: Place, other_dsn: str) -> None:
    """The vectors are copied to another PostgreSQL and leave this one."""
    place.captured()
    store = places.url_of(other_dsn)
    place.play("store-change", {}, store=store)
    assert place.serving() == 2
    assert "other_" in place.said["revec stores list"]
    assert " pg " not in place.said["revec stores list"]


def test_from_synchronous_to_the_queue(place: Place) -> None:
    """The table is captured; a text that is refused becomes a dead letter, and then goes in."""
    (place.folder / "revec.toml").write_text(MAPPING.format(model=OLD))
    place.sql(TABLE)

    def refused() -> None:
        place.loopback.fault("refuse", times=None, match="dragons")
        place.sql("UPDATE public.articles SET body = 'here be dragons' WHERE id = 7")
        place.run("revec worker --drain --quiet", code=1)

    def taken() -> None:
        assert "not to our taste" in place.said["revec queue list articles"]
        place.loopback.clear()

    place.play(
        "sync-to-queue",
        {("A text is refused",): refused, ("A text is refused", "The provider takes it"): taken},
        source="public.articles",
    )
    assert "no dead letters" in place.said["revec queue list articles"]
    assert "retry_success" in place.said["revec queue list articles settled"]


def test_a_fleet_of_tenants(place: Place) -> None:
    """One first, one paused and resumed, one shown the new index, one held, one rolled back alone."""
    place.captured()
    place.play("tenant-fleet", {}, to=NEW)
    assert place.serving() == 1
    shown = place.said['revec search articles "how do I reset my password" --tenant globex']
    assert "text-embedding-3-small#2" in shown


def test_emergencies(place: Place) -> None:
    """Each trouble is made before its page is read, and mended where the person is told that it is."""
    place.captured()
    loopback = place.loopback

    def a_backfill() -> None:
        place.run(f"revec start articles --to {NEW} --budget 25")

    def no_quota() -> None:
        given_up()
        place.run(f"revec start articles --to {CUT} --budget 25")
        place.sql("UPDATE revec.migration SET paused_why = 'the budget of $25 is used up'")
        loopback.fault("quota", times=None)

    def down() -> None:
        assert "ready" in place.said["revec status articles"]
        loopback.fault("503", times=None)

    def drifted() -> None:
        given_up()
        loopback.fault("drift", times=None)
        place.sql("UPDATE revec.space SET checked_at = '-infinity'")
        place.run("revec worker --drain --quiet", code=1)

    def taken_back() -> None:
        assert "is no longer the model" in place.said["revec status articles"]
        loopback.clear()

    def changed_unseen() -> None:
        assert "PASSED" in place.said["revec verify articles"]
        place.sql("SET session_replication_role = replica", "DELETE FROM public.articles WHERE id = 1")
        place.sql(
            "SET session_replication_role = replica",
            "UPDATE public.articles SET body = 'dragons, unseen' WHERE id = 2",
        )

    def switched_off() -> None:
        assert place.sql("SELECT body FROM revec.document WHERE key = '2'") == [("dragons, unseen",)]
        assert place.sql("SELECT count(*) FROM revec.document") == [(ROWS - 1,)]
        loopback.fault("404", times=None, model=OLD.partition(":")[2])

    def given_up() -> None:
        place.run("revec abort articles --yes")
        place.run("revec worker --drain --quiet")

    place.play(
        "emergency",
        {
            ("A worker is killed for its memory",): a_backfill,
            ("The quota or the budget is used up",): no_quota,
            ("The quota or the budget is used up", "Paid"): loopback.clear,
            ("The provider is down",): down,
            ("The provider is down", "Back"): loopback.clear,
            ("The model is another one under the same name",): drifted,
            ("The model is another one under the same name", "Taken back"): taken_back,
            ("Rows that no trigger told of",): changed_unseen,
            ("The model was switched off",): switched_off,
        },
        to=NEW,
    )


def test_disaster_restore(place: Place, maintenance: str) -> None:
    """A dump of all, put back into an empty database; later one table of it alone."""
    place.captured()
    place.run(f"revec start articles --to {NEW}")  # under way, and it goes on there
    with servers.copied(maintenance, "template1", "restored_runbook") as new:
        place.set("NEW_DSN", new)
        place.play("disaster-restore", {})
        assert "All invariants hold" in place.run("revec check")
        assert place.sql("SELECT count(*) FROM revec.document") == [(ROWS,)]
        place.set("REVEC_DSN", place.dsn)


def test_a_page_can_be_read_without_a_database(place: Place) -> None:
    """Listed, printed as it is, and filled as far as anything is known; a page that is not there is said."""
    place.set("REVEC_DSN", "postgresql://nobody@127.0.0.1:1/nothing")
    listed = place.run("revec runbook")
    assert [line.split()[0] for line in listed.splitlines()] == runbook.names()
    assert "revec rollback COLLECTION --now" in place.run("revec runbook emergency")
    assert "--to 'openai:a b'" in place.run("revec runbook model-change --to 'openai:a b'")
    assert "there is no runbook panic: dimension-change," in place.run("revec runbook panic", code=1)
    place.set("REVEC_DSN", place.dsn)
    assert 'psql "$REVEC_DSN"' in place.run("revec runbook sync-to-queue articles")
    assert "There is no collection articles yet" in place.said["revec runbook sync-to-queue articles"]
