"""`python -m ops`: write the dashboards, the rules and their tests down again."""

from __future__ import annotations

from pathlib import Path

from ops import alerts
from ops.dashboards import DASHBOARDS

HERE = Path(__file__).parent


def written() -> dict[Path, str]:
    """File → what has to be in it."""
    boards = {HERE / "dashboards" / f"{board.uid}.json": board.json() for board in DASHBOARDS}
    return boards | {HERE / "alerts.yml": alerts.rules(), HERE / "alerts_test.yml": alerts.tests()}


if __name__ == "__main__":
    for path, text in written().items():
        path.write_text(text, encoding="utf-8")
