"""`make bench-shadow`: what users notice of a shadow.

    python -m bench.shadow [--seconds 40] [--rate 25] [--documents 2000]

So many hybrid searches a second, each of a text that nobody asked before, each begun when it is due whatever
the others do. Second by second the shadow is off and on: for 2%, 10% and all of the queries, and for all of
them with a candidate that never answers. Between two seconds what is being read comes to its end, so that
none of it is counted as off. The goal: median and 99th percentile change by at most 2 ms or 5%.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import statistics
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from bench.report import Figure, at_least, finish, print_machine, reported
from revec.app import App
from revec.model.index import Collection, Index
from revec.model.reading import Mode
from revec.postgres import shadows
from revec.postgres.server import Server
from revec.settings import Settings
from revec.stores.pgvector import PgVector
from tests import steps
from tests.loopback import Loopback

CANDIDATE = 2  # the second index that is made
CASES = {"2%": 0.02, "10%": 0.10, "100%": 1.0, "100%, candidate hung": 1.0}
NOTICED_MS, NOTICED_SHARE = 2.0, 0.05
WARM_UP = 100  # searches
PAUSE = 3.0  # seconds at most, for what is being read


class Hangable(PgVector):
    """Of one index, if it is told so, no search ever ends."""

    hung: int | None = None

    def statement(self, index: Index, query: Any, **how: Any) -> Any:
        return None if index.id == self.hung else super().statement(index, query, **how)

    async def nearest(self, conn: Any, index: Index, query: Any, **how: Any) -> Any:
        if index.id == self.hung:
            await asyncio.Event().wait()
        return await super().nearest(conn, index, query, **how)


class Scene:
    """A collection with two current indexes, and users who never ask the same twice."""

    def __init__(self, app: App, store: Hangable, made: Collection, rate: float) -> None:
        self.app, self.store, self.made, self.rate = app, store, made, rate
        self.asked = 0

    async def ask(self) -> float:
        """Milliseconds of one search."""
        self.asked += 1
        query = f"what nobody wrote about document {self.asked} so far"
        began = time.perf_counter()
        await self.app.retriever.search("c", query, tenant="default", mode=Mode.HYBRID)
        return 1000 * (time.perf_counter() - began)

    async def a_second(self) -> list[float]:
        async with asyncio.TaskGroup() as asking:
            began, tasks = time.perf_counter(), []
            for number in range(round(self.rate)):
                await asyncio.sleep(max(0.0, began + number / self.rate - time.perf_counter()))
                tasks.append(asking.create_task(self.ask()))
        return [task.result() for task in tasks]

    async def turn(self, rate: float) -> None:
        """The shadow's rate from now on, once nothing of the old one is being read."""
        with suppress(TimeoutError):
            async with asyncio.timeout(PAUSE):
                await self.app.dual_reader.settled()
        async with self.app.database.transaction() as conn:
            if rate:
                await shadows.point(conn, self.made.id, CANDIDATE, rate, "bench")
            else:
                await shadows.off(conn, self.made.id, "bench")

    async def measure(self, name: str, rate: float, seconds: int) -> list[Figure]:
        off: list[float] = []
        on: list[float] = []
        self.store.hung = CANDIDATE if "hung" in name else None
        for second in range(seconds):
            await self.turn(rate if second % 2 else 0.0)
            (on if second % 2 else off).extend(await self.a_second())
        return compared(name, off, on)


def compared(name: str, off: list[float], on: list[float]) -> list[Figure]:
    figures = [reported(f"searches each, {name}", float(len(on)))]
    for what, share in (("p50", 50), ("p99", 99)):
        before, after = quantile(off, share), quantile(on, share)
        bearable = after - before <= max(NOTICED_MS, NOTICED_SHARE * before)
        figures += [
            reported(f"{what} off, beside {name}, ms", before),
            reported(f"{what} on, {name}, ms", after),
            at_least(f"{what}, {name}: changed by at most 2 ms or 5%", float(bearable), 1.0),
        ]
    return figures


def quantile(times: list[float], share: int) -> float:
    return statistics.quantiles(times, n=100)[share - 1]


async def measured(dsn: str, provider: Loopback, options: argparse.Namespace) -> list[Figure]:
    settings = Settings(dsn=dsn, openai_base_url=provider.url, openai_api_key="k", brake=False)  # type: ignore[arg-type]
    store = Hangable()
    async with App(settings, may_apply=True) as app:
        app.store._here = store  # type: ignore[attr-defined]  # noqa: SLF001 - nobody else hangs a store
        print_machine(app.database.dsn)
        made = await steps.ready(app, options.documents)
        scene = Scene(app, store, made, options.rate)
        for _ in range(WARM_UP):
            await scene.ask()
        figures: list[Figure] = []
        for name, rate in CASES.items():
            figures += await scene.measure(name, rate, options.seconds)
        store.hung = None
        await app.dual_reader.settled()
        (row,) = await steps.rows(
            app, "SELECT sum(taken)::float8 AS taken, sum(dropped)::float8 AS dropped FROM revec.shed"
        )
        return [*figures, reported("observed", row.taken), reported("dropped and counted", row.dropped)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=int, default=40, help="of each case: half off, half on")
    parser.add_argument("--rate", type=float, default=25, help="searches a second")
    parser.add_argument("--documents", type=int, default=2_000)
    options = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="revec-bench-"))
    home.chmod(0o755)  # the server may run as another user
    try:
        with Server(home / "home") as server, Loopback() as provider:
            print(
                f"n: {options.documents:,} documents, {options.rate:g} searches/s, "
                f"{options.seconds} s a case, {steps.OLD} and {steps.NEW}"
            )
            figures = asyncio.run(measured(server.dsn, provider, options))
    finally:
        shutil.rmtree(home, ignore_errors=True)
    finish("shadow", figures)


if __name__ == "__main__":
    main()
