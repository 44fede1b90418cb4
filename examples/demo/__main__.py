"""`make demo`: a real index moves to a new model under live writes, and back, and loses nothing.

Every figure of the table at the end is measured in this run; exit 1 if a promise broke.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
from rich.console import Console
from rich.table import Table

from examples.demo import proof
from examples.demo.known_items import bm25_figures, judged
from examples.demo.live import SEARCHES_A_SECOND, WRITES_A_SECOND, Searcher, Writer
from revec.app import App
from revec.cli.demo.questions import Question, questions
from revec.cli.demo.stdlib import Doc, documents
from revec.migrate.check import check
from revec.migrate.status import status
from revec.model.index import Collection, Index
from revec.model.verdict import Outcome, together
from revec.postgres import collections, indexes
from revec.postgres.server import Server
from revec.search.judge import Figures
from revec.settings import Settings

OLD, NEW = "local:wordllama-256", "local:minilm-384"
CONFIG = f"""[collections.docs]
model = "{OLD}"

[[collections.docs.sources]]
table = "app.docs"
title = "signature"
body = "body"
"""
IDLE_SECONDS, LIVE_SECONDS = 6.0, 4.0
out = Console(highlight=False, soft_wrap=True)


@dataclass(slots=True)
class Run:
    """What the demo has to remember until its end."""

    app: App
    docs: list[Doc]
    asked: list[Question]
    collection: Collection
    writer: Writer
    searcher: Searcher
    began: float = field(default_factory=time.monotonic)
    phases: list[tuple[str, float]] = field(default_factory=list)  # name, seconds
    rows: list[tuple[str, str]] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def say(self, what: str) -> None:
        out.print(f"[dim]{time.monotonic() - self.began:6.1f} s[/dim]  {what}")

    def figure(self, what: str, value: str) -> None:
        self.rows.append((what, value))

    def promise(self, *, kept: bool, what: str) -> None:
        if not kept:
            self.broken.append(what)
            out.print(f"[red]broken: {what}[/red]")

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.phases.append((name, time.monotonic() - began))


async def main(limit: int | None) -> int:
    with tempfile.TemporaryDirectory(prefix="revec-demo-") as name:
        home = Path(name)
        home.chmod(0o755)  # the server runs as a user of its own where this one is root
        with Server(home / "server") as server:
            return await tell(server, home, limit)


async def tell(server: Server, home: Path, limit: int | None) -> int:
    """The story, from the user's table to the last proof."""
    docs = list(documents())[:limit]
    out.print(f"{len(docs):,} docstrings of Python {sys.version.split()[0]}'s library, as a user's table")
    prepare_users_side(server.dsn, docs)
    (home / "revec.toml").write_text(CONFIG, encoding="utf-8")
    environment = {**os.environ, "REVEC_DSN": server.dsn, "REVEC_CONCURRENCY": "1"}
    subprocess.run([*revec(), "init"], cwd=home, env=environment, check=True)
    settings = Settings(dsn=server.dsn)
    async with App(settings) as app, worker(home, environment):
        run = await begin(app, server.dsn, docs)
        await first_fill(run)
        async with never_stopping(run):
            await migrate(run)
            await switch_back_and_forth(run)
        await finish(run)
    report(run)
    return 1 if run.broken else 0


def revec() -> list[str]:
    return [sys.executable, "-m", "revec.cli.main"]


def prepare_users_side(dsn: str, docs: list[Doc]) -> None:
    """What a user has before Revec: a table with rows."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA app")
        connection.execute(
            "CREATE TABLE app.docs (name text PRIMARY KEY, signature text NOT NULL, body text NOT NULL)"
        )
        with connection.cursor().copy("COPY app.docs (name, signature, body) FROM STDIN") as copy:
            for doc in docs:
                copy.write_row((doc.key, doc.title, doc.body.replace("\x00", "")))


@asynccontextmanager
async def worker(home: Path, environment: dict[str, str]) -> AsyncIterator[None]:
    """A worker in a process of its own, as people run it."""
    with (home / "worker.log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen([*revec(), "worker"], cwd=home, env=environment, stderr=log, stdout=log)
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


async def begin(app: App, dsn: str, docs: list[Doc]) -> Run:
    keys = {doc.key for doc in docs}
    asked = [question for question in questions() if question.answer in keys]
    answers = {question.answer for question in asked}
    async with app.database.transaction() as conn:
        collection = await collections.named(conn, "docs")
    editable = {doc.key: doc.title for doc in docs[:2_000] if doc.key not in answers}
    return Run(
        app=app,
        docs=docs,
        asked=asked,
        collection=collection,
        writer=Writer(dsn, editable),
        searcher=Searcher(app.retriever, [question.text for question in asked]),
    )


async def first_fill(run: Run) -> None:
    with run.phase("first fill"):
        await until(run, lambda seen: seen.state == "finished")
    seconds = run.phases[-1][1]
    run.say(f"{OLD} serves {len(run.docs):,} documents, filled in {seconds:.1f} s")
    run.figure("documents", f"{len(run.docs):,}")
    run.figure("first fill", f"{seconds:.1f} s, {len(run.docs) / seconds:,.0f} documents/s")


@asynccontextmanager
async def never_stopping(run: Run) -> AsyncIterator[None]:
    """The writer and the searcher, on until the body is over; their failure is ours."""
    run.say(f"a writer ({WRITES_A_SECOND}/s) and a searcher ({SEARCHES_A_SECOND}/s) begin, and never stop")
    tasks = [asyncio.create_task(run.writer.run()), asyncio.create_task(run.searcher.run())]
    began = time.monotonic()
    await asyncio.sleep(IDLE_SECONDS)
    run.figure("search p95, idle", f"{run.searcher.p95_ms(began, time.monotonic()):.0f} ms")
    yield
    for task in tasks:
        run.promise(kept=not task.done(), what="a user's task ended")
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def migrate(run: Run) -> None:
    began = time.monotonic()
    with run.phase("backfill and verify"):
        await run.app.start(run.collection, NEW)
        await until(run, lambda seen: seen.state == "ready")
    until_ready = time.monotonic()
    seen = await status(run.app.database, run.app.store, run.collection, run.app.limits)
    seconds = until_ready - began
    run.figure("backfill", f"{seconds:.1f} s, {(seen.done or 0) / seconds:,.0f} documents/s")
    run.figure("search p95, backfill", f"{run.searcher.p95_ms(began, until_ready):.0f} ms")
    for gate, verdict in (seen.verdicts or {}).items():
        run.say(f"gate {gate} {verdict}")
    with run.phase("quality"):
        await compare(run)


async def compare(run: Run) -> None:
    """Old and new on the same questions, each by its own index and model; BM25 beside."""
    async with run.app.database.transaction() as conn:
        old, new = await indexes.writing(conn, run.collection.id)
    run.say(f"asking {len(run.asked)} questions that share no content word with their answer")
    for name, found in (
        (OLD, await quality(run, old)),
        (NEW, await quality(run, new)),
        ("BM25, for comparison", await asyncio.to_thread(bm25_figures, run.docs, run.asked)),
    ):
        run.figure(
            f"quality, {name}",
            f"nDCG@10 {found.ndcg_at_10:.3f}, Recall@10 {found.recall_at_10:.3f} (n = {found.queries})",
        )


async def quality(run: Run, index: Index) -> Figures:
    route, _ = await run.app.retriever.route("docs")
    rankings = []
    for question in run.asked:
        reading = await run.app.retriever.read("docs", route, index, question.text, k=10, tenant="default")
        rankings.append([hit.id for hit in reading.hits])
    return judged(rankings, run.asked)


async def switch_back_and_forth(run: Run) -> None:
    commands = run.app.commands
    with run.phase("verify"):
        verdicts = await commands.verify(run.collection)
    run.promise(kept=together(verdicts) is Outcome.PASSED, what=f"verify: {', '.join(map(str, verdicts))}")
    flips = []
    for verb in (commands.switch.cutover, commands.switch.rollback):
        epoch, seconds = await verb(run.collection, why="demo")
        flips.append(seconds)
        run.say(f"{verb.__name__} in {1000 * seconds:.1f} ms: epoch {epoch}; the writes go on")
        await asyncio.sleep(LIVE_SECONDS)
    with run.phase("proof after rollback"):
        await prove(run, "after the rollback")
    _, seconds = await commands.switch.cutover(run.collection, why="demo")
    flips.append(seconds)
    run.say(f"cutover again in {1000 * seconds:.1f} ms")
    await asyncio.sleep(LIVE_SECONDS)
    run.figure("flips", ", ".join(f"{1000 * flip:.1f} ms" for flip in flips))
    wrong, looked = await proof.answers_from_the_wrong_space(run.app, run.searcher, run.writer)
    run.promise(kept=wrong == 0, what=f"{wrong} answers from the wrong space")
    run.figure("answers from the wrong space", f"{wrong} of {looked:,}")


async def finish(run: Run) -> None:
    """The writer has stopped: the old index goes, and everything acknowledged is in the new one."""
    with run.phase("finish"):
        await run.app.commands.switch.finish(run.collection, wait=timedelta(0), why="demo")
        await until(run, lambda seen: seen.state == "finished")
    await prove(run, "at the end")
    breaches = await check(run.app.database, freshness=run.app.limits.freshness)
    run.promise(kept=not breaches, what=f"check: {', '.join(map(str, breaches[:3]))}")
    errors = [answer.error for answer in run.searcher.answers if answer.error]
    run.promise(kept=not errors, what=f"{len(errors)} search errors, first: {errors[:1]}")
    run.figure("search errors", f"{len(errors)} of {len(run.searcher.answers):,} searches")


async def prove(run: Run, when: str) -> None:
    """Every write acknowledged so far: its last state is stored by every index, and found by search."""
    acknowledged, rows = run.writer.acknowledged, len(run.writer.state)
    lost = await proof.lost_writes(run.app, run.collection, run.writer)
    searched, unseen = await proof.found_by_search(run.app, run.writer)
    for what in [*lost, *unseen][:3]:
        out.print(f"[red]{what}[/red]")
    run.promise(kept=not lost and not unseen, what=f"{len(lost) + len(unseen)} writes lost {when}")
    run.figure(
        f"writes made, {when}",
        f"{acknowledged:,} to {rows:,} rows; lost {len(lost) + len(unseen)}, "
        f"found again by search {searched - len(unseen):,} of {searched:,}",
    )
    run.say(f"{acknowledged:,} writes acknowledged, {len(lost) + len(unseen)} lost")


async def until(run: Run, over: Callable[[Any], bool]) -> None:
    """Watch the status, a line every few seconds, until the condition holds."""
    said = 0.0
    while True:
        seen = await status(run.app.database, run.app.store, run.collection, run.app.limits)
        if over(seen):
            return
        if time.monotonic() - said > 3:
            said = time.monotonic()
            rate = f", {seen.per_second:,.0f}/s" if seen.per_second else ""
            left = f", about {seen.eta_seconds} s to go" if seen.eta_seconds else ""
            done = f" {seen.done:,} of {seen.all:,}{rate}{left}" if seen.state == "backfilling" else ""
            run.say(f"{seen.state}{done}: {seen.next}")
        await asyncio.sleep(0.3)


def report(run: Run) -> None:
    table = Table(title="Measured in this run", title_justify="left")
    table.add_column("what")
    table.add_column("measured")
    for row in run.rows:
        table.add_row(*row)
    table.add_row("time per phase", ", ".join(f"{name} {seconds:.0f} s" for name, seconds in run.phases))
    table.add_row("whole run", f"{time.monotonic() - run.began:.0f} s")
    out.print(table)
    out.print(
        "[bold red]A promise broke.[/bold red]"
        if run.broken
        else "[bold green]Every promise held.[/bold green]"
    )


def cli(start: Callable[[int | None], Awaitable[int]]) -> int:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--documents", type=int, help="take only the first so many")
    return asyncio.run(start(parser.parse_args().documents))  # type: ignore[arg-type]


if __name__ == "__main__":
    sys.exit(cli(main))
