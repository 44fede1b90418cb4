"""A database with a bit of everything under way, and what its processes show of it."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import date
from pathlib import Path
from uuid import uuid4

import httpx2

from revec.app import App
from revec.migrate.census import CensusTaker
from revec.model.index import Collection
from revec.model.migration import State
from revec.observe import events
from revec.observe.metrics import Metrics
from revec.work import health
from tests import servers, steps
from tests.loopback import Loopback
from tests.migrate import world
from tests.search import shadowed

RULES = Path(__file__).parents[2] / "ops" / "alerts.yml"
PATIENCE = 60.0  # seconds
SHUT = date(2027, 1, 31)
NAME = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)[{ ]", re.MULTILINE)


def names(text: str) -> set[str]:
    """Of the metrics that are there."""
    return set(NAME.findall(text))


@contextmanager
def listening() -> Iterator[Metrics]:
    metrics = Metrics()
    with events.heard(metrics.hear):
        yield metrics


async def census(app: App) -> None:
    await steps.rows(app, "DELETE FROM revec.lease WHERE name = 'census' RETURNING 1")
    taker = CensusTaker(app.database, lambda _: SHUT, uuid4())
    taker._due = 0.0
    await taker.tick()


async def everything(app: App, loopback: Loopback, metrics: Metrics) -> Collection:
    """Some users see a migration's index, which is in the shadow too; an edit waits, a document was refused."""
    loopback.fault("refuse", times=None, match="poison")
    made = await steps.ready(app, 6)
    await steps.rows(app, "UPDATE revec.migration SET budget = 5 RETURNING 1")
    await shadowed.on(app, made)
    await shadowed.ask(app, "what is document 3", "and what is document 4", "and what is document 4")
    await steps.put(app, made, steps.drafts(1, start=50, word="poison"))
    await steps.drain(app)
    await world.force(app, State.CANARY)
    await steps.put(app, made, steps.drafts(2, start=100))
    # What takes a provider with a price, or with a limit.
    metrics.hear(events.Called("openai:dear", "live", "ok", 1, 10, 0.1, 0.2))
    metrics.hear(events.HeldBack("openai:dear", "a limit"))
    return made


async def scraped(app: App, metrics: Metrics) -> str:
    """As Prometheus gets it of a worker."""
    async with health.serving("127.0.0.1:0", app.database, metrics.exposition) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        await writer.drain()
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
    assert head.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8")
    return body.decode()


@asynccontextmanager
async def prometheus(folder: Path, port: int) -> AsyncIterator[tuple[httpx2.AsyncClient, float]]:
    """A real one, with our rules, that scrapes this port every second; and how long one may wait for it."""
    program = servers.needs("prometheus")
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(RULES)],
        "scrape_configs": [{"job_name": "revec", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}],
    }
    (folder / "prometheus.yml").write_text(json.dumps(config))
    own = servers.free_port()
    running = subprocess.Popen(
        [
            program,
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{own}",
            "--log.level=error",
        ]
    )
    try:
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{own}", trust_env=False) as client:
            yield client, PATIENCE
    finally:
        running.terminate()
        running.wait()


async def queried(client: httpx2.AsyncClient, expr: str) -> dict[str, float]:
    """The values of an expression, by collection, or by its name where there is none; {}: not yet."""
    try:
        said = (await client.get("/api/v1/query", params={"query": expr})).json()
    except (httpx2.TransportError, ValueError):  # it is not up yet
        return {}
    rows = said.get("data", {}).get("result", [])
    return {row["metric"].get("collection", expr): float(row["value"][1]) for row in rows}


async def health_of_rules(client: httpx2.AsyncClient) -> dict[str, str]:
    said = (await client.get("/api/v1/rules")).json()
    return {rule["name"]: rule["health"] for group in said["data"]["groups"] for rule in group["rules"]}


def promtool(*how: str, said: str | None = None, cwd: str | None = None) -> str:
    """Its complaints; nothing where all is well."""
    done = subprocess.run(
        [servers.needs("promtool"), *how], input=said, capture_output=True, text=True, check=False, cwd=cwd
    )
    return "" if done.returncode == 0 and not done.stderr.strip() else done.stdout + done.stderr
