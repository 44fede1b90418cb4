"""Judged queries, in named sets of a collection."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from revec.model.document import unstorable
from revec.model.errors import BadInput, NotFound, Refused
from revec.model.index import Collection
from revec.model.judging import Asked, Doc, JudgedQuery, Origin, Said
from revec.model.migration import FINAL
from revec.postgres.database import Connection
from revec.postgres.queries import beside

SQL = beside(__file__)


async def put(
    conn: Connection,
    collection: Collection,
    name: str,
    queries: Sequence[JudgedQuery],
    *,
    origin: Origin = Origin.FILE,
    who: str | None = None,
) -> None:
    """Add to the set, which is made where there is none: of a query or a judgement the last word counts.

    `who`: the person who says so; None: nobody that is known.

    Raises:
        BadInput: the database cannot hold one of the texts.
    """
    if why := next((why for text in _texts(name, queries) if (why := unstorable(text))), None):
        raise BadInput(f"a judgement {why}")
    row = await (await conn.execute(SQL.make, {"collection": collection.id, "name": name})).fetchone()
    assert row is not None
    latest = {query.name: query for query in queries}.values()
    await conn.execute(
        SQL.put_queries,
        {
            "set": row.id,
            "names": [query.name for query in latest],
            "words": [query.words for query in latest],
            "tenants": [query.tenant for query in latest],
            "segments": [query.segment for query in latest],
        },
    )
    said = [(query.name, *doc, grade) for query in latest for doc, grade in query.grades.items()]
    names, sources, keys, grades = ([*column] for column in zip(*said, strict=True)) if said else ([],) * 4
    judged = {"names": names, "sources": sources, "keys": keys, "grades": grades}
    await conn.execute(SQL.put_judgements, judged | {"set": row.id, "origin": origin, "who": who})


async def judge(conn: Connection, collection: Collection, name: str, said: Said, *, who: str) -> None:
    """One person's word on one answer, in the set's query that asks the same; made where there is none.

    Raises:
        BadInput: the database cannot hold one of the texts.
        NotFound: there is no such document of that tenant.
    """
    if why := next(
        (why for text in (name, said.words, said.tenant or "", *said.doc) if (why := unstorable(text))), None
    ):
        raise BadInput(f"a judgement {why}")
    await documents_of_tenant(conn, collection, said)
    row = await (await conn.execute(SQL.make, {"collection": collection.id, "name": name})).fetchone()
    assert row is not None
    asked = {"set": row.id, "words": said.words, "tenant": said.tenant}
    known = await (await conn.execute(SQL.known, asked)).fetchone()
    query = JudgedQuery(
        name=known.name if known else await _free_name(conn, row.id, said),
        words=known.words if known else said.words,
        grades={said.doc: said.grade},
        tenant=said.tenant,
        segment=known.segment if known else "",
    )
    await put(conn, collection, name, [query], origin=Origin.PERSON, who=who)


async def documents_of_tenant(conn: Connection, collection: Collection, said: Said) -> None:
    """
    Raises:
        NotFound: there is no such document of that tenant.
    """
    source, key = said.doc
    asked = {"collection": collection.id, "source": source, "key": key, "tenant": said.tenant}
    if await (await conn.execute(SQL.document_of, asked)).fetchone() is None:
        whose = "" if said.tenant is None else f" of tenant {said.tenant!r}"
        raise NotFound(f"{collection.name} has no document {key!r} of {source!r}{whose}: search again")


async def _free_name(conn: Connection, set_id: int, said: Said) -> str:
    """The words themselves, as Quepid has it, on one line; with the tenant where that name is taken."""
    name = " ".join(said.words.split())
    while (await conn.execute(SQL.named, {"set": set_id, "name": name})).rowcount:
        name = f"{name} ({said.tenant or 'all tenants'})"
    return name


async def grades(
    conn: Connection, collection: Collection, name: str, asked: Asked, docs: Iterable[Doc]
) -> dict[Doc, Any]:
    """Document → grade, origin, who, at: what is known of these as answers."""
    wanted = sorted(set(docs))
    of = {"collection": collection.id, "name": name, "words": asked.words, "tenant": asked.tenant}
    pairs = {"sources": [source for source, _ in wanted], "keys": [key for _, key in wanted]}
    rows = await (await conn.execute(SQL.grades, of | pairs)).fetchall()
    return {(row.source, row.key): row for row in rows}


async def page(conn: Connection, collection: Collection, name: str, *, after: str, limit: int) -> list[Any]:
    """Queries of the set by name, judged or not: name, words, tenant, segment, judgements, best (grade)."""
    asked = {"collection": collection.id, "name": name, "after": after, "limit": limit}
    return await (await conn.execute(SQL.page, asked)).fetchall()


async def listed(conn: Connection, collection: Collection) -> list[Any]:
    """Each set: name, queries, judged (with a good answer), judgements, missing (documents), changed_at."""
    return await (await conn.execute(SQL.listed, {"collection": collection.id})).fetchall()


async def names(conn: Connection, collection: Collection) -> list[str]:
    """The sets that there are, uncounted."""
    rows = await conn.execute(SQL.sets, {"collection": collection.id})
    return [row.name for row in await rows.fetchall()]


async def answerable(conn: Connection, collection: Collection, name: str) -> set[str]:
    """Names of the queries that have a good answer among the documents that are there."""
    rows = await conn.execute(SQL.answerable, {"collection": collection.id, "name": name})
    return {row.name for row in await rows.fetchall()}


async def read(conn: Connection, collection: Collection, name: str) -> list[JudgedQuery]:
    """Those of its queries that have a good answer, by name.

    Raises:
        NotFound: there is no such set.
    """
    return [query for query in await graded(conn, collection, name) if query.is_judged]


async def graded(conn: Connection, collection: Collection, name: str) -> list[JudgedQuery]:
    """Those that have an answer that somebody judged, good or not, by name.

    Raises:
        NotFound: there is no such set.
    """
    asked = {"collection": collection.id, "name": name}
    if await (await conn.execute(SQL.find, asked)).fetchone() is None:
        raise await _no_set(conn, collection, name)
    rows = await (await conn.execute(SQL.read, asked)).fetchall()
    return [
        JudgedQuery(
            name=row.name,
            words=row.words,
            grades=dict(zip(zip(row.sources, row.keys, strict=True), row.grades, strict=True)),
            tenant=row.tenant,
            segment=row.segment,
        )
        for row in rows
    ]


async def changed_at(conn: Connection, collection_id: int, name: str) -> str | None:
    """When something last went into the set; None: there is none."""
    asked = {"collection": collection_id, "name": name}
    row = await (await conn.execute(SQL.find, asked)).fetchone()
    return None if row is None else str(row.changed_at)


async def drop(conn: Connection, collection: Collection, name: str) -> None:
    """
    Raises:
        NotFound: there is no such set.
        Refused: a migration that is under way has to be proven by it.
    """
    asked = {"collection": collection.id, "name": name, "final": [*map(str, FINAL)]}
    if await (await conn.execute(SQL.needed, asked)).fetchone():
        raise Refused(
            f"the migration of {collection.name} that is under way is to be proven by {name!r}: "
            f"`revec finish {collection.name}` or `revec abort {collection.name}` first"
        )
    if (await conn.execute(SQL.drop, asked)).rowcount == 0:
        raise await _no_set(conn, collection, name)


async def documents_of(conn: Connection, collection_id: int, docs: Iterable[Doc]) -> dict[Doc, int]:
    """The ids of those that there are."""
    wanted = sorted(set(docs))
    asked = {
        "collection": collection_id,
        "sources": [source for source, _ in wanted],
        "keys": [key for _, key in wanted],
    }
    rows = await (await conn.execute(SQL.documents_of, asked)).fetchall()
    return {(row.source, row.key): row.doc_id for row in rows}


def _texts(name: str, queries: Iterable[JudgedQuery]) -> Iterable[str]:
    yield name
    for query in queries:
        yield from (query.name, query.words, query.tenant or "", query.segment)
        for doc in query.grades:
            yield from doc


async def _no_set(conn: Connection, collection: Collection, name: str) -> NotFound:
    known = [row.name for row in await listed(conn, collection)]
    there_is = f"there is {', '.join(known)}" if known else "there is none yet"
    return NotFound(
        f"{collection.name} has no set of judgements {name!r} ({there_is}): "
        f"`revec judgements add {collection.name} --as {name} …` makes it"
    )
