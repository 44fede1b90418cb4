"""docs/library.md does what it says."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

import revec
from revec.app import App
from tests import steps
from tests.client.ways import environment, served
from tests.web import door
from tests.web.test_documents import working

PAGE = (Path(__file__).parents[2] / "docs" / "library.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"```python\n(.*?)```(?:\n\n```\n(.*?)```)?", re.DOTALL)


async def test_every_program_of_the_page_runs(
    app: App, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the first to the last, with a worker and a server beside them; what they print is what is shown."""
    await steps.filled(app, 0, name="notes")
    environment(app, monkeypatch)
    programs = BLOCK.findall(PAGE)
    assert len(programs) == 5
    key = await door.made_key(app, tenant="default")
    async with served(app) as url, working(app):
        names: dict[str, Any] = {"URL": url, "KEY": key}
        for program, shown in programs:
            await asyncio.to_thread(run, program, names)
            assert capsys.readouterr().out == shown


def run(program: str, names: dict[str, Any]) -> None:
    """As in a notebook, or as a script."""
    code = compile(program, "library.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    found = eval(code, names)  # noqa: S307 - the page is ours
    if inspect.iscoroutine(found):
        asyncio.run(found)


def test_every_method_and_parameter_is_on_the_page() -> None:
    """With the words that it really takes."""
    methods = {name for name in vars(revec.SyncClient) if not name.startswith("_")} - {"wait_for"}
    rows = dict(re.findall(r"^\| .*?`(\w+)\((.*?)\)`", PAGE, re.MULTILINE))
    rows |= dict(re.findall(r", `(\w+)\((.*?)\)` \|", PAGE))
    assert rows.keys() == methods
    for name, shown in rows.items():
        said = set(re.findall(r"\w+(?==)|^\w+|(?<=, )\w+(?=[,)]|$)", shown)) - {""}
        takes = set(inspect.signature(getattr(revec.Client, name)).parameters) - {"self"}
        assert said <= takes, name


def test_every_error_on_the_page_is_one_of_ours() -> None:
    """And can be caught as it is written."""
    section = PAGE.split("## Errors")[1].split("\n## ")[0]
    for name in re.findall(r"`([A-Z]\w+)`", section):
        assert issubclass(getattr(revec.errors, name), revec.errors.RevecError)
