"""Verbs that run: the worker, the door, the embedded server, the schema."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from typing import Annotated, Any

import cyclopts
from cyclopts import Parameter

from revec.cli.door import Exit, err, opened, out, settings, table
from revec.model.errors import MissingExtra, Refused
from revec.observe import events

MOST_SAID = 20  # collections in a process's first lines


def register(app: cyclopts.App) -> None:
    app.command(worker)
    app.command(serve)
    app.command(up)
    schema = cyclopts.App(name="schema", help="Revec's own tables in your database.")
    schema.command(apply)
    schema.command(printed, name="print")
    schema.command(status)
    app.command(schema)


async def worker(
    *,
    drain: Annotated[bool, Parameter(help="Leave when nothing can move without a person.")] = False,
    concurrency: Annotated[int | None, Parameter(help="Claims worked off at once.")] = None,
    claim: Annotated[int | None, Parameter(help="Documents in a claim; else as many as fill a pack.")] = None,
    memory: Annotated[
        str | None, Parameter(help="Stay below this, e.g. 256M; else below the container's limit.")
    ] = None,
    health: Annotated[str | None, Parameter(help="Answer /livez, /readyz and /metrics at HOST:PORT.")] = None,
    quiet: Annotated[bool, Parameter(help="Say nothing on the way.")] = False,
    json: Annotated[bool, Parameter(help="Say it as JSON lines on standard error.")] = False,
) -> int:
    """Embed what needs a vector, project what changed, move migrations on. Run as many as you like."""
    from revec.postgres import indexes
    from revec.work import batches, queue
    from revec.work.health import serving

    if json:
        from revec.observe import logs

        logs.configure()
        events.listen(logs.log_json)
    elif not quiet:
        events.listen(_say)
    async with opened() as app:
        work = app.worker(concurrency=concurrency, claim=claim, memory=memory)
        work.memory.require_room()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, work.stop)
        if not quiet:
            await _say_what_serves(app)
        address = health or app.settings.health
        scraped = _scraped() if address else None
        async with serving(address, app.database, scraped):
            summary = await work.run(drain=drain)
        async with app.database.transaction() as conn:
            written = await indexes.writing(conn)
            at_provider = await batches.under_way(conn, [index.id for index in written])
            dead = await queue.letters(conn, [index.id for index in written], limit=5)
        faults = [f"{index.name} is not written: {index.fault}" for index in written if index.fault]
    out.print(
        f"{summary.written:,} written ({summary.copied:,} copied, {summary.embedded:,} texts embedded), "
        f"{summary.chunked:,} chunked, {summary.truncated:,} truncated, "
        f"{summary.removed:,} removed, {summary.excluded:,} excluded, {summary.buried:,} buried."
    )
    for batch in at_provider:
        out.print(f"{batches.told(batch)}: run `revec worker` again to collect it.", markup=False)
    for why in [*faults, *summary.stuck]:
        err.print(f"revec: {why}", markup=False)
    for letter in dead:
        err.print(f"revec: dead letter {letter.key}: {letter.cause}", markup=False)
    if dead:
        err.print("revec: `revec queue list NAME` shows them, `retry` or `accept` settles them")
    return Exit.FAILED if drain and (dead or faults or summary.stuck) else Exit.DONE


async def serve(
    *,
    host: Annotated[
        str, Parameter(help="Where to listen; 127.0.0.1 is heard on this machine only.")
    ] = "127.0.0.1",
    port: Annotated[int, Parameter(help="0: any free one.")] = 8080,
    no_auth: Annotated[bool, Parameter(help="Let in whoever is on this machine, as an admin.")] = False,
    json: Annotated[bool, Parameter(help="Say what happens as JSON lines on standard error.")] = False,
) -> int:
    """Answer over HTTP: search, documents, migrations. Run as many as you like, behind a proxy with TLS."""
    try:
        from revec.observe import metrics
        from revec.web.app import build
        from revec.web.doorkeeper import doorkeeper
        from revec.web.server import listening
        from revec.web.tokens import tokens
    except ModuleNotFoundError as error:
        raise MissingExtra("revec serve", "serve") from error
    if json:
        from revec.observe import logs

        logs.configure()
        events.listen(logs.log_json)
    else:
        events.listen(_say_of_requests)
    async with opened() as app:
        keeper = await doorkeeper(app.database, tokens(app.settings), host=host, no_auth=no_auth)
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopped.set)
        deadline = app.settings.request_deadline
        async with listening(build(app, keeper, metrics.listening()), host, port, deadline=deadline) as at:
            said = f"[{host}]" if ":" in host else host
            out.print(
                f"http://{said}:{at}{' (anybody on this machine may ask)' if no_auth else ''}", markup=False
            )
            await _say_what_serves(app)
            watching = asyncio.create_task(app.deadman().run())
            await stopped.wait()
            watching.cancel()
    return Exit.DONE


def _scraped() -> Callable[[], bytes]:
    """What Prometheus gets of this process; the library behind it is loaded where somebody may ask for it."""
    from revec.observe import metrics

    return metrics.listening().exposition


async def _say_what_serves(app: Any) -> None:
    """The first lines of a log say which index answers, for whoever reads it on another day."""
    from revec.search import catalogue

    for each in (await catalogue.listed(app.database))[:MOST_SAID]:
        if each.serving:
            err.print(f"{each.name} is served by {each.serving} (epoch {each.epoch})", markup=False)


def _say_of_requests(event: Any) -> None:
    match event:
        case events.TurnedAway():
            err.print(f"turned away: {event.why}", markup=False)
        case events.RequestFailed():
            err.print(f"{event.route} failed: {event.why}", markup=False)
        case _:
            if line := _trouble(event):
                err.print(line, markup=False)


def _say(event: Any) -> None:
    """One line for a person on what happened."""
    if line := _line(event):
        err.print(line, markup=False)


def _line(event: Any) -> str | None:
    match event:
        case events.PackDone():
            rate = event.written / event.seconds if event.seconds else 0
            said = f"{event.index}: {event.written:,} written, {event.removed:,} removed, {rate:,.0f}/s"
            return said if event.written or event.removed or event.buried else None
        case events.Moved():
            return f"migration {event.migration}: {event.was} → {event.became}, {event.why}"
        case events.Judged():
            return f"migration {event.migration}: {event.gate} {event.outcome}, {event.why}"
        case events.Bridged():
            verdict = "served early" if event.holds else "not served early"
            return f"migration {event.migration}: {verdict}, {event.why}"
        case events.Braked():
            slow = f"the backfill yields, {event.speed:.0%} of its speed: {event.why}"
            return slow if event.why else "the backfill goes at full speed again"
        case _:
            return _trouble(event)


def _trouble(event: Any) -> str | None:
    said = None
    match event:
        case events.ProviderFailed():
            said = f"{event.model}: {event.why}"
        case events.HeldBack():
            said = f"waiting: {event.why}"
        case events.IndexFaulted():
            said = f"{event.index} is written no more: {event.why}"
        case events.TryAgain():
            said = f"trying again: {event.why}"
        case events.Alarmed():
            said = f"migration {event.migration}, {event.action} ({event.alert}): {event.guard}, {event.why}"
        case events.DatabaseLost():
            said = f"the database is gone ({event.why}); trying again"
    return said


async def up() -> int:
    """Run the embedded server until Ctrl-C, and say how to reach it.

    Other commands start it themselves; this keeps it running between them.
    """
    from revec.postgres.server import Server, default_home

    server = Server(settings().home or default_home())
    await asyncio.to_thread(server.attach)
    try:
        out.print(f"Postgres is up. For psql and your application:\n{server.tcp_dsn}", markup=False)
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopped.set)
        await stopped.wait()
    finally:
        await asyncio.to_thread(server.detach)
    return Exit.DONE


async def apply() -> int:
    """Create or update Revec's tables, roles and policies; safe to run twice."""
    async with opened(may_apply=True) as app:
        names = app.schema_applied
        layers = app.database.two_layers
    out.print(f"Applied {', '.join(names)}." if names else "Up to date.")
    if not layers:
        err.print(
            "One layer only: this login may not make roles, so tenants are kept apart by the queries "
            "alone. Let it have CREATEROLE before the first apply for the second layer."
        )
    return Exit.DONE


async def printed() -> int:
    """Print the schema as one SQL script."""
    from revec.postgres.schema import printed as script

    out.print(script(), markup=False, soft_wrap=True)
    return Exit.DONE


async def status() -> int:
    """List the schema's files and which of them this database has."""
    from revec.postgres import schema as of

    try:
        async with opened() as app, app.database.transaction() as conn:
            have = await of.applied(conn)
    except Refused as error:
        err.print(f"revec: {error}", markup=False)
        return Exit.REFUSED
    table([{"file": f.name, "sha256": f.checksum[:12], "applied": f.name in have} for f in of.files()])
    return Exit.DONE
