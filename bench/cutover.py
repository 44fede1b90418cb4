"""`make bench-cutover`: a thousand cutovers and rollbacks under readers and writers, over four API processes.

    python -m bench.cutover [--flips 1000] [--minutes 15] [--rate 100] [--writes 50] [--quiet 20]
                            [--renames 100]

Searches go over HTTP to four `revec serve` in turn, documents are written one a transaction, a worker embeds
them for both indexes, and one statement is always at work for a fifth of a second, as there is one in life.
First all that without a flip, then with one flip after the other, then, in the same run, what runbooks do:
two columns change their names in one transaction, while others read and write that table.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2

from bench.flips import EDITED, NEW, OLD, STANDING, Judge, Scene, staged
from bench.processes import started
from bench.report import Figure, at_least, at_most, finish, print_machine, reported
from revec.app import App
from revec.postgres.server import Server
from revec.settings import Settings
from tests import steps
from tests.loopback import Loopback

SERVERS = 4
MOST = 64  # searches that wait at once
SLOW = 0.2  # seconds of the statement that is always at work
GOAL = 15.0  # milliseconds of a flip
TOLD = 25  # flips between two lines


@dataclass(slots=True)
class Seen:
    """What readers and writers met in one part of the run; times in milliseconds."""

    answers: list[tuple[str, SimpleNamespace]] = field(default_factory=list)
    errors: int = 0
    waiting: int = 0
    skipped: int = 0  # too many waited already: a machine that is too slow for the rate
    reads: list[float] = field(default_factory=list)
    writes: list[float] = field(default_factory=list)


@contextmanager
def serving(environment: dict[str, str], home: Path) -> Iterator[list[str]]:
    """The addresses of four processes that answer."""
    command = [sys.executable, "-m", "revec.cli.main", "serve", "--no-auth", "--port", "0"]
    processes = [
        subprocess.Popen(
            command,
            cwd=home,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for _ in range(SERVERS)
    ]
    try:
        yield [process.stdout.readline().split()[0] for process in processes if process.stdout]
    finally:
        for process in processes:
            process.terminate()
            process.wait()


async def every(seconds: float, act: Callable[[], Awaitable[None]], over: asyncio.Event) -> None:
    """At a steady rate, whatever each takes."""
    async with asyncio.TaskGroup() as tasks:
        due = time.perf_counter()
        while not over.is_set():
            tasks.create_task(act())
            due += seconds
            await asyncio.sleep(max(0.0, due - time.perf_counter()))


@asynccontextmanager
async def beside(
    scene: Scene, client: httpx2.AsyncClient, urls: list[str], options: Any
) -> AsyncIterator[Seen]:
    """Readers, a writer and the slow statement, for as long as the body runs."""
    seen, over = Seen(), asyncio.Event()

    async def read() -> None:
        if seen.waiting >= MOST:
            seen.skipped += 1
            return
        seen.waiting += 1
        try:
            await asked()
        finally:
            seen.waiting -= 1

    async def asked() -> None:
        number = len(seen.reads) + seen.errors
        query = f"what nobody wrote {id(seen)} {number} {time.perf_counter_ns()}"
        began = time.perf_counter()
        try:
            answer = await client.post(
                f"{urls[number % len(urls)]}/v1/collections/c/search",
                json={"q": query, "k": 10, "mode": "vector", "tenant": "default"},
            )
            answer.raise_for_status()
        except httpx2.HTTPError as error:
            seen.errors += 1
            said = error.response.text if isinstance(error, httpx2.HTTPStatusError) else ""
            print(f"an error: {type(error).__name__} {said}", file=sys.stderr)
            return
        seen.reads.append(1000 * (time.perf_counter() - began))
        seen.answers.append((query, _reading(answer.json())))

    async def write() -> None:
        began = time.perf_counter()
        await scene.write(1)
        seen.writes.append(1000 * (time.perf_counter() - began))

    async def writing() -> None:
        """One after the other: the longest is what a writer waits at most."""
        while not over.is_set():
            due = time.perf_counter() + 1 / options.writes
            await write()
            await asyncio.sleep(max(0.0, due - time.perf_counter()))

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(every(1 / options.rate, read, over))
        tasks.create_task(writing())
        tasks.create_task(
            slowly(scene.operator, "SELECT count(*) FROM revec.vectors_1, revec.vectors_2", over)
        )
        yield seen
        over.set()


async def slowly(app: App, statement: str, over: asyncio.Event) -> None:
    """A transaction that has read these tables and is not over yet."""
    while not over.is_set():
        async with app.database.transaction() as conn:
            await conn.execute(statement)
            await conn.execute("SELECT pg_sleep(%s)", (SLOW,))


def _reading(answer: dict[str, Any]) -> SimpleNamespace:
    hits = [
        SimpleNamespace(id=hit["id"], score=hit["score"], vector_rank=hit.get("vector_rank"))
        for hit in answer["hits"]
    ]
    number = int(answer["index"].rpartition("#")[2])
    return SimpleNamespace(epoch=answer["epoch"], index_id=number, hits=hits)


async def flips(scene: Scene, count: int, minutes: float) -> tuple[list[float], list[float]]:
    """Milliseconds of each flip itself, and of each verb with all that it asks before; as many as there
    is time for.
    """
    flipped, verbs = [], []
    until = time.perf_counter() + 60 * minutes
    while len(flipped) < count and time.perf_counter() < until:
        began = time.perf_counter()
        flipped.append(1000 * await scene.flip())
        verbs.append(1000 * (time.perf_counter() - began))
        if len(flipped) % TOLD == 0:
            shown = f"flip p50 {statistics.median(flipped):.1f} ms, verb {statistics.median(verbs):,.0f} ms"
            print(f"{len(flipped):,} flips: {shown}", flush=True)
    return flipped, verbs


class Timed(Scene):
    """The same, and how long the flip took."""

    async def flip(self) -> float:  # type: ignore[override]
        switch = self.operator.commands.switch
        if self._new_serves:
            epoch, seconds = await switch.rollback(self.made, why="flip", now=True)
        else:
            epoch, seconds = await switch.cutover(self.made, why="flip")
        self._new_serves = not self._new_serves
        self.judge.served[epoch] = max(self.judge.models) if self._new_serves else min(self.judge.models)
        return seconds


async def renames(app: App, count: int, rate: float) -> tuple[list[float], float, int]:
    """Milliseconds of each rename, the longest writer's stall, and reads of the other model's column."""
    async with app.database.transaction() as conn:
        await conn.execute("CREATE TABLE public.renamed (id int PRIMARY KEY, embedding text, next text)")
        await conn.execute(
            "INSERT INTO public.renamed SELECT n, 'one', 'other' FROM generate_series(1, 600) AS n"
        )
    over, took, stalls, wrong = asyncio.Event(), [], [], 0
    now = "one"  # what each process was told by its settings

    async def read() -> None:
        nonlocal wrong
        model = now
        await asyncio.sleep(0.005)  # the query is embedded
        async with app.database.transaction() as conn:
            row: Any = await (await conn.execute("SELECT embedding FROM public.renamed LIMIT 1")).fetchone()
        wrong += row.embedding != model

    async def writing() -> None:
        while not over.is_set():
            began = time.perf_counter()
            async with app.database.transaction() as conn:
                await conn.execute("UPDATE public.renamed SET id = id WHERE id = 1")
            stalls.append(1000 * (time.perf_counter() - began))
            await asyncio.sleep(0.02)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(every(1 / rate, read, over))
        tasks.create_task(writing())
        tasks.create_task(slowly(app, "SELECT count(*) FROM public.renamed", over))
        for _ in range(count):
            began = time.perf_counter()
            async with app.database.transaction() as conn:
                await conn.execute("ALTER TABLE public.renamed RENAME embedding TO was")
                await conn.execute("ALTER TABLE public.renamed RENAME next TO embedding")
                await conn.execute("ALTER TABLE public.renamed RENAME was TO next")
            now = "other" if now == "one" else "one"
            took.append(1000 * (time.perf_counter() - began))
            await asyncio.sleep(0.05)
        over.set()
    return took, max(stalls), wrong


async def measure(dsn: str, home: Path, provider: Loopback, options: argparse.Namespace) -> list[Figure]:
    settings = Settings(dsn=dsn, OPENAI_BASE_URL=provider.url, OPENAI_API_KEY="loopback")  # type: ignore[call-arg]
    environment = {"REVEC_DSN": dsn, "OPENAI_BASE_URL": provider.url, "OPENAI_API_KEY": "loopback"}
    environment["REVEC_REQUESTS_PER_SECOND"] = "100000"
    async with App(settings, may_apply=True) as app, App(settings, may_apply=True) as operator:
        made, judge = await staged(app)
        print_machine(dsn)
        scene = Timed(app, operator, made, judge)
        worker = started(
            (sys.executable, "-m", "revec.cli.main", "worker", "--quiet"), environment=environment, cwd=home
        )
        try:
            with serving(environment, home) as urls:
                async with httpx2.AsyncClient(timeout=30.0, trust_env=False) as client:
                    async with beside(scene, client, urls, options) as quiet:
                        await asyncio.sleep(options.quiet)
                    async with beside(scene, client, urls, options) as busy:
                        flipped, verbs = await flips(scene, options.flips, options.minutes)
        finally:
            worker.process.terminate()
            await asyncio.to_thread(worker.wait)
        wrong = _wrong(judge, quiet) + _wrong(judge, busy)
        took, stall, mixed = await renames(operator, options.renames, options.rate)
        await steps.drain(app)
        await steps.assert_oracle(app, made)
    return [
        at_least("flips", len(flipped), options.flips),
        reported("searches answered beside them", len(busy.answers)),
        reported("searches that were not asked because too many waited", quiet.skipped + busy.skipped),
        reported("documents written beside them", len(busy.writes)),
        at_most("flip p99 ms", _p99(flipped), GOAL),
        reported("flip p50 ms", statistics.median(flipped)),
        reported("the whole verb p99 ms", _p99(verbs)),
        at_most("answers from the wrong space", wrong, 0),
        at_most("errors", quiet.errors + busy.errors, 0),
        reported("longest writer's stall without flips ms", max(quiet.writes)),
        reported("longest writer's stall with flips ms", max(busy.writes)),
        reported("writers' p99 without flips ms", _p99(quiet.writes)),
        reported("writers' p99 with flips ms", _p99(busy.writes)),
        reported("searches' p99 without flips ms", _p99(quiet.reads)),
        reported("searches' p99 with flips ms", _p99(busy.reads)),
        reported(f"peer, {len(took):,} renames of two columns: p99 ms", _p99(took)),
        reported("peer: longest writer's stall ms", stall),
        reported("peer: reads of the wrong space", mixed),
    ]


def _wrong(judge: Judge, seen: Seen) -> int:
    return sum(judge.is_wrong(query, reading) for query, reading in seen.answers)  # type: ignore[arg-type]


def _p99(times: list[float]) -> float:
    return statistics.quantiles(times, n=100)[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--flips", type=int, default=1_000)
    parser.add_argument("--minutes", type=float, default=15.0, help="at most, for the flips")
    parser.add_argument("--rate", type=float, default=100.0, help="searches a second")
    parser.add_argument("--writes", type=float, default=50.0, help="documents a second")
    parser.add_argument("--quiet", type=float, default=20.0, help="seconds without flips")
    parser.add_argument("--renames", type=int, default=100)
    options = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="revec-bench-"))
    home.chmod(0o755)  # the server may run as another user
    try:
        with Server(home / "home") as server, Loopback() as provider:
            print(
                f"n: {options.flips:,} flips beside {options.rate:g} searches/s over {SERVERS} processes and "
                f"{options.writes:g} writes/s, {STANDING + EDITED} documents, {OLD} and {NEW}"
            )
            figures = asyncio.run(measure(server.dsn, home, provider, options))
    finally:
        shutil.rmtree(home, ignore_errors=True)
    finish("cutover", figures)


if __name__ == "__main__":
    main()
