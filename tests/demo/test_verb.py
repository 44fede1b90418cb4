"""`revec demo`: the example for whoever installed the package, its migration open in the console."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from revec.app import App
from revec.cli.demo import verb
from revec.model.migration import State
from tests import servers, steps
from tests.doors.test_cli import Shell
from tests.doors.test_up import ended
from tests.loopback import Loopback
from tests.migrate import world
from tests.work import hands

PATIENCE = 240.0  # seconds, of a model on a busy machine


@pytest.fixture
def home() -> Iterator[Path]:
    """For embedded servers: below a folder that their user may enter."""
    with tempfile.TemporaryDirectory(prefix="revec-demo-", dir=servers.quick_folder()) as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_the_demo_leaves_a_decision_to_a_person(home: Path, tmp_path: Path) -> None:
    """Its own database, beside the usual one; ready for a cutover. Run again it makes nothing anew, and the console
    is up, where nobody has to log in.
    """
    revec = Shell(tmp_path, REVEC_HOME=str(home / "home"))
    told = revec("demo", "--documents", "150")
    assert f"REVEC_HOME={home}/home-demo revec up" in told
    assert not (home / "home").exists()
    mine = Shell(tmp_path, REVEC_HOME=str(home / "home-demo"))
    seen = mine.json("status", "docs")
    assert (seen["state"], seen["target"], seen["documents"]) == ("ready", "local:minilm-384", 150)
    assert mine.json("check") == {"breaches": []}
    process = subprocess.Popen(
        [sys.executable, "-m", "revec.cli.main", "demo", "--serve", "--port", "0"],
        cwd=tmp_path,
        env={**revec.environment, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout
        console = process.stdout.readline().split()[1]
        page = httpx2.get(f"{console}/migration?collection=docs", timeout=PATIENCE).text
        assert "Migration 2 to <b>local:minilm-384</b>" in page
        ended(process)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


async def test_the_migration_begins_behind_the_first_fill(app: App, loopback: Loopback) -> None:
    """In none of the states that the first fill goes through; the old model may serve in some of them."""
    made = await steps.collection(app, "docs")
    await steps.put(app, made, steps.drafts(3))
    served = False
    while (seen := await world.look(app, made)).state != State.FINISHED:
        served |= seen.serving is not None
        assert not verb._is_filled(seen), seen.state
        if seen.state == State.BACKFILLING:
            await hands.step(app)
        await world.tick(app)
    assert served
    assert verb._is_filled(seen)
