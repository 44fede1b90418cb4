"""What is said twice is the same twice: pages, tables, states, verbs, rooms, settings."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cyclopts
import psycopg
import pytest

from revec.cli.main import build
from revec.migrate.gates import base as gates
from revec.model.index import Kind
from revec.model.migration import State
from revec.model.verdict import Outcome
from revec.settings import Settings

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "revec"
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCS = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md")}
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
LONGEST_PAGE = 120


def test_the_states_are_drawn_from_the_table() -> None:
    """`python tools/states.py > docs/states.md` would change nothing."""
    tool = [sys.executable, str(ROOT / "tools" / "states.py")]
    drawn = subprocess.run(tool, check=True, capture_output=True, encoding="utf-8").stdout
    assert drawn == DOCS["states.md"]
    assert all(f"| {state} | " in drawn or f"| {state} |" in drawn for state in State)


def test_every_table_is_among_the_words(dsn: str) -> None:
    """A table of schema revec that no word explains is a riddle; a word for a table that is gone, too."""
    with psycopg.connect(dsn) as conn:
        found = conn.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'revec'::regnamespace AND relkind = 'r'"
        ).fetchall()
    tables = {name for (name,) in found} | {"vectors_N"}
    rows = [line.split("|") for line in DOCS["words.md"].splitlines() if line.startswith("| ")]
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row[3])}
    assert named == tables


def test_states_outcomes_kinds_and_gates_are_among_the_words() -> None:
    """Every value that a person meets in a column is explained."""
    words = DOCS["words.md"]
    assert all(outcome in words for outcome in Outcome)
    assert all(f"`{kind}`" in words for kind in Kind)
    assert all(f"`{gate}`" in words for gate in gates.names())
    assert all(state in DOCS["states.md"] for state in State)


def verbs(app: cyclopts.App, before: str = "") -> Iterator[str]:
    """`search`, `queue list`, …: every command that can be typed."""
    for name in app:
        if name.startswith("-"):
            continue
        group = list(verbs(app[name], f"{before}{name} "))
        yield from group or [f"{before}{name}"]


@pytest.mark.parametrize("verb", sorted(verbs(build())))
def test_every_verb_is_in_the_readme(verb: str) -> None:
    """As it is typed, in backticks."""
    assert re.search(rf"`(revec )?{verb}[` ]", README)


@pytest.mark.parametrize("page", ["README.md", *sorted(DOCS)])
def test_every_command_that_a_page_shows_exists(page: str) -> None:
    """The complement: nothing is promised that cannot be typed."""
    known = set(verbs(build()))
    text = README if page == "README.md" else DOCS[page]
    shown = re.findall(r"`revec ([a-z]+)(?: ([a-z]+))?|^revec ([a-z]+)(?: ([a-z]+))?", text, re.MULTILINE)
    for verb, follows, typed, then in shown:
        first, second = verb or typed, follows or then
        assert {first, f"{first} {second}"} & known or any(name.startswith(f"{first} ") for name in known)


def test_every_room_is_in_the_architecture() -> None:
    """Each package under src/revec has its line, and each line its package."""
    rooms = {path.name for path in SOURCE.iterdir() if (path / "__init__.py").exists()}
    drawn = re.findall(r"^\| \w* ?\| `(\w+)/` \|", DOCS["architecture.md"], re.MULTILINE)
    assert set(drawn) == rooms
    assert len(drawn) == len(rooms)
    modules = {path.stem for path in SOURCE.glob("*.py")} - {"__init__"}
    assert all(f"`{module}.py`" in DOCS["architecture.md"] for module in modules)


def test_every_file_that_the_architecture_names_exists() -> None:
    """Paths under src/revec, or under the project."""
    paths = re.findall(r"`([\w/.]+/[\w.*]+\.(?:py|sql|toml|md))`", DOCS["architecture.md"])
    assert len(paths) > 10
    for path in paths:
        if "NAME" not in path:
            assert list(SOURCE.glob(path)) or list(ROOT.glob(path)), path


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_links_lead_somewhere(page: Path) -> None:
    """Every link to a file of ours has that file at its end."""
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", sorted(DOCS))
def test_a_page_is_read_in_one_sitting(page: str) -> None:
    """120 lines, or it is two pages."""
    assert len(DOCS[page].splitlines()) <= LONGEST_PAGE


def test_the_settings_of_the_readme_are_the_settings() -> None:
    """Names in the environment, and the defaults that are printed beside them."""
    section = README.split("## Settings")[1].split("\n## ")[0]
    fields = Settings.model_fields
    listed = re.findall(r"`REVEC_(\w+)`(?: \(([^)]*)\))?", section)
    assert {name.lower() for name, _ in listed} <= fields.keys()
    for name, said in listed:
        default = fields[name.lower()].default
        if number := re.search(r"\d+", said):
            assert float(number[0]) == default, name
