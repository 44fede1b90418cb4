"""Commands as processes of their own, forked off a server that has imported everything: a second less for each.

The server has run nothing: no loop, no connection, no settings. What a command does in its process is the same.
"""

from __future__ import annotations

import asyncio
import os
import sys
from multiprocessing import get_context
from multiprocessing.context import ForkServerProcess
from pathlib import Path

_WRITE = os.O_WRONLY | os.O_APPEND | os.O_CREAT
HOW = (os.O_RDONLY, _WRITE, _WRITE)  # stdin, stdout, stderr
_SERVER = get_context("forkserver")
_SERVER.set_forkserver_preload(
    [
        "revec.cli.main",
        "revec.app",
        "revec.work.worker",
        "revec.migrate.conductor",
        "revec.providers.openai",
        "revec.providers.gemini",
        "revec.stores.engines.postgresql",
    ]
)


class Forked:
    """What a test wants of a process, awaited."""

    def __init__(self, process: ForkServerProcess) -> None:
        self._process = process
        assert process.pid is not None
        self.pid = process.pid

    @classmethod
    def started(
        cls,
        code: str,
        arguments: tuple[str, ...],
        *,
        cwd: Path,
        env: dict[str, str],
        out: Path,
        err: Path | None = None,
        said: Path | None = None,
    ) -> Forked:
        """`python -c code arguments… <said >out 2>err` in that folder, with that environment and no other.

        err: None is where out is; said: None is nothing.
        """
        files = (said or Path(os.devnull), out, err or out)
        process = _SERVER.Process(target=_run, args=(code, arguments, cwd, env, files))
        process.start()
        return cls(process)

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def kill(self) -> None:
        self._process.kill()

    def join(self, seconds: float) -> int | None:
        """None: it is not over by then."""
        self._process.join(seconds)
        return self._process.exitcode

    async def wait(self) -> int:
        """Negative: the signal that ended it."""
        loop, over = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._process.sentinel, over.set)
        try:
            await over.wait()
        finally:
            loop.remove_reader(self._process.sentinel)
        self._process.join()
        assert self._process.exitcode is not None
        return self._process.exitcode


def _run(
    code: str, arguments: tuple[str, ...], cwd: Path, env: dict[str, str], files: tuple[Path, ...]
) -> None:
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    for number, (file, how) in enumerate(zip(files, HOW, strict=True)):
        os.dup2(os.open(file, how), number)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - until the process ends; multiprocessing closed it
    sys.argv = ["-c", *arguments]
    exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})  # noqa: S102 - a test's own
