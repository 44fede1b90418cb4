"""pgqueuer for a while, in its own environment; prints {"jobs", "seconds"}.

    python pgqueuer_arm.py DSN BATCH SECONDS

On uvloop and asyncpg, as its own command runs it, with a handler that does nothing. The clock starts
with the first job, so that no start-up counts, and stops when `run` has come back: everything that was
handled is settled by then.
"""

import json
import sys
import time
from datetime import timedelta

import asyncpg
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.models import Job
from pgqueuer.types import QueueExecutionMode


async def main(dsn: str, batch: int, seconds: float) -> None:
    queuer = PgQueuer(AsyncpgDriver(await asyncpg.connect(dsn)))
    jobs, began = 0, 0.0

    @queuer.entrypoint("nothing")
    async def nothing(job: Job) -> None:  # noqa: ARG001 - what pgqueuer calls
        nonlocal jobs, began
        began = began or time.perf_counter()
        jobs += 1
        if time.perf_counter() - began > seconds:
            queuer.shutdown.set()

    await queuer.run(
        dequeue_timeout=timedelta(seconds=1),
        batch_size=batch,
        mode=QueueExecutionMode.drain,
        log_aggregation_interval=timedelta(0),  # of its statistics: not part of the work
    )
    print(json.dumps({"jobs": jobs, "seconds": time.perf_counter() - began}))


uvloop.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
