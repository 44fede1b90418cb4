"""The verb for a laptop: Postgres, worker, conductor, API and console in one process."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import cyclopts
from cyclopts import Parameter

from revec.cli import saying
from revec.cli.door import Exit, err, opened, out, settings, signalled
from revec.model.errors import MissingExtra, RevecError, Unavailable
from revec.observe import events

if TYPE_CHECKING:
    from revec.app import App
    from revec.postgres.database import Database
    from revec.postgres.server import Server
    from revec.settings import Settings
    from revec.work.worker import Worker

HOST, PORT = "127.0.0.1", 7340
GRACE = 3.0  # seconds for what is in hand; what is left then is handed back
LOOK_EVERY = 2.0  # seconds, at the server that is ours
THREADS = 2  # for searches, while the worker's are at work

Port = Annotated[int, Parameter(help="On 127.0.0.1; 0: any free one.")]
Part = Coroutine[Any, Any, object]


def register(app: cyclopts.App) -> None:
    app.command(up)


async def up(
    *,
    port: Port = PORT,
    no_worker: Annotated[bool, Parameter(help="Serve only: `revec worker` runs elsewhere.")] = False,
) -> int:
    """Run everything on this machine until Ctrl-C: Postgres, a worker, the API and the console.

    The embedded Postgres, or the one of REVEC_DSN. Whoever is on this machine is let in, as an admin.
    """
    require_packages()
    async with kept(settings()) as server, opened() as app:
        await together(app, server, port=port, working=not no_worker)
    return Exit.DONE


def require_packages() -> None:
    """
    Raises:
        MissingExtra: those that serve are not installed.
    """
    try:
        import revec.web.app  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingExtra("revec up", "serve") from error


@asynccontextmanager
async def kept(wanted: Settings) -> AsyncIterator[Server | None]:
    """The embedded server, ours while the body runs; None: the database is somebody else's."""
    from revec.postgres.server import Server, default_home

    if wanted.dsn:
        yield None
        return
    server = Server(wanted.home or default_home())
    await asyncio.to_thread(server.attach)
    try:
        yield server
    finally:
        await asyncio.to_thread(server.detach)


async def together(
    app: App,
    server: Server | None,
    *,
    port: int,
    working: bool = True,
    beside: Mapping[str, Callable[[], Part]] | None = None,
) -> None:
    """All parts until a signal, or until one of them fails; then the work is handed back, what was asked
    is answered, and all is closed in order.

    Raises:
        RevecError: a part failed, and this is its sentence.
    """
    from revec.observe import metrics
    from revec.web.app import build
    from revec.web.doorkeeper import doorkeeper
    from revec.web.server import listening
    from revec.web.tokens import tokens

    events.listen(saying.of_all)
    stopped = signalled()
    keeper = await doorkeeper(app.database, tokens(app.settings), host=HOST, no_auth=True)
    worker = app.worker(spare=THREADS) if working else None
    async with listening(
        build(app, keeper, metrics.listening()), HOST, port, deadline=app.settings.request_deadline
    ) as at:
        _say_where(at, server)
        await saying.what_serves(app)
        parts: dict[str, Part] = {"dead man's switch": app.deadman().run()}
        if server is not None:
            parts["embedded Postgres"] = _keep_up(server, app.database)
        parts |= {name: make() for name, make in (beside or {}).items()}
        tasks = [asyncio.create_task(_sentenced(name, part)) for name, part in parts.items()]
        try:
            await _until(stopped, tasks, app, worker)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def _say_where(port: int, server: Server | None) -> None:
    url = f"http://{HOST}:{port}"
    out.print(f"Console   {url}/console", markup=False)
    out.print(f"API       {url}/v1  (anybody on this machine may ask)", markup=False)
    out.print(f"psql      {server.tcp_dsn if server else 'the database of REVEC_DSN'}", markup=False)
    out.print("Ctrl-C ends it.")


async def _until(
    stopped: asyncio.Event, tasks: list[asyncio.Task[object]], app: App, worker: Worker | None
) -> None:
    """The signal, or the first failure; the worker has left in either case."""
    working = None
    if worker is not None:
        working = asyncio.create_task(_sentenced("worker", worker.run(drain=False)))
    signal = asyncio.create_task(stopped.wait())
    waiting: set[asyncio.Task[Any]] = {signal, *tasks, *([working] if working else [])}
    try:
        while not stopped.is_set():
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()  # what failed is raised here
    finally:
        signal.cancel()
        if worker is not None and working is not None:
            await _leave(app, worker, working)


async def _leave(app: App, worker: Worker, working: asyncio.Task[object]) -> None:
    """What is in hand is finished if that is soon, else handed back: nobody waits for a lease to run out."""
    from revec.postgres.database import DATABASE_TROUBLE
    from revec.work import steering

    worker.stop()
    await asyncio.wait({working}, timeout=GRACE)
    if working.done() and not working.cancelled() and working.exception() is None:
        return  # it has left by itself
    working.cancel()
    await asyncio.wait({working})
    with suppress(*DATABASE_TROUBLE):
        async with app.database.transaction("worker") as conn:
            count = await steering.hand_back(conn, worker.id)
        await worker.leave()
        err.print(f"{count:,} documents in hand were handed back")


async def _keep_up(server: Server, database: Database) -> None:
    """Bring our server back when it has crashed.

    Raises:
        Unavailable: it does not come back.
    """
    from revec.work.health import unready

    while True:
        await asyncio.sleep(LOOK_EVERY)
        if await unready(database):
            await asyncio.to_thread(server.attach)


async def _sentenced(name: str, part: Part) -> object:
    """What nobody thought of becomes a sentence with its place.

    Raises:
        RevecError: the part failed.
    """
    from revec.postgres.database import DATABASE_TROUBLE

    try:
        return await part
    except (RevecError, *DATABASE_TROUBLE):
        raise
    except BaseExceptionGroup as group:  # the worker's steps run beside each other
        raise _first(name, group) from group
    except Exception as error:
        raise _broken(name, error) from error


def _first(name: str, group: BaseExceptionGroup[BaseException]) -> BaseException:
    error = group.exceptions[0]
    if isinstance(error, BaseExceptionGroup):
        return _first(name, error)
    return error if isinstance(error, RevecError) else _broken(name, error)


def _broken(name: str, error: BaseException) -> Unavailable:
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{place.name}, {Path(place.filename).name}:{place.lineno}"
    return Unavailable(
        f"the {name} ended by {type(error).__name__} ({error}) in {where}. "
        "What was committed is safe: run the same command again"
    )
