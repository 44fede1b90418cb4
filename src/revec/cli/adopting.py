"""`revec init --adopt`: find what there is, ask what only a person knows, and write it down."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from revec.cli.door import opened, out, settings
from revec.model.errors import BadInput
from revec.model.index import Writer
from revec.seams import EXAMPLE
from revec.settings import FILE, CollectionTable, SourceTable

if TYPE_CHECKING:
    from revec.app import App
    from revec.capture.discover import Found
    from revec.capture.mapping import Mapping
    from revec.migrate.adopt import Adoptable
    from revec.model.index import Collection

WRITERS = {
    Writer.APP: "your application, as it does now: Revec only reads the column",
    Writer.REVEC: "Revec, from the first migration on: rollback stays complete, your rows are updated",
    Writer.NOBODY: "nobody: it stays as it is, and a rollback misses what came since",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a script says where a person would be asked."""

    table: Annotated[str | None, Parameter(help="schema.table that has the column.")] = None
    column: Annotated[str | None, Parameter(help="The column of vectors, where it has several.")] = None
    name: Annotated[str | None, Parameter(help="The collection's name; else the table's.")] = None
    title: Annotated[str | None, Parameter(help="SQL over a row: its title.")] = None
    text: Annotated[str | None, Parameter(help="SQL over a row: the text that was embedded.")] = None
    tenant: Annotated[str | None, Parameter(help="SQL over a row: whose it is.")] = None
    filter: Annotated[str | None, Parameter(help="SQL over a row: whether it is searchable.")] = None
    model: Annotated[str | None, Parameter(help="The model that made the vectors.")] = None
    model_gone: Annotated[bool, Parameter(help="It answers no more.")] = False
    writer: Annotated[Writer | None, Parameter(help="Who keeps the column current.")] = None


NOTHING_SAID = Wanted()
AdoptWanted = Annotated[Wanted, Parameter(name="*")]


async def write(wanted: Wanted) -> None:
    """Add the column to revec.toml, with what was found around it as comments.

    Raises:
        BadInput: there is none, rights are lacking, or nobody is there to be asked what has to be said.
    """
    from revec.capture import discover

    async with opened(may_apply=True) as app:
        async with app.database.transaction() as conn:
            there = await discover.columns(conn)
        found = _chosen(there, wanted)  # a person may take his time
        async with app.database.transaction() as conn:
            lacking = await discover.grants(conn, found, writes=wanted.writer is Writer.REVEC)
    if lacking:
        raise BadInput(f"this login lacks rights on {found.table}; let its owner run: {' '.join(lacking)}")
    name = wanted.name or re.sub(r"[^a-z0-9_-]", "_", found.name.lower())
    if name in settings().collections:
        raise BadInput(f"{FILE} names a collection {name} already: edit it there, then run `revec init`")
    for line in _around(found):
        out.print(line, markup=False)
    block = _block(name, found, _completed(wanted, found))
    before = FILE.read_text(encoding="utf-8").rstrip() + "\n\n" if FILE.exists() else ""
    FILE.write_text(before + block, encoding="utf-8")
    out.print(f"{found.told} is written into {FILE} as the collection {name}", markup=False)


def _completed(wanted: Wanted, found: Found) -> Wanted:
    """With what a person was asked."""
    writers = "; ".join(f"{writer} = {said}" for writer, said in WRITERS.items())
    return replace(
        wanted,
        text=wanted.text
        or _answer("text", "The column (or SQL) whose text was embedded", found.texts, one_of=found.texts),
        model=wanted.model or _answer("model", f"The model that made the vectors, e.g. {EXAMPLE}"),
        writer=wanted.writer or _writer(_answer("writer", f"Who keeps it current: {writers}", list(WRITERS))),
    )


def _writer(said: str) -> Writer:
    try:
        return Writer(said)
    except ValueError:
        raise BadInput(f"nobody is called {said!r}: {', '.join(WRITERS)}") from None


async def looked_at(app: App, wanted: CollectionTable, mapping: Mapping) -> Adoptable:
    """The column, if its model made it; nothing is registered yet."""
    source = wanted.sources[0]
    if wanted.chunk or wanted.truncate:
        raise BadInput(
            f"{mapping.table}.{mapping.vector} has one vector of each whole row: "
            "leave chunk and truncate out; a migration may chunk"
        )
    column = await app.adoptable(mapping, wanted.model, model_gone=source.model_gone)
    column.require(source.writer)
    return column


async def adopt(column: Adoptable, collection: Collection, source_id: int, source: SourceTable) -> None:
    adoption = await column.adopt(collection, source_id, writer=source.writer)
    for said in adoption.told:
        out.print(f"{collection.name}: {said}", markup=False)
    out.print(f"{collection.name}: the column is kept current by {WRITERS[source.writer]}", markup=False)


async def refresh(app: App, collection: Collection, source: SourceTable) -> None:
    """What is searchable, or who writes it, may have been said anew."""
    from revec.postgres import indexes, ledgers, migrations

    async with app.database.transaction() as conn:
        migrating = any(each.new_index for each in await migrations.active(conn, collection.id))
        for index in await indexes.writing(conn, collection.id):
            if index.column is None:
                continue
            if index.column.writer is not source.writer:
                await ledgers.choose(conn, index, source.writer, migrating=migrating)
                out.print(f"{index.name}: kept current by {WRITERS[source.writer]}", markup=False)
            await ledgers.show(conn, index)


def _chosen(found: Sequence[Found], wanted: Wanted) -> Found:
    if not found:
        raise BadInput(
            "no table that this login can see has a column of type vector or halfvec: "
            "without --adopt `revec init` makes the first index"
        )
    fitting = [
        each
        for each in found
        if wanted.table in (None, each.table, each.name) and wanted.column in (None, each.vector)
    ]
    if not fitting:
        raise BadInput(
            f"there is no such column of vectors; there is {'; '.join(each.told for each in found)}"
        )
    if len(fitting) == 1:
        return fitting[0]
    if not sys.stdin.isatty():
        listed = "; ".join(each.told for each in fitting)
        raise BadInput(f"several columns hold vectors, name one with --table and --column: {listed}")
    for number, each in enumerate(fitting, 1):
        out.print(f"{number}  {each.told}", markup=False)
    numbers = [str(number) for number in range(1, len(fitting) + 1)]
    return fitting[int(_answer("table", "Which one", numbers, one_of=numbers)) - 1]


def _answer(flag: str, question: str, choices: Sequence[str] = (), *, one_of: Sequence[str] = ()) -> str:
    """What a person types; the first choice for an empty line.

    Raises:
        BadInput: nobody is there to be asked.
    """
    if len(one_of) == 1:
        return one_of[0]
    if not sys.stdin.isatty():
        among = f" (there is {', '.join(choices)})" if choices else ""
        raise BadInput(f"{question}: say it with --{flag}{among}")
    out.print(f"{question} {[*choices] if choices else ''}: ", end="", markup=False)
    said = input().strip() or (choices[0] if choices else "")
    if not said:
        raise BadInput(f"--{flag} has to be said")
    return said


def _around(found: Found) -> list[str]:
    """What lives with the column, for a person and as comments."""
    lines = [found.told]
    lines += [f"index {graph.name}: {graph.definition}" for graph in found.graphs]
    if found.graphs and found.graph is None:
        lines.append("none of these can be walked by a search: rows are read one by one")
    lines += [
        f"function {name} reads the table: it works on, on the column as it is" for name in found.functions
    ]
    lines += [f"view {name} reads the table" for name in found.views]
    lines += [
        f"trigger {name}" + (": an UPDATE of the column alone wakes it" if name in found.woken else "")
        for name in found.triggers
    ]
    if found.row_security:
        policies = "; ".join(found.policies) or "no policy"
        lines.append(f"row security: {policies} (Revec's own answers go by tenant and filter)")
    return lines


def _block(name: str, found: Found, wanted: Wanted) -> str:
    """The collection in TOML; what is a guess is commented out."""
    quoted = json.dumps  # a TOML basic string is written like a JSON one

    def line(key: str, value: str | None, guess: str | None, why: str) -> str:
        if value is not None:
            return f"{key} = {quoted(value)}"
        return f"# {key} = {quoted(guess)}  # {why}" if guess else f"# {key} = …  # {why}"

    assert wanted.writer is not None
    filtered = wanted.filter if wanted.filter is not None else found.filter
    lines = [
        *(f"# {said}" for said in _around(found)),
        f"[collections.{name}]",
        f"model = {quoted(wanted.model)}  # that made the column",
        "",
        f"[[collections.{name}.sources]]",
        f"table = {quoted(found.table)}",
        f"vector = {quoted(found.vector)}",
        f"writer = {quoted(wanted.writer)}  # {WRITERS[wanted.writer]}",
        *(["model_gone = true  # unverifiable: rollback lost for queries"] if wanted.model_gone else []),
        line("title", wanted.title, None, "SQL over the row; stands before the body, in a line of its own"),
        f"body = {quoted(wanted.text)}",
        line("tenant", wanted.tenant, found.tenant, "SQL over the row: whose it is"),
        line("filter", filtered, None, "SQL over the row: whether it is searchable"),
    ]
    return "\n".join(lines) + "\n"
