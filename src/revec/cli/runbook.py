"""The verb for the person at three in the morning: what to look at, what to do, how to go back."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from importlib.resources import files
from typing import TYPE_CHECKING, Annotated

import cyclopts
from cyclopts import Parameter

from revec.cli.door import Exit, err, of_collection, out
from revec.model.errors import NotFound

if TYPE_CHECKING:
    from revec.app import App
    from revec.model.index import Collection

BOOKS = files("revec.cli") / "runbooks"
# What stands in the pages for what a collection has; a word that is not known is left for the reader.
WORDS = ("COLLECTION", "OLD_MODEL", "NEW_MODEL", "OLD_INDEX", "NEW_INDEX", "SOURCE", "STORE")


def register(app: cyclopts.App) -> None:
    app.command(runbook)


async def runbook(
    book: str | None = None,
    collection: str | None = None,
    /,
    *,
    to: Annotated[str | None, Parameter(help="The model of a migration that is not begun yet.")] = None,
    store: Annotated[str | None, Parameter(help="The store that it moves to.")] = None,
    source: Annotated[str | None, Parameter(help="The table, where it has several or none yet.")] = None,
) -> int:
    """Print what to do, step by step; without a name, for what there is a page.

    Parameters
    ----------
    book
        One of them, e.g. emergency.
    collection
        Its own names, models and tables are put into the commands.
    """
    if book is None:
        for name in names():
            out.print(f"{name:18}{when(name)}", markup=False)
        return Exit.DONE
    text, known = read(book), dict[str, str | None]()
    if collection is not None:
        known = await known_of(collection)
    said = {"NEW_MODEL": to, "STORE": store, "SOURCE": source}
    out.print(filled(text, known | {word: value for word, value in said.items() if value}), markup=False)
    return Exit.DONE


def names() -> list[str]:
    return sorted(file.name.removesuffix(".md") for file in BOOKS.iterdir() if file.name.endswith(".md"))


def when(book: str) -> str:
    """The first sentence of a page says what it is for."""
    _, first, *_ = read(book).split("\n\n")
    return re.split(r"(?<=[.?]) ", " ".join(first.splitlines()))[0]


def read(book: str) -> str:
    """
    Raises:
        NotFound: there is no such page.
    """
    if book not in names():
        raise NotFound(f"there is no runbook {book}: {', '.join(names())}")
    return (BOOKS / f"{book}.md").read_text("utf-8")


def filled(text: str, known: Mapping[str, str | None]) -> str:
    """The page with the words that are known replaced, as a shell takes them."""
    words = {word: shlex.quote(value) for word, value in known.items() if value}
    return re.sub(rf"\b({'|'.join(WORDS)})\b", lambda word: words.get(word[0], word[0]), text)


async def known_of(collection: str) -> dict[str, str | None]:
    """What stands for the words; of a collection that is still to be made, its name."""
    try:
        async with of_collection(collection) as (app, made):
            return await names_of(app, made)
    except NotFound:
        err.print(f"There is no collection {collection} yet: more than its name is not known.", markup=False)
        return {"COLLECTION": collection}


async def names_of(app: App, collection: Collection) -> dict[str, str | None]:
    """What a collection has for the words of a page."""
    from revec.postgres import collections, indexes, migrations

    async with app.database.transaction() as conn:
        route = await indexes.route_of(conn, collection.id)
        active = await migrations.active(conn, collection.id)
        tables = [each for each in await collections.sources(conn, collection.id) if each.mapping]
        old_id = active[0].old_index if active else route.serving
        old = None if old_id is None else await indexes.by_id(conn, old_id)
        new_id = active[0].new_index if active else None
        new = None if new_id is None else await indexes.by_id(conn, new_id)
    return {
        "COLLECTION": collection.name,
        "OLD_MODEL": old.space.address if old else None,
        "OLD_INDEX": old.name if old else None,
        "NEW_MODEL": active[0].target if active else None,
        "NEW_INDEX": new.name if new else None,
        "SOURCE": tables[0].name if tables else None,
    }
