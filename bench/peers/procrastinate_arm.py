"""procrastinate for a while, in its own environment; prints {"jobs", "seconds"}.

    python procrastinate_arm.py DSN CONCURRENCY SECONDS

It fetches and finishes job by job, so more jobs at once are all that helps it; what is finished is
deleted, as everywhere in this bench. The clock starts with the first job and stops with the last.
"""

import asyncio
import json
import sys
import time

from procrastinate import App, PsycopgConnector


async def main(dsn: str, concurrency: int, seconds: float) -> None:
    app = App(connector=PsycopgConnector(conninfo=dsn, max_size=concurrency + 2))
    jobs, began = 0, 0.0

    @app.task(name="nothing")
    async def nothing() -> None:
        nonlocal jobs, began
        began = began or time.perf_counter()
        jobs += 1

    async with app.open_async():
        worker = asyncio.create_task(
            app.run_worker_async(
                concurrency=concurrency,
                wait=False,
                listen_notify=False,
                delete_jobs="always",
                install_signal_handlers=False,
            )
        )
        while not worker.done() and not (began and time.perf_counter() - began > seconds):
            await asyncio.wait({worker}, timeout=0.01)
        print(json.dumps({"jobs": jobs, "seconds": time.perf_counter() - began}))
        worker.cancel()
        await asyncio.wait({worker})


asyncio.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
