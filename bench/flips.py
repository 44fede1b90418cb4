"""`make bench-flips`: searches beside a route that will not stand still.

    python -m bench.flips [--searches 20000] [--rate 100] [--flips 10] [--writes 50]

Two spaces of equal dims, so nothing but care keeps a query of the one out of the other. So many searches a
second, in turn hybrid and by vector, each of a text that nobody asked before; so many cutovers and rollbacks;
so many documents written, which a worker embeds for both. Every answer is looked at: its hits must stand as
the model of the index that it names ranks them, at an epoch at which that index served. Then a control does
what must not be done, and reads the route again once it has embedded the query: it has to be caught.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from bench.processes import started
from bench.report import Figure, at_least, at_most, finish, print_machine, reported
from revec.app import App
from revec.model.document import Draft
from revec.model.index import Collection, Index
from revec.model.reading import Hit, Mode, Reading
from revec.postgres import documents
from revec.postgres.server import Server
from revec.search.retriever import Served
from revec.settings import Settings
from tests import loopback as fake
from tests import steps
from tests.loopback import Loopback

OLD, NEW = "openai:fake-64", "openai:fake-b-64"
STANDING = 400  # documents that nobody edits: what they are scored is known
EDITED = 200
CONTROL = 2_000  # searches
NEAR = 2e-3  # float16 keeps so much of a cosine

Search = Callable[[str, Mode], Awaitable[Reading]]


@dataclass(slots=True)
class Seen:
    """What the searches of one run met."""

    answers: int = 0
    errors: int = 0
    degraded: int = 0
    wrong: int = 0
    flips: int = 0
    written: int = 0
    times: list[float] = field(default_factory=list)  # milliseconds
    indexes: set[int] = field(default_factory=set)


class Judge:
    """Knows what each model makes of each text, and which index served when."""

    def __init__(self, indexes: dict[int, Index], texts: dict[str, str]) -> None:
        self.models = {number: index.space.model for number, index in indexes.items()}
        self.vectors = {
            model: dict(zip(texts, fake.vectors(list(texts.values()), model), strict=True))
            for model in self.models.values()
        }
        self.served: dict[int, int] = {}  # epoch → index

    def is_wrong(self, query: str, reading: Reading) -> bool:
        """Not of the index that served at that epoch, or not as its model sees it."""
        if self.served.get(reading.epoch) != reading.index_id:
            return True
        model = self.models[reading.index_id]
        asked, known = fake.vector(query, model), self.vectors[model]
        hits = [hit for hit in reading.hits if hit.id in known]
        scores = {hit.id: float(known[hit.id] @ asked) for hit in hits}
        if any(hit.vector_rank for hit in hits):
            ranked = sorted((hit for hit in hits if hit.vector_rank), key=lambda hit: hit.vector_rank or 0)
            ordered = [scores[hit.id] for hit in ranked]
            return any(later > sooner + NEAR for sooner, later in pairwise(ordered))
        return any(abs(hit.score - scores[hit.id]) > NEAR for hit in hits)


async def run(scene: Scene, search: Search, searches: int, options: argparse.Namespace) -> Seen:
    seen, over = Seen(), asyncio.Event()
    answered: list[tuple[str, Reading]] = []

    async def ask(number: int) -> None:
        query = f"what nobody wrote {id(seen)} {number}"
        began = time.perf_counter()
        try:
            reading = await search(query, Mode.HYBRID if number % 2 else Mode.VECTOR)
        except Exception as error:  # noqa: BLE001 - each is counted, whatever it is
            seen.errors += 1
            print(f"an error: {type(error).__name__}: {error}", file=sys.stderr)
            return
        seen.times.append(1000 * (time.perf_counter() - began))
        answered.append((query, reading))

    async def flip() -> None:
        while not over.is_set():
            due = time.perf_counter() + 1 / options.flips
            await scene.flip()
            seen.flips += 1
            await asyncio.sleep(max(0.0, due - time.perf_counter()))

    async def write() -> None:
        while not over.is_set():
            due = time.perf_counter() + 10 / options.writes
            await scene.write(10)
            seen.written += 10
            await asyncio.sleep(max(0.0, due - time.perf_counter()))

    async with asyncio.TaskGroup() as beside:
        beside.create_task(flip())
        beside.create_task(write())
        async with asyncio.TaskGroup() as asking:
            began = time.perf_counter()
            for number in range(searches):
                await asyncio.sleep(max(0.0, began + number / options.rate - time.perf_counter()))
                asking.create_task(ask(number))
        over.set()
    for query, reading in answered:
        seen.answers += 1
        seen.indexes.add(reading.index_id)
        seen.degraded += reading.degraded
        seen.wrong += not reading.degraded and scene.judge.is_wrong(query, reading)
    return seen


class Scene:
    """A collection that is ready to be cut over, and goes there and back."""

    def __init__(self, app: App, operator: App, made: Collection, judge: Judge) -> None:
        self.app, self.operator, self.made, self.judge = app, operator, made, judge
        self._edits = 0
        self._new_serves = False

    async def flip(self) -> None:
        if self._new_serves:
            epoch, _ = await self.operator.commands.switch.rollback(self.made, why="flip", now=True)
        else:
            epoch, _ = await self.operator.commands.switch.cutover(self.made, why="flip")
        self._new_serves = not self._new_serves
        self.judge.served[epoch] = max(self.judge.models) if self._new_serves else min(self.judge.models)

    async def write(self, count: int) -> None:
        drafts = []
        for _ in range(count):
            self._edits += 1
            drafts.append(Draft(f"edited {self._edits % EDITED}", body=f"the edit {self._edits}"))
        await steps.put(self.operator, self.made, sorted(drafts, key=lambda draft: draft.key))

    async def search(self, query: str, mode: Mode) -> Reading:
        return await self.app.retriever.search("c", query, k=10, tenant="default", mode=mode)

    async def careless(self, query: str, _: Mode) -> Reading:
        """The control: the query is embedded for one route, and searched for by the next one."""
        retriever = self.app.retriever
        _, index = await retriever.route("c")
        vector = await retriever.embedded(index, query, tenant="default")
        began = time.perf_counter()
        served = Served("c", *await retriever.route("c"))
        async with self.app.database.transaction("reader", tenant="default") as conn:
            nearest = await self.app.store.nearest(conn, served.index, vector, limit=10, tenant="default")
            live = await documents.hydrate(conn, [doc_id for doc_id, _ in nearest], "default")
        hits = [
            Hit(row.key, score, row.title, row.tenant, row.source)
            for doc_id, score in nearest
            if (row := live.get(doc_id))
        ]
        return served.reading(hits, began, began)


async def measure(dsn: str, home: Path, provider: Loopback, options: argparse.Namespace) -> list[Figure]:
    settings = Settings(dsn=dsn, OPENAI_BASE_URL=provider.url, OPENAI_API_KEY="loopback")  # type: ignore[call-arg]
    async with App(settings, may_apply=True) as app, App(settings, may_apply=True) as operator:
        made, judge = await staged(app)
        print_machine(dsn)
        scene = Scene(app, operator, made, judge)
        environment = {
            "REVEC_DSN": dsn,
            "OPENAI_BASE_URL": provider.url,
            "OPENAI_API_KEY": "loopback",
        }
        worker = started(
            (sys.executable, "-m", "revec.cli.main", "worker", "--quiet"), environment=environment, cwd=home
        )
        try:
            ours = await run(scene, scene.search, options.searches, options)
            control = await run(scene, scene.careless, CONTROL, options)
        finally:
            worker.process.terminate()
            await asyncio.to_thread(worker.wait)
        await steps.drain(app)
        await steps.assert_oracle(app, scene.made)
    return [
        reported("searches answered", ours.answers),
        reported("flips beside them", ours.flips),
        reported("documents written beside them", ours.written),
        at_least("indexes that answered", len(ours.indexes), 2),
        at_most("answers from the wrong space", ours.wrong, 0),
        at_most("errors", ours.errors, 0),
        reported("answers by the words alone", ours.degraded),
        reported("p50 ms", statistics.median(ours.times)),
        reported("p95 ms", statistics.quantiles(ours.times, n=20)[-1]),
        at_least(f"control of {CONTROL:,}: answers from the wrong space", control.wrong, 1),
    ]


async def staged(app: App) -> tuple[Collection, Judge]:
    made = await steps.collection(app, model=OLD)
    texts = {f"standing {n}": f"the text of document {n}" for n in range(STANDING)}
    drafts = [Draft(key, body=text) for key, text in texts.items()]
    drafts += [Draft(f"edited {n}", body=f"not edited {n}") for n in range(EDITED)]
    await steps.put(app, made, drafts)
    await steps.drain(app)
    await app.start(made, NEW)
    await steps.drain(app)
    indexes = {index.id: index for index in await steps.written(app, made)}
    judge = Judge(indexes, texts)
    (route,) = await steps.rows(app, "SELECT epoch, serving FROM revec.route")
    judge.served[route.epoch] = route.serving
    return made, judge


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--searches", type=int, default=20_000)
    parser.add_argument("--rate", type=float, default=100.0, help="searches a second")
    parser.add_argument("--flips", type=float, default=10.0, help="a second")
    parser.add_argument("--writes", type=float, default=50.0, help="documents a second")
    options = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="revec-bench-"))
    home.chmod(0o755)  # the server may run as another user
    try:
        with Server(home / "home") as server, Loopback() as provider:
            print(
                f"n: {options.searches:,} searches at {options.rate:g}/s, {options.flips:g} flips/s, "
                f"{options.writes:g} writes/s, {STANDING + EDITED} documents, {OLD} and {NEW}"
            )
            figures = asyncio.run(measure(server.dsn, home, provider, options))
    finally:
        shutil.rmtree(home, ignore_errors=True)
    finish("flips", figures)


if __name__ == "__main__":
    main()
