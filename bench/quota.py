"""How close a backfill comes to its provider's limit, and how many 429s that costs.

    make bench-quota

670,000 documents against a limit of 1,000,000 tokens and 3,000 requests a minute: the very statements
of revec.work.calls decide, on a real server; only their clock is simulated (it is one of their
parameters), and so is the provider: two token buckets with continuous refill, full at the start.

The floor is what no client can beat: (tokens - full bucket + tokens that others took) / refill.
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import itertools
import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bench.quota_worker import run
from bench.report import Figure, at_least, at_most, finish, print_machine, reported
from revec.postgres import schema
from revec.postgres.database import Connection, Database
from revec.postgres.server import Server
from revec.work import calls
from revec.work.calls import Ask, Report
from revec.work.queue import BACKFILL

TPM, RPM = 1_000_000, 3_000
PACK = 64_000  # tokens
MEAN, SPREAD = 84, 0.8  # tokens of a document: mean, and sigma of their logarithm
LATENCY = 1.2  # seconds of a call, on average
CLOCK = 20  # the real worker's provider is so many times as fast
# And its tokens a minute: the worker and the provider, which counts them too, share this machine's cores with
# the database, and 20 times 1,000,000 would measure these instead of the limiter.
REAL_TPM = 200_000
SLOTS = 8  # calls in flight, at most, of a worker
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class Bucket:
    """Continuous refill to a minute's worth."""

    capacity: float
    level: float
    at: float = 0.0

    @property
    def rate(self) -> float:
        return self.capacity / 60

    def now(self, moment: float) -> float:
        self.level = min(self.capacity, self.level + self.rate * (moment - self.at))
        self.at = moment
        return self.level


@dataclass(slots=True)
class Provider:
    """Two buckets, and another application that draws on the first between two moments."""

    rng: random.Random
    thief: tuple[float, float, float] = (0.0, 0.0, 0.0)  # share of the refill, from, to
    tokens: Bucket = field(default_factory=lambda: Bucket(TPM, TPM))
    requests: Bucket = field(default_factory=lambda: Bucket(RPM, RPM))
    refused: int = 0
    served: float = 0.0
    stolen: float = 0.0
    robbed_until: float = 0.0

    def call(self, moment: float, amount: float) -> tuple[bool, dict[str, str], float]:
        """Whether it is served, what the headers say of what remains, and after how long to come again."""
        self.rob(moment)
        tokens, requests = self.tokens.now(moment), self.requests.now(moment)
        good = tokens >= amount and requests >= 1
        if good:
            self.tokens.level -= amount
            self.requests.level -= 1
            self.served += amount
        else:
            self.refused += 1
        headers = {  # what is left, and not the limit: that would be too easy
            "x-ratelimit-remaining-tokens": f"{self.tokens.level:.0f}",
            "x-ratelimit-remaining-requests": f"{self.requests.level:.0f}",
        }
        return good, headers, max(0.0, (amount - tokens) / self.tokens.rate)

    def rob(self, until: float) -> None:
        """Small requests of the other application, at random moments."""
        share, begins, ends = self.thief
        moment = max(self.robbed_until, begins)
        while share and moment < min(until, ends):
            moment += self.rng.expovariate(1.0)
            amount = self.rng.uniform(0, 2) * share * self.tokens.rate
            if self.tokens.now(min(moment, until)) >= amount:
                self.tokens.level -= amount
                self.stolen += amount
        self.robbed_until = max(self.robbed_until, moment)


@dataclass(slots=True)
class Worker:
    """What revec.work.calls.Caller does, on the simulated clock."""

    free: int = SLOTS
    ask_at: float = 0.0
    asking: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """On its way back."""

    call: int
    size: int
    report: Report


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    declared: float = 1.0  # times the true limit
    thief: tuple[float, float, float] = (0.0, 0.0, 0.0)
    workers: int = 1
    latency: float = LATENCY
    miscount: float = 0.03  # they do not count quite as we do
    tpm: int = TPM


CASES = (
    Case("the right limits"),
    Case("declared 20% too high", declared=1.2),
    Case("40% stolen for 10 minutes", thief=(0.4, 600.0, 1_200.0)),
    Case("two workers", workers=2),
    Case("20% too high, 40% stolen, two workers", declared=1.2, thief=(0.4, 600.0, 1_200.0), workers=2),
)


@dataclass(slots=True)
class Outcome:
    seconds: float
    floor: float
    refused: int
    trips: int
    calls: int

    @property
    def share(self) -> float:
        return self.floor / self.seconds


def packs(documents: int, rng: random.Random) -> list[int]:
    """Tokens of each pack."""
    made, full = [], 0
    location = 4.430_8 - SPREAD**2 / 2  # log(84): the mean is MEAN
    for _ in range(documents):
        size = max(1, round(rng.lognormvariate(location, SPREAD)))
        if full + size > PACK:
            made.append(full)
            full = 0
        full += size
    return [*made, full]


@dataclass(slots=True)
class Simulation:
    """Workers that ask the real statements, at moments of their own."""

    conn: Connection
    case: Case
    left: list[int]  # packs to send, the next one last
    rng: random.Random
    provider: Provider = field(init=False)
    due: list[tuple[float, int, Worker, Answer | None]] = field(default_factory=list)
    order: Iterator[int] = field(default_factory=itertools.count)
    last: float = 0.0  # when the last good answer came
    trips: int = 0
    calls: int = 0

    async def run(self) -> Outcome:
        tpm = self.case.tpm
        self.provider = Provider(self.rng, self.case.thief, Bucket(tpm, tpm))
        for resource, limit in (("tokens", tpm), ("requests", RPM)):
            declared = {"model": self.case.name, "resource": resource, "limit": limit * self.case.declared}
            await self.conn.execute(calls.SQL.declare, declared | {"now": EPOCH})
        workers = [Worker() for _ in range(self.case.workers)]
        for worker in workers:
            self._will_ask(worker, 0.0)
        while self.due:
            moment, _, worker, answer = heapq.heappop(self.due)
            if answer is None:
                await self._ask(worker, moment)
            else:
                await self._answered(worker, answer, moment)
            for each in workers:
                self._will_ask(each, moment)
        floor = (self.provider.served - tpm + self.provider.stolen) / (tpm / 60)
        return Outcome(self.last, floor, self.provider.refused, self.trips, self.calls)

    def _will_ask(self, worker: Worker, moment: float) -> None:
        if worker.free and self.left and not worker.asking:
            worker.asking = True
            heapq.heappush(self.due, (max(moment, worker.ask_at), next(self.order), worker, None))

    async def _ask(self, worker: Worker, moment: float) -> None:
        worker.asking = False
        if not self.left:
            return
        size = self.left[-1]
        ask = Ask(self.case.name, None, BACKFILL, inputs=760, tokens=size, tenants={"t": size})
        turn = await ask.admit(self.conn, now=clock(moment))
        self.trips += 1
        worker.ask_at = moment + max(turn.next_in or turn.wait, 0.001)
        if turn.call is None:
            return
        self.left.pop()
        self.calls += 1
        worker.free -= 1
        billed = size * self.rng.uniform(1 - self.case.miscount, 1 + self.case.miscount)
        good, headers, again = self.provider.call(moment + self.rng.uniform(0.005, 0.05), billed)
        report = Report("rate", headers=headers, retry_after=again, why="429")
        taken = 0.05
        if good:
            report = Report("ok", round(billed), headers)
            taken = self.case.latency * self.rng.lognormvariate(-0.02, 0.2)
        answer = Answer(turn.call, size, report)
        heapq.heappush(self.due, (moment + taken, next(self.order), worker, answer))

    async def _answered(self, worker: Worker, answer: Answer, moment: float) -> None:
        await answer.report.write(self.conn, answer.call, now=clock(moment))
        worker.free += 1
        if answer.report.outcome == "ok":
            self.last = moment
        else:
            self.left.append(answer.size)


def clock(moment: float) -> datetime:
    return EPOCH + timedelta(seconds=moment)


async def bench(dsn: str, options: argparse.Namespace) -> list[Figure]:
    figures: list[Figure] = []
    async with Database(dsn, connections=2) as database:
        await schema.apply(database)
        print_machine(dsn)
        sizes = packs(options.documents, random.Random(options.seed))
        what = f"{options.documents:,} documents, {sum(sizes):,} tokens, {len(sizes):,} packs"
        print(f"n: {what}, seed {options.seed}")
        for case in CASES:
            began = time.perf_counter()
            async with database.transaction() as conn:
                left = list(reversed(sizes))
                came = await Simulation(conn, case, left, random.Random(options.seed)).run()
            print(
                f"{case.name}: {came.seconds / 60:.2f} min, floor {came.floor / 60:.2f}, "
                f"{came.refused} answers 429, {came.trips / came.calls:.2f} round trips a pack "
                f"({time.perf_counter() - began:.0f} s here)",
                flush=True,
            )
            figures += [
                at_least(f"share of the floor, {case.name}", came.share, 0.995),
                at_most(f"answers 429, {case.name}", came.refused, 10),
                reported(f"round trips a pack, {case.name}", came.trips / came.calls),
            ]
        if options.real:
            figures += await compared(dsn, database, options)
    return figures


async def compared(dsn: str, database: Database, options: argparse.Namespace) -> list[Figure]:
    """The real worker, and the simulation of the very packs that it sent."""
    real = await run(dsn, options.real, tpm=REAL_TPM, rpm=RPM, clock=CLOCK, latency=LATENCY)
    case = Case("as the worker", latency=real.latency, miscount=0.0, tpm=REAL_TPM)
    async with database.transaction() as conn:
        left = list(reversed(real.packs))
        told = await Simulation(conn, case, left, random.Random(options.seed)).run()
    print(
        f"real worker, {REAL_TPM:,} tokens a minute, clock x{CLOCK}: {options.real:,} documents, "
        f"{sum(real.packs):,} tokens, {len(real.packs)} packs, {real.seconds / 60:.2f} min of the provider's "
        f"time, simulated {told.seconds / 60:.2f}, floor {told.floor / 60:.2f}, {real.refused} answers 429"
    )
    off = abs(real.seconds / told.seconds - 1)
    return [
        at_most("real worker and simulation differ by", off, 0.02),
        at_most("answers 429, real worker", real.refused, 10),
        reported("share of the floor, real worker", told.floor / real.seconds),
    ]


def _lines(figures: list[Figure]) -> Iterator[str]:
    for figure in figures:
        goal = "" if figure.goal is None else f"  (goal {figure.goal}: {'met' if figure.met else 'MISSED'})"
        yield f"{figure.what}: {figure.value:,}{goal}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--documents", type=int, default=670_000)
    parser.add_argument("--real", type=int, default=16_000, help="documents for the real worker; 0: none")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="revec-bench-"))
    home.chmod(0o755)
    try:
        with Server(home / "home") as server:
            figures = asyncio.run(bench(server.dsn, options))
    finally:
        shutil.rmtree(home, ignore_errors=True)
    for line in _lines(figures):
        print(line)
    finish("quota", figures)


if __name__ == "__main__":
    main()
