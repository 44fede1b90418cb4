"""The verb that makes the example, and leaves its migration open for a person to decide."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import cyclopts
from cyclopts import Parameter

from revec.cli import up
from revec.cli.demo.questions import Question, questions
from revec.cli.demo.stdlib import Doc, documents
from revec.cli.door import Exit, err, out, settings
from revec.cli.up import PORT, Port
from revec.model.document import DEFAULT_TENANT
from revec.model.errors import BadInput, RevecError
from revec.model.migration import State
from revec.postgres.queries import beside

if TYPE_CHECKING:
    from revec.app import App
    from revec.migrate.status import Status
    from revec.model.index import Collection
    from revec.postgres.database import Connection
    from revec.settings import Settings

NAME = "docs"
OLD, NEW = "local:wordllama-256", "local:minilm-384"
JUDGED = "questions"
SQL = beside(__file__)
SEARCHES_A_SECOND, WRITES_A_SECOND = 4.0, 1.0
DECIDES = ("ready", "live", "aborted")  # where a person is needed, or has been
LOOK_EVERY = 0.5  # seconds
EDITED = 200  # documents
ENOUGH = 150  # questions, to tell the two models apart


def register(app: cyclopts.App) -> None:
    app.command(demo)


async def demo(
    *,
    serve: Annotated[
        bool, Parameter(help="Go on as `revec up` does, with users that search and write.")
    ] = False,
    docs: Annotated[int | None, Parameter(name="--documents", help="Take only the first so many.")] = None,
    port: Port = PORT,
) -> int:
    """Make an example: Python's own docstrings, a model that serves them, a migration that waits for you.

    In an embedded Postgres of its own, beside the one that other commands use; run again, it goes on.
    """
    from revec.app import App

    wanted = _own(settings())
    if serve:
        up.require_packages()
    async with up.kept(wanted) as server, App(wanted) as app:
        if serve:
            await up.together(app, server, port=port, beside={"example": lambda: _story(app, docs)})
            return Exit.DONE
        collection = await _filled(app, docs)
        await app.worker().run(drain=True)
        await _migrated(app, collection)
        await app.worker().run(drain=True)
    out.print(f"`REVEC_HOME={wanted.home} revec up` shows it; `revec demo --serve` is both.", markup=False)
    return Exit.DONE


def _own(wanted: Settings) -> Settings:
    """The same settings, with a folder beside the embedded server's own: nobody's data is touched."""
    from revec.postgres.server import default_home

    home = wanted.home or default_home()
    beside: Path = home.with_name(f"{home.name}-demo")
    return wanted.model_copy(update={"dsn": None, "home": beside, "collections": {}})


async def _story(app: App, limit: int | None) -> None:
    """From a user's table to a migration that a person decides, with users who never stop."""
    collection = await _filled(app, limit)
    await _until(app, collection, _is_filled)
    async with asyncio.TaskGroup() as users:
        users.create_task(_search(app))
        users.create_task(_write(app))
        await _migrated(app, collection)
        await _until(app, collection, lambda seen: seen.state in DECIDES)
        err.print(f"The migration waits for you: its page in the console, or `revec cutover {NAME}`")


def _is_filled(seen: Status) -> bool:
    """The first fill is over, also its last steps: until then no other migration can be begun."""
    over = seen.state is not None and State(seen.state).is_final
    return seen.serving is not None and (over or len(seen.indexes) > 1)


async def _filled(app: App, limit: int | None) -> Collection:
    """The table and its collection, which the old model is to serve."""
    from revec.capture.attach import attach
    from revec.capture.mapping import Mapping
    from revec.postgres import collections, indexes, migrations

    await _table(app, limit)
    async with app.database.transaction() as conn:
        collection = await collections.create(conn, NAME)
    mapping = Mapping(table="app.docs", key=(), body="body", title="signature")
    await attach(app.database, collection, mapping)
    async with app.database.transaction() as conn:
        route = await indexes.route_of(conn, collection.id)
        busy = await migrations.active(conn, collection.id)
    if route.serving is None and not busy:
        await app.start(collection, OLD)
    return collection


async def _table(app: App, limit: int | None) -> None:
    """What a user has before Revec: a table with rows.

    Raises:
        BadInput: this Python came without the sources of its library.
    """
    async with app.database.transaction() as conn:
        found = await (await conn.execute(SQL.there)).fetchone()
        if found and found.yes:
            return
        docs: list[Doc] = await asyncio.to_thread(lambda: list(documents())[:limit])
        if not docs:
            raise BadInput("this Python has no sources of its library: run the demo with another one")
        await conn.execute(SQL.schema)
        await conn.execute(SQL.table)
        async with conn.cursor().copy(SQL.fill) as copy:
            for doc in docs:
                await copy.write_row((doc.key, doc.title, doc.body.replace("\x00", "")))
    err.print(f"{len(docs):,} docstrings of Python's library are in the table app.docs")


async def _migrated(app: App, collection: Collection) -> None:
    """Begun, unless it was before; judged by the questions, where enough of their answers are there."""
    from revec.model.judging import MARGIN, Quality
    from revec.model.reading import Mode
    from revec.postgres import indexes, migrations

    async with app.database.transaction() as conn:
        busy = await migrations.active(conn, collection.id)
        old = [each for each in await indexes.writing(conn, collection.id) if each.space.address == OLD]
    if not busy and old:
        enough = await _judge(app, collection) >= ENOUGH
        await app.start(collection, NEW, judged=Quality(JUDGED, MARGIN, Mode.VECTOR) if enough else None)


async def _judge(app: App, collection: Collection) -> int:
    """The questions whose answers are there, as judged queries; how many."""
    from revec.model.judging import JudgedQuery
    from revec.postgres import judgements

    async with app.database.transaction() as conn:
        there = set(await _names(conn))
        queries = [
            JudgedQuery(str(number), each.text, {("app.docs", each.answer): 1}, DEFAULT_TENANT)
            for number, each in enumerate(questions())
            if each.answer in there
        ]
        await judgements.put(conn, collection, JUDGED, queries)
    return len(queries)


async def _search(app: App) -> None:
    """A user who asks on and on."""
    from revec.postgres.database import DATABASE_TROUBLE

    asked: list[Question] = list(questions())
    for question in cycle(asked):
        with suppress(RevecError, *DATABASE_TROUBLE):  # a user tries again
            await app.retriever.search(NAME, question.text, k=10, tenant=DEFAULT_TENANT)
        await asyncio.sleep(1 / SEARCHES_A_SECOND)


async def _write(app: App) -> None:
    """Another one, who edits a row of the table now and then."""
    from revec.postgres.database import DATABASE_TROUBLE

    async with app.database.transaction() as conn:
        names = await _names(conn)
    for name in cycle(names[:EDITED]):
        with suppress(*DATABASE_TROUBLE):
            async with app.database.transaction() as conn:
                await conn.execute(SQL.edit, {"name": name})
        await asyncio.sleep(1 / WRITES_A_SECOND)


async def _names(conn: Connection) -> list[str]:
    return [row.name for row in await (await conn.execute(SQL.keys_of_rows)).fetchall()]


async def _until(app: App, collection: Collection, over: Callable[[Status], bool]) -> None:
    from revec.migrate.status import status

    while True:
        if over(await status(app.database, app.store, collection, app.limits)):
            return
        await asyncio.sleep(LOOK_EVERY)
