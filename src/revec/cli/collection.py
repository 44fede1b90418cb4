"""Verbs that make collections and bring documents into them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import cyclopts
from cyclopts import Parameter

from revec.cli import adopting
from revec.cli.adopting import NOTHING_SAID, AdoptWanted
from revec.cli.door import Exit, Json, err, opened, out, settings, show_json, table
from revec.cli.tuning import tune
from revec.model.errors import BadInput
from revec.model.index import Kind as IndexKind
from revec.settings import FILE, CollectionTable

if TYPE_CHECKING:
    from revec.app import App
    from revec.capture.mapping import Mapping as TableMapping
    from revec.migrate.adopt import Adoptable
    from revec.migrate.planning.recipe import Long
    from revec.model.index import Collection
    from revec.postgres.database import Connection

Model = Annotated[str, Parameter(help="The model, e.g. local:minilm-384 or openai:text-embedding-3-small.")]
Dims = Annotated[int | None, Parameter(help="Ask the model for this many dims.")]
Kind = Annotated[IndexKind | None, Parameter(help="Override the kind of index that plan chooses.")]
Chunk = Annotated[
    str | None,
    Parameter(help="Cut long texts into chunks, e.g. '512 tokens, 64 overlap'; none: leave them whole."),
]
Truncate = Annotated[int | None, Parameter(help="Cut long texts off at so many tokens.")]
Language = Annotated[
    str | None,
    Parameter(help="Of the words: a text search configuration such as english or simple; none: no words."),
]
Adopt = Annotated[
    bool, Parameter(help="Take over a column of vectors that your table has: nothing is embedded anew.")
]
# A lone - is standard input, not an option.
File = Annotated[Path, Parameter(allow_leading_hyphen=True)]

TEMPLATE = """# Expressions are SQL over the table's row. `revec init` reads this file.
[collections.articles]
model = "local:wordllama-256"            # or openai:text-embedding-3-small
# tenants = "SELECT id AS tenant, plan AS tier, rank AS priority FROM public.accounts"  # higher goes first
# chunk = "512 tokens, 64 overlap"       # of long texts
# language = "english"                   # of the words: a text search configuration of Postgres, or none

[[collections.articles.sources]]
table = "public.articles"                # the primary key is the key, unless: key = ["id"]
title = "title"
body = "body"
# tenant = "tenant_id"                   # whose row it is
# filter = "deleted_at IS NULL"          # rows that are searchable
# metadata = ["url", "author"]           # columns to keep beside the text
"""


def register(app: cyclopts.App) -> None:
    app.command(init)
    app.command(ingest)
    collections = cyclopts.App(name="collections", help="Make and list collections.")
    collections.command(create)
    collections.command(listed, name="list")
    collections.command(language)
    collections.command(mode)
    collections.command(tune)
    app.command(collections)


async def init(*, adopt: Adopt = False, said: AdoptWanted = NOTHING_SAID) -> int:
    """Attach your tables as revec.toml says, and begin to fill their indexes.

    Without a revec.toml an example is written for you to edit. Safe to run again after a change.
    With --adopt a column of vectors that you have is found and written into it, and serves.
    """
    from revec.postgres import collections, tenants

    if adopt:
        await adopting.write(said)
    elif said != NOTHING_SAID:
        raise BadInput("what is to be adopted was said, but not --adopt: add it")
    if not FILE.exists():
        FILE.write_text(TEMPLATE, encoding="utf-8")
        out.print(f"Wrote an example {FILE}: name your tables in it, then run `revec init` again.")
        return Exit.DONE
    named = settings().collections
    if not named:
        raise BadInput(f"{FILE} names no collection: add [collections.NAME] with a model and sources")
    async with opened(may_apply=True) as app:
        mappings = {name: _mappings(name, wanted) for name, wanted in named.items()}
        # All is looked at before anything is made.
        adoptable = {name: await _look(app, name, wanted, mappings[name]) for name, wanted in named.items()}
        async with app.database.transaction() as conn:
            made = {name: await collections.create(conn, name) for name in named}
            for name, wanted in named.items():
                await tenants.keep_query(conn, made[name], wanted.tenants)
                await _speak(conn, made[name], wanted.language)
        for name, wanted in named.items():
            await _attach(app, made[name], wanted, mappings[name], adoptable[name])
            await _begin(app, made[name], wanted)
    out.print("`revec worker` does the work, `revec status NAME` shows it.")
    return Exit.DONE


async def _attach(
    app: App,
    collection: Collection,
    wanted: CollectionTable,
    mappings: list[TableMapping],
    adoptable: Adoptable | None,
) -> None:
    """The collection's tables; and a column of one of them, where it is to serve."""
    from revec.capture.attach import attach

    for mapping in mappings:
        source_id = await attach(app.database, collection, mapping)
        out.print(f"{collection.name}: {mapping.table} is captured", markup=False)
        source = wanted.sources[0]
        if adoptable is not None:
            await adopting.adopt(adoptable, collection, source_id, source)
        elif source.vector:
            await adopting.refresh(app, collection, source)


async def _begin(app: App, collection: Collection, wanted: CollectionTable) -> None:
    """The first fill, where nothing serves; else how to come to what the file says."""
    from revec.postgres import indexes, migrations

    name, long = collection.name, long_of(collection.name)
    async with app.database.transaction() as conn:
        route = await indexes.route_of(conn, collection.id)
        busy = await migrations.active(conn, collection.id)
    if busy:
        return
    if route.serving is None:
        await app.start(collection, wanted.model, dims=wanted.dims, kind=wanted.index, long=long)
        out.print(f"{name}: its first index, by {wanted.model}, is to be filled", markup=False)
        return
    space = (await app.serving(name)).space
    if (space.address, space.chunking, space.truncation) != (wanted.model, long.chunking, long.truncation):
        cut = "" if space.chunking == long.chunking else f" (chunks: {space.chunking})"
        out.print(
            f"{name}: {space.address} serves{cut}; `revec start {name} --to {wanted.model}` migrates it",
            markup=False,
        )


def _mappings(name: str, wanted: CollectionTable) -> list[TableMapping]:
    from revec.capture.mapping import Mapping as TableMapping

    if len(wanted.sources) > 1 and any(source.vector for source in wanted.sources):
        raise BadInput(
            f"{name} has several sources in {FILE}, and an adopted column holds the vectors of one: "
            "give its table a collection of its own"
        )
    tables = [source.table for source in wanted.sources]
    if twice := next((table for table in tables if tables.count(table) > 1), None):
        raise BadInput(f"{name} names {twice} twice in {FILE}: a table is one source of a collection")
    return [
        TableMapping(
            table=source.table,
            key=tuple(source.key),
            body=source.body,
            title=source.title,
            tenant=source.tenant,
            filter=source.filter,
            metadata=tuple(source.metadata),
            vector=source.vector,
        )
        for source in wanted.sources
    ]


async def _look(
    app: App, name: str, wanted: CollectionTable, mappings: list[TableMapping]
) -> Adoptable | None:
    """Whatever would be refused later is refused now: a table, an expression, the model. A column to adopt.

    Raises:
        RevecError: the sentence says what stands in the way.
    """
    from revec.capture import tenants
    from revec.capture.attach import checked
    from revec.migrate.planning.recipe import recipe
    from revec.postgres import collections, migrations

    if wanted.tenants:
        await tenants.checked(app.database, wanted.tenants)
    for mapping in mappings:
        async with app.database.transaction() as conn:
            await checked(conn, mapping)
    async with app.database.transaction() as conn:
        known = {row.name: row for row in await collections.listed(conn)}.get(name)
        idle = known is None or not (known.serving or await migrations.active(conn, known.id))
    if not idle:
        return None
    if mappings and mappings[0].vector:
        return await adopting.looked_at(app, wanted, mappings[0])
    await recipe(await app.provider(wanted.model, wanted.dims), long=long_of(name))
    return None


def long_of(name: str, chunk: str | None = None, truncate: int | None = None) -> Long:
    """What becomes of a collection's long texts: as asked for here, else as revec.toml says."""
    from revec.migrate.planning.recipe import Long

    declared = settings().collections.get(name)
    if declared is None or chunk is not None or truncate is not None:
        return Long(chunk, truncate)
    return Long(declared.chunk, declared.truncate)


async def create(
    name: str,
    /,
    *,
    model: Model,
    dims: Dims = None,
    index: Kind = None,
    chunk: Chunk = None,
    truncate: Truncate = None,
    language: Language = None,
) -> int:
    """Make a collection that documents are pushed into, and begin its first index.

    Parameters
    ----------
    name
        a-z, 0-9, _ and -, a letter first.
    """
    from revec.migrate.planning.recipe import recipe
    from revec.postgres import collections, indexes, migrations

    async with opened(may_apply=True) as app:
        long = long_of(name, chunk, truncate)
        await recipe(await app.provider(model, dims), long=long)  # refused before anything is made
        async with app.database.transaction() as conn:
            collection = await collections.create(conn, name)
            await _speak(conn, collection, language)
            route = await indexes.route_of(conn, collection.id)
            busy = await migrations.active(conn, collection.id)
        if busy or route.serving is not None:
            target = busy[0].target if busy else (await app.serving(name)).space.address
            if target != model:
                raise BadInput(f"{name} exists with {target}: `revec start {name} --to {model}` migrates it")
            out.print(f"{name} is there already.")
            return Exit.DONE
        await app.start(collection, model, dims=dims, kind=index, long=long)
    out.print(f"{name} is made: `revec ingest {name} FILE.jsonl`, then `revec worker`.")
    return Exit.DONE


async def language(name: str, words: str, /) -> int:
    """Read a collection's words by another text search configuration; none: search by vectors alone.

    Writers of its documents wait until every text was read once.

    Parameters
    ----------
    name
        The collection.
    words
        A text search configuration of the server, such as german or simple.
    """
    from revec.postgres import collections

    async with opened() as app, app.database.transaction() as conn:
        await _speak(conn, await collections.named(conn, name), words)
    out.print(f"{name}: its words are read as {words}; a worker folds them.", markup=False)
    return Exit.DONE


async def mode(name: str, how: Literal["inline", "queued"] | None = None, /, *, json: Json = False) -> int:
    """Say or choose when a write of handed-in documents is answered.

    What is queued stays queued, whichever way it goes.

    Parameters
    ----------
    name
        The collection.
    how
        queued: when they are kept, and workers embed them; inline: when a search finds them, embedded by the
        process that takes them in.
    """
    from revec.postgres import collections, indexes
    from revec.work import queue

    async with opened() as app, app.database.transaction() as conn:
        collection = await collections.named(conn, name)
        if how:
            await collections.set_write_mode(conn, collection, how)
        chosen = await collections.write_mode(conn, collection.id)
        written = [index.id for index in await indexes.writing(conn, collection.id)]
        waiting = sum(each.open for each in (await queue.open_work(conn, written)).values())
    if json:
        show_json({"collection": name, "mode": chosen, "open": waiting})
    else:
        rest = f"; {waiting:,} documents are queued, and stay so: workers do them" if waiting else ""
        out.print(f"{name}: writes are {chosen}{rest}.", markup=False)
    return Exit.DONE


async def _speak(conn: Connection, collection: Collection, words: str | None) -> None:
    from revec.search import lexical

    if words is not None:
        await lexical.speak(conn, collection, None if words == "none" else words)


async def listed(*, json: Json = False) -> int:
    """List the collections."""
    from revec.postgres import collections

    async with opened() as app, app.database.transaction() as conn:
        rows = [row._asdict() for row in await collections.listed(conn)]
    if json:
        show_json(rows)
    elif rows:
        shown = ("name", "serving", "epoch", "sources", "language", "mode")
        table([{name: row[name] for name in shown} | {"fusion": _fused(row)} for row in rows])
    else:
        out.print("No collection yet: `revec collections create NAME --model MODEL`.")
    return Exit.DONE


def _fused(row: dict[str, Any]) -> str:
    """How both legs are one list, where there are two."""
    from revec.search.fusion import named

    return "" if row["language"] == "none" else named(row["alpha"])


async def ingest(name: str, file: File, /, *, json: Json = False) -> int:
    """Push documents, one JSON object a line: {"id", "title"?, "text", "tenant"?, "metadata"?}.

    A bad line is named with its number and reason; the good ones go in, and the exit code is 1. Where the
    collection writes inline they are embedded at once, else by workers.

    Parameters
    ----------
    name
        The collection.
    file
        A .jsonl file, or - for standard input.
    """
    from revec.capture import ingest as story
    from revec.postgres import collections

    if str(file) != "-" and not file.is_file():
        raise BadInput(f"there is no file {file}")
    async with opened() as app:
        async with app.database.transaction() as conn:
            collection = await collections.named(conn, name)
        queued: list[str] = []

        async def embed(ids: Mapping[str, int]) -> None:
            if not queued:  # the rest of the file need not wait for what was not to be had
                answer = await app.inline.answer(collection, ids, None)
                queued.extend([answer.queued] if answer.queued else [])

        async with app.database.transaction() as conn:
            mode = await collections.write_mode(conn, collection.id)
        then = embed if mode == collections.INLINE else None
        if str(file) == "-":
            lines = story.bounded(sys.stdin.buffer)
            result = await story.ingest(app.database, collection, lines, then=then)
        else:
            with file.open("rb") as opened_file:
                lines = story.bounded(opened_file)
                result = await story.ingest(app.database, collection, lines, then=then)
    for number, reason in result.refused:
        err.print(f"line {number}: {reason}", markup=False)
    if json:
        refused = [{"line": number, "reason": reason} for number, reason in result.refused]
        show_json({"taken": result.taken, "refused": refused, "queued": queued[0] if queued else None})
    else:
        out.print(f"{result.taken:,} documents taken, {len(result.refused):,} lines refused.")
        for why in queued:
            out.print(f"From there on: {why}", markup=False)
    return Exit.FAILED if result.refused else Exit.DONE
