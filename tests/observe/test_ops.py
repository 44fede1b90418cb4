"""What watches Revec from outside is what was generated, is read by the real programs, and asks for what there is."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ops.__main__ import HERE, written
from ops.alerts import ALERTS
from ops.dashboards import DASHBOARDS
from revec.app import App
from revec.observe import census_figures
from revec.work import health
from tests import servers, steps
from tests.loopback import Loopback
from tests.observe import watched
from tests.web import door

METRIC = re.compile(r"\b(?:revec|process)_[a-z_]+\b")
CENSUS = Path(census_figures.__file__).read_text()
BOARDS = [pytest.param(json.loads(board.json()), id=board.uid) for board in DASHBOARDS]


def asked(board: dict[str, Any]) -> list[str]:
    """Every expression of a dashboard, as Prometheus would get it."""
    exprs = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    return [each.replace("$__rate_interval", "5m").replace("$collection", ".*") for each in exprs]


@pytest.mark.parametrize("path", [pytest.param(path, id=path.name) for path in written()])
def test_what_is_committed_is_what_is_generated(path: Path) -> None:
    """`python -m ops` writes it again."""
    assert path.read_text(encoding="utf-8") == written()[path]


def test_there_is_no_dashboard_but_these() -> None:
    """One that is generated no more is gone."""
    assert set((HERE / "dashboards").iterdir()) <= written().keys()


@pytest.mark.parametrize("board", BOARDS)
def test_every_expression_is_one(board: dict[str, Any], tmp_path: Path) -> None:
    """As promtool reads them."""
    rules = [{"record": f"x:y{n}", "expr": expr} for n, expr in enumerate(asked(board))]
    path = tmp_path / "rules.yml"
    path.write_text(json.dumps({"groups": [{"name": "x", "rules": rules}]}))
    assert not watched.promtool("check", "rules", str(path))


@pytest.mark.parametrize("board", BOARDS)
def test_a_dashboard_can_be_imported_anywhere(board: dict[str, Any]) -> None:
    """No ids, the user's own source, a unit and a sentence for each panel, and none over another."""
    assert board["uid"]
    assert "id" not in board
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        assert "id" not in panel
        assert panel["datasource"]["uid"] == "${source}"
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"]
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken
        assert at["x"] + at["w"] <= 24
        taken |= cells


def test_the_rules_are_read_and_each_was_tried() -> None:
    """Every alert fires in one story and is quiet in another."""
    assert not watched.promtool("check", "rules", str(HERE / "alerts.yml"))
    assert not watched.promtool("test", "rules", "alerts_test.yml", cwd=str(HERE))
    for alert in ALERTS:
        assert alert.fires, alert.name
        assert alert.quiet, alert.name


def test_a_rule_that_never_fires_is_noticed(tmp_path: Path) -> None:
    """The complement: with another threshold its story fails."""
    rules = (HERE / "alerts.yml").read_text().replace("> 10000", "> 10002")
    (tmp_path / "alerts.yml").write_text(rules)
    (tmp_path / "alerts_test.yml").write_text((HERE / "alerts_test.yml").read_text())
    assert "RevecQueueDeep" in watched.promtool("test", "rules", "alerts_test.yml", cwd=str(tmp_path))


def test_the_examples_are_read() -> None:
    """Prometheus' own, and Alertmanager's, which calls somebody for a page and nobody for a ticket."""
    config = str(HERE / "alertmanager.yml")
    assert not watched.promtool("check", "config", "--syntax-only", str(HERE / "prometheus.yml"))
    amtool = servers.needs("amtool")
    subprocess.run([amtool, "check-config", config], check=True, capture_output=True)
    for severity, receiver in {"page": "call", "ticket": "morning"}.items():
        how = [amtool, "config", "routes", "test", f"--config.file={config}", f"severity={severity}"]
        assert subprocess.run(how, check=True, capture_output=True, text=True).stdout.strip() == receiver
    assert {alert.severity for alert in ALERTS} == {"page", "ticket"}


def test_what_nobody_counts_is_not_called_about_twice() -> None:
    """Silent are the alerts on what the census counts; a search that fails, and a worker's memory, are heard."""
    (target,) = re.findall(r'alertname =~ "([^"]+)"', (HERE / "alertmanager.yml").read_text())
    quiet = {alert.name for alert in ALERTS if re.fullmatch(target, alert.name)}
    counted = {alert.name for alert in ALERTS if is_counted(alert.expr)}
    assert quiet == counted - {"RevecNobodyCounts"}


def is_counted(expr: str) -> bool:
    """Whether it asks for what the census counts alone."""
    return all(f'"{name.removeprefix("revec_")}"' in CENSUS for name in METRIC.findall(expr))


async def test_everything_that_is_asked_for_is_there(app: App, loopback: Loopback) -> None:
    """Each metric of a dashboard or a rule, in a live `/metrics`; which passes promtool."""
    with watched.listening() as metrics:
        await watched.everything(app, loopback, metrics)
        async with door.door(app, metrics=metrics) as client:
            await client.get("/livez")
        await watched.census(app)
        text = await watched.scraped(app, metrics)
    assert not watched.promtool("check", "metrics", said=text)
    wanted = {
        name
        for board in DASHBOARDS
        for expr in asked(json.loads(board.json()))
        for name in METRIC.findall(expr)
    }
    wanted |= {name for alert in ALERTS for name in METRIC.findall(alert.expr)}
    assert wanted - watched.names(text) == set()


async def test_prometheus_itself_reads_all_of_it(app: App, loopback: Loopback, tmp_path: Path) -> None:
    """A real one scrapes a worker, and evaluates every rule without an error."""
    made = await steps.filled(app, 3)
    with watched.listening() as metrics:
        await watched.census(app)
        async with (
            health.serving("127.0.0.1:0", app.database, metrics.exposition) as port,
            watched.prometheus(tmp_path, port) as (client, seconds),
        ):
            async with asyncio.timeout(seconds):
                while not (found := await watched.queried(client, "revec_documents")):
                    await asyncio.sleep(0.2)
                while "unknown" in (states := await watched.health_of_rules(client)).values():
                    await asyncio.sleep(0.2)
            assert await watched.queried(client, "up") == {"up": 1.0}
    assert found == {made.name: 3.0}
    assert states == dict.fromkeys((alert.name for alert in ALERTS), "ok")
