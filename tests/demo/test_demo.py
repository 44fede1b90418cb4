"""The demo itself, on a smaller corpus: it says what it measured, and every promise holds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def test_the_demo_keeps_its_promises() -> None:
    """`make demo` on the first 500 documents: exit 0, the table, nothing lost."""
    done = subprocess.run(
        [sys.executable, "-m", "examples.demo", "--documents", "500"],
        cwd=REPOSITORY,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Every promise held." in done.stdout
    assert "answers from the wrong space" in done.stdout
    assert "Traceback" not in done.stderr
