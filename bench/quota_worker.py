"""The limiter outside the simulation: a real worker against the loopback provider on a fast clock."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import psycopg

from revec.app import App
from revec.model.document import Draft
from revec.model.index import Kind
from revec.postgres import collections, documents
from revec.settings import Settings
from revec.work import calls
from tests.loopback import Loopback

MODEL = "openai:text-embedding-3-small"  # both ends count its tokens exactly
COLLECTION = "quota"
WORKER = (sys.executable, "-m", "revec.cli.main", "worker", "--drain", "--quiet", "--concurrency", "4")
DIMS = 64  # the limiter is what is measured
PAGE = 5_000
MEAN_WORDS, SPREAD = 75, 0.8  # of a document; a word is about three tokens


@dataclass(frozen=True, slots=True)
class Run:
    """What the worker did, in the provider's own time."""

    seconds: float  # from the first call admitted to the last answer
    latency: float  # of a call, on average
    refused: int
    packs: list[int]  # tokens, in the order in which they left


async def run(dsn: str, size: int, *, tpm: float, rpm: float, clock: float, latency: float) -> Run:
    """Fill a collection of so many documents within the limits, `clock` times as fast as they say."""
    with Loopback(tpm=tpm, rpm=rpm, clock=clock, latency=latency) as provider:
        environment = {
            "REVEC_DSN": dsn,
            "OPENAI_BASE_URL": provider.url,
            "OPENAI_API_KEY": "loopback",
        }
        settings = Settings(dsn=dsn, OPENAI_BASE_URL=provider.url, OPENAI_API_KEY="loopback")  # type: ignore[call-arg]
        async with App(settings, may_apply=True) as app:
            async with app.database.transaction() as conn:
                made = await collections.create(conn, COLLECTION)
                source = await collections.add_source(conn, made, collections.PUSH)
            for page in pages(size):
                async with app.database.transaction() as conn:
                    await documents.put(conn, source, page)
            await app.start(made, MODEL, dims=DIMS, kind=Kind.EXACT)
            provider.clear()  # full buckets: the probe of the dims was before
            async with app.database.transaction() as conn:
                for resource, limit in (("tokens", tpm), ("requests", rpm)):
                    await calls.declare(conn, MODEL, resource, limit * clock)
        subprocess.run(WORKER, env={**os.environ, **environment}, check=True, stdout=subprocess.DEVNULL)
    with psycopg.connect(dsn) as conn:
        rows = conn.execute(
            "SELECT tokens, extract(epoch FROM at)::float8, extract(epoch FROM answered_at)::float8, outcome"
            "  FROM revec.call WHERE lane = 2 AND model = %s ORDER BY at",
            (MODEL,),
        ).fetchall()
    good = [row for row in rows if row[3] == "ok"]
    return Run(
        seconds=(max(row[2] for row in good) - min(row[1] for row in good)) * clock,
        latency=sum(row[2] - row[1] for row in good) / len(good) * clock,
        refused=sum(row[3] == "rate" for row in rows),
        packs=[row[0] for row in good],
    )


def pages(size: int) -> Iterator[list[Draft]]:
    """Documents of mixed length; no two texts are equal."""
    chance = random.Random(0)
    words = [f"word{n}" for n in range(5_000)]
    location = 4.317 - SPREAD**2 / 2  # log(75): the mean is MEAN_WORDS
    for first in range(0, size, PAGE):
        yield [
            Draft(
                key=f"{number:07}",
                title=f"title {number}",
                body=" ".join(
                    chance.choices(words, k=max(1, round(chance.lognormvariate(location, SPREAD))))
                ),
            )
            for number in range(first, min(first + PAGE, size))
        ]
