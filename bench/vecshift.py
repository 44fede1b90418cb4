"""`make bench-vecshift`: the same table moved to another model by vecshift and by Revec.

    python -m bench.vecshift [--rows 50000] [--latency 0.08] [--outage 60]

Both start from a copy of the same database: a table with a live HNSW index, an application that writes 14
times a second and searches 5 times, and a provider that answers after 80 ms. First each has four requests
under way, which is all that vecshift ever has; then each its own best: of vecshift more texts in a request,
of Revec more claims at once. vecshift writes halfvecs, as Revec does, and has the maintenance memory that its
own plan asks for. The last run of each goes on: a cutover, 80 rows written after it, a rollback. At last a
provider says 401 to everything, for a minute. vecshift is driven by its command line, installed by this bench
into an environment of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from psycopg.conninfo import make_conninfo

from bench.application import Application, Seen, load, quantiles
from bench.movers import AT_ONCE, BASE, NEW, OLD, Move, Ours, Stage, Vecshift
from bench.report import Figure, at_least, at_most, finish, print_machine, reported
from revec.postgres.server import Server
from tests.loopback import Loopback

GOAL = 8.0
INSERTS, EDITS = 50, 30  # after the cutover
OUTAGE_ROWS = 3_000
TELLING = 10  # seconds that an application alone is watched


@dataclass(slots=True)
class Switched:
    """What the cutover and the rollback took."""

    cutover: float = 0.0  # seconds of the verb, from the command line
    pauses: list[float] = field(default_factory=list)
    rollback: float = 0.0
    errors: list[str] = field(default_factory=list)
    lost: int = 0


async def moved(stage: Stage, arm: Vecshift | Ours, setting: int, *, switch: bool) -> tuple[Move, Switched]:
    """One migration of a fresh copy, the application beside it; then, if asked, there and back."""
    switched = Switched()
    with stage.copy(), Loopback() as quick, Loopback(latency=stage.options.latency) as provider:
        await arm.prepare(quick)
        application = stage.application()
        async with arm.on_duty(provider, setting), application.running():
            with application.noted() as seen:
                move = await arm.move(provider, setting)
            move.seen, move.requests = seen, provider.requests()["requests"]
            if switch:
                await there_and_back(arm, provider, application, switched)
    told(move)
    return move, switched


async def there_and_back(
    arm: Vecshift | Ours, provider: Loopback, application: Application, switched: Switched
) -> None:
    with application.noted() as seen:
        async with application.longest_pause() as switched.pauses:
            began = time.perf_counter()
            await arm.cutover(provider, application)
            switched.cutover = time.perf_counter() - began
    switched.errors = seen.errors
    rows = await application.fresh(INSERTS, EDITS)
    await arm.settled(rows)
    began = time.perf_counter()
    await arm.rollback(provider, application)
    switched.rollback = time.perf_counter() - began
    switched.lost = arm.lost(rows)


async def outage(stage: Stage, arm: Vecshift | Ours) -> tuple[int, int]:
    """Requests that a provider got that says 401 to all of them, and good rows that were called bad."""
    with stage.copy(OUTAGE_ROWS), Loopback() as well, Loopback() as ill:
        await arm.prepare(well)
        await arm.begin(well)
        ill.fault("401", times=None)
        async with arm.working(ill, arm.settings[0]):
            await asyncio.sleep(stage.options.outage)
            asked, misfiled = ill.requests()["requests"], arm.misfiled()
    print(f"{arm.name}, 401 for {stage.options.outage:g} s: {asked:,} requests, {misfiled:,} rows called bad")
    return asked, misfiled


def told(move: Move) -> None:
    latencies = "; ".join(
        f"{what} " + ", ".join(f"{name} {value:.1f}" for name, value in quantiles(times).items())
        for what, times in (("writes", move.seen.writes), ("searches", move.seen.searches))
    )
    print(
        f"{move.name}: {move.rows:,} rows in {move.backfill:.1f} s, {move.rate:,.0f} rows/s, then the index "
        f"in {move.index:.1f} s; {move.requests:,} requests; application, ms: {latencies}; "
        f"{len(move.seen.errors)} errors",
        flush=True,
    )


def beside(move: Move) -> list[Figure]:
    return [
        reported(f"{move.name}: backfill rows/s", move.rate),
        reported(f"{move.name}: index build s", move.index),
        reported(f"{move.name}: proof s", move.proof),
        *latencies(move.name, move.seen),
        reported(f"{move.name}: application's errors", len(move.seen.errors)),
    ]


def latencies(name: str, seen: Seen) -> Iterator[Figure]:
    for what, times in (("write", seen.writes), ("search", seen.searches)):
        for which, value in quantiles(times).items():
            yield reported(f"{name}: application's {what} {which} ms", value)


def around(name: str, switched: Switched) -> list[Figure]:
    return [
        reported(f"{name}: longest pause of a writer at the cutover ms", max(switched.pauses)),
        reported(f"{name}: cutover s", switched.cutover),
        reported(f"{name}: rollback s", switched.rollback),
        reported(f"{name}: application's errors at the cutover", len(switched.errors)),
    ]


async def story(stage: Stage) -> list[Figure]:
    peer, ours = Vecshift(stage), Ours(stage)
    print(f"peer: {peer.install()}", flush=True)
    with stage.copy():
        application = stage.application()
        async with application.running():
            with application.noted() as alone:
                await asyncio.sleep(TELLING)
    moves: dict[str, list[Move]] = {}
    ends: dict[str, Switched] = {}
    for arm in (peer, ours):
        runs = [await moved(stage, arm, each, switch=each == arm.settings[-1]) for each in arm.settings]
        moves[arm.name], ends[arm.name] = [move for move, _ in runs], runs[-1][1]
    refused = {arm.name: await outage(stage, arm) for arm in (peer, ours)}
    best = {name: max(move.rate for move in each) for name, each in moves.items()}
    return [
        at_least(
            "revec / vecshift, backfill rows/s, each at its own best", best["revec"] / best["vecshift"], GOAL
        ),
        reported(
            f"revec / vecshift, backfill rows/s, {AT_ONCE} requests at once",
            moves["revec"][0].rate / moves["vecshift"][0].rate,
        ),
        *latencies("nothing moves", alone),
        *(figure for each in moves.values() for move in each for figure in beside(move)),
        *(figure for name, switched in ends.items() for figure in around(name, switched)),
        at_most(f"revec: of {INSERTS + EDITS} fresh rows, lost at the rollback", ends["revec"].lost, 0),
        reported(f"vecshift: of {INSERTS + EDITS} fresh rows, lost at the rollback", ends["vecshift"].lost),
        at_most("revec: requests to a provider that says 401", refused["revec"][0], 10),
        reported("vecshift: requests to a provider that says 401", refused["vecshift"][0]),
        at_most("revec: good rows called bad for it", refused["revec"][1], 0),
        reported("vecshift: good rows called bad for it", refused["vecshift"][1]),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--latency", type=float, default=0.08, help="of the provider, in seconds")
    parser.add_argument("--outage", type=float, default=60.0, help="seconds of 401")
    options = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="revec-bench-"))
    home.chmod(0o755)  # the server may run as another user
    try:
        with Server(home / "home") as server:
            print_machine(server.dsn)
            print(f"n: {options.rows:,} rows, {OLD} to {NEW}, provider at {1000 * options.latency:g} ms")
            load(make_conninfo(server.dsn, dbname=BASE), options.rows, OLD)
            figures = asyncio.run(story(Stage(server, home, options)))
    except subprocess.CalledProcessError as error:
        sys.exit(f"{error}\n{error.stderr or ''}")
    finally:
        shutil.rmtree(home, ignore_errors=True)
    finish("vecshift", figures)


if __name__ == "__main__":
    main()
