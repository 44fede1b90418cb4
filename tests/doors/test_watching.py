"""The twin of the console: a tree at a terminal, lines in a log, JSON of a numbered shape for programs."""

from __future__ import annotations

import io
import json
import runpy
from pathlib import Path

import jsonschema
import pytest
from rich.console import Console

from revec.app import App
from revec.cli import overview, status, trees, watching
from revec.migrate.picture import picture
from revec.model.index import Collection
from revec.work.overview import overview as counted
from tests import steps
from tests.doors.test_cli import Shell
from tests.loopback import Loopback

ROOT = Path(__file__).parents[2]
SCHEMAS = {path.stem: json.loads(path.read_text("utf-8")) for path in (ROOT / "docs/schemas").glob("*.json")}


def test_the_schemas_are_drawn_from_the_dataclasses() -> None:
    """`python tools/json_schemas.py` would change nothing; a shape that changed shows in a diff."""
    tool = runpy.run_path(str(ROOT / "tools" / "json_schemas.py"))
    assert tool["SHAPES"].keys() == SCHEMAS.keys()
    for name in SCHEMAS:
        assert tool["drawn"](name) == (ROOT / "docs" / "schemas" / f"{name}.json").read_text("utf-8")


def test_what_is_printed_is_of_the_shape(shell: Shell) -> None:
    """Without a migration, in the middle of one, and of the queue; the number comes first."""
    shell("collections", "create", "c", "--model", "openai:fake-64")
    (shell.folder / "docs.jsonl").write_text('{"id": 1, "text": "one"}\n{"id": 2, "text": " "}\n')
    shell("ingest", "c", "docs.jsonl")
    looks = {
        "status": [("status", "c"), ("status", "c", "--watch")],
        "queue": [("queue", "stats", "c"), ("queue", "monitor", "c", "--until-idle")],
    }
    jsonschema.validate(shell.json("status", "c"), SCHEMAS["status"])
    shell("worker", "--drain", "--quiet")
    shell("reconcile", "c")
    for name, commands in looks.items():
        for command in commands:
            printed = shell.json(*command)
            assert next(iter(printed)) == "schema"
            jsonschema.validate(printed, SCHEMAS[name])
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(shell.json("queue", "stats", "c"), SCHEMAS["status"])


@pytest.fixture
def shell(dsn: str, tmp_path: Path, loopback: Loopback) -> Shell:
    return Shell(tmp_path, REVEC_DSN=dsn, OPENAI_BASE_URL=loopback.url, OPENAI_API_KEY="k")


def drawn(what: object) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(what)
    return console.file.getvalue()


async def migration_tree(app: App, made: Collection) -> str:
    return drawn(trees.of_migration(await picture(app.database, app.store, made, app.limits)))


async def test_one_tree_of_a_migration(app: App, loopback: Loopback) -> None:
    """Every gate with its verdict in words, the indexes, what is next; nothing of it by colour alone."""
    made = await steps.ready(app, 5)
    tree = await migration_tree(app, made)
    for said in (
        "c → openai:fake-b-96",
        "migration  ready",
        "✓ verifying  ● ready  ○ canary  ○ live",
        "verifying: ",
        "✓ passed  completeness",
        "openai:fake-64#1  serving",
        "openai:fake-b-96#2  next",
        "next  ready: `revec cutover c`",
        "rollback  not needed",
    ):
        assert said in tree
    await app.commands.pause(made, "to [bold]look[/bold]")
    assert "⏸ paused: to [bold]look[/bold]" in await migration_tree(app, made)


async def test_one_tree_of_the_queue(app: App, loopback: Loopback) -> None:
    """What there is none of is left out, but for what is done."""
    made = await steps.collection(app)
    await steps.put(app, made, steps.drafts(3))
    await steps.drain(app)
    await steps.put(app, made, steps.drafts(2, start=9))
    async with app.database.transaction() as conn:
        tree = drawn(trees.of_queue(await counted(conn, made)))
    assert "openai:fake-64#1  3 of 5 done" in tree
    assert "2 waiting" in tree
    assert "failed" not in tree


@pytest.mark.parametrize("terminal", [True, False])
async def test_a_watch_shows_what_is_new(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a terminal each look takes the place of the one before; in a log the same is not said twice."""
    console = Console(file=io.StringIO(), force_terminal=terminal, width=80, height=20)
    monkeypatch.setattr(watching, "out", console)
    looks = iter(["one", "one", "two"])

    async def look() -> str:
        return next(looks)

    await watching.watched(
        look, tree=str, lines=lambda seen: [seen], until=lambda seen: seen == "two", every=0.001
    )
    said = console.file.getvalue()
    if terminal:
        assert "\x1b[" in said
    else:
        assert [line.split()[-1] for line in said.splitlines()] == ["one", "two"]


def test_the_number_stands_in_the_name() -> None:
    """What a program compares."""
    assert (status.SCHEMA, overview.SCHEMA) == ("revec.status/1", "revec.queue/1")
