"""python -m tests.loopback"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys

from tests import loopback
from tests.loopback.http import run
from tests.loopback.server import Server


def main() -> None:
    parser = argparse.ArgumentParser(description=(loopback.__doc__ or "").splitlines()[0])
    parser.add_argument("--port", type=int, default=0, help="0: any that is free")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds of its own before each answer")
    parser.add_argument("--key", help="the only API key that is let in")
    parser.add_argument("--rpm", type=float, help="requests a minute; without: no limit")
    parser.add_argument("--tpm", type=float, help="tokens a minute; without: no limit")
    parser.add_argument("--retry-after", default="seconds", help="of a 429: seconds, date, none or any words")
    parser.add_argument("--clock", type=float, default=1.0, help="its time runs so many times as fast")
    parser.add_argument("--leash", action="store_true", help="end when standard input ends")
    options = vars(parser.parse_args())
    port, leash = options.pop("port"), options.pop("leash")

    async def story() -> None:
        if leash:
            # However the parent died, its end of the pipe is closed: nothing is left behind.
            asyncio.get_running_loop().add_reader(sys.stdin.fileno(), os._exit, 0)
        await run(Server(**options), port)

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(story())


if __name__ == "__main__":
    main()
