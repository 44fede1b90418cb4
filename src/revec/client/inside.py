"""The way inside: the stories themselves, in this process, on a database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import fields

import psycopg

from revec.app import App
from revec.capture.push import push, settled
from revec.client.shapes import ALL_TENANTS, Answer, Document, Receipt, Search, Similar, Whose, Written
from revec.model import filter as filters
from revec.model.document import DEFAULT_TENANT, Draft
from revec.model.errors import Unavailable
from revec.model.filter import Filter
from revec.model.index import Listed
from revec.model.reading import Reading
from revec.postgres import collections, documents
from revec.postgres.database import DATABASE_TROUBLE, first_line, role_of
from revec.search import catalogue
from revec.search.similar import ByKey, ByText, ByVector, Like
from revec.settings import Settings

LATER = "nothing was changed unless it was answered: ask again"


class Inside:
    def __init__(self, settings: Callable[[], Settings]) -> None:
        self._settings = settings

    async def open(self) -> None:
        app = App(self._settings())
        async with _sentences():
            await app.__aenter__()
        self._app = app

    async def close(self) -> None:
        await self._app.__aexit__(None, None, None)

    async def search(self, asked: Search) -> Answer:
        async with self._answering():
            reading = await self._app.retriever.search(
                *(asked.collection, asked.query),
                k=asked.k,
                tenant=_tenant(asked.whose),
                mode=asked.mode,
                where=_where(asked.filter),
                contents=asked.contents,
                sticky=asked.sticky,
            )
        return _answer(reading)

    async def similar(self, asked: Similar) -> Answer:
        async with self._answering():
            reading = await self._app.retriever.similar(
                *(asked.collection, _like(asked)),
                k=asked.k,
                tenant=_tenant(asked.whose),
                threshold=asked.threshold,
                where=_where(asked.filter),
                sticky=asked.sticky,
            )
        return _answer(reading)

    async def write(
        self, collection: str, drafts: Sequence[Draft], gone: Sequence[str], whose: Whose, wait: float
    ) -> Receipt:
        database = self._app.database
        async with self._answering(wait):
            async with database.transaction("worker") as conn:
                found = await collections.named(conn, collection)
            wall = whose if isinstance(whose, str) else None
            ids = await push(database, found, drafts, gone, tenant=wall)
            stands = await settled(database, found, ids, wait)
        written = [Written(each.key, str(each.standing), each.why) for each in stands]
        return Receipt(found.name, written, settled=not any(each.open for each in stands))

    async def get(self, collection: str, id: str, source: str, whose: Whose) -> Document:  # noqa: A002
        tenant = _tenant(whose)
        role = role_of(tenant)
        async with self._answering():
            async with self._app.database.transaction("worker") as conn:
                found = await collections.named(conn, collection)
            async with self._app.database.transaction(role, tenant=tenant) as conn:
                row = await documents.one(conn, found.id, source, id, tenant=tenant, where=None)
        if row is None:
            raise documents.no_document(collection, id)
        return Document(
            id=row.key,
            source=row.source,
            title=row.title,
            text=row.body,
            tenant=row.tenant,
            metadata=row.metadata,
            changed_at=row.changed_at,
        )

    async def collections(self) -> list[Listed]:
        async with self._answering():
            return await catalogue.listed(self._app.database)

    @asynccontextmanager
    async def _answering(self, wait: float = 0.0) -> AsyncIterator[None]:
        """Within the deadline that a request over HTTP has too, and `wait` seconds.

        Raises:
            Unavailable: it was not answered in time, or the database is busy or gone.
        """
        async with _sentences(), asyncio.timeout(self._app.settings.request_deadline + wait):
            yield


@asynccontextmanager
async def _sentences() -> AsyncIterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise Unavailable(f"the answer was not ready within the deadline; {LATER}") from error
    except (*DATABASE_TROUBLE, psycopg.Error) as error:
        raise Unavailable(f"the database is busy or gone: {first_line(error)}; {LATER}") from error
    except MemoryError as error:
        raise Unavailable(f"there is no memory left for the answer; {LATER}") from error


def _tenant(whose: Whose) -> str | None:
    """Whoever does not say means the default one; all of them has to be said."""
    if whose is ALL_TENANTS:
        return None
    return whose if isinstance(whose, str) else DEFAULT_TENANT


def _where(said: str | None) -> Filter | None:
    return None if said is None else filters.read(said)


def _like(asked: Similar) -> Like:
    if asked.key is not None:
        return ByKey(asked.key, asked.source)
    if asked.text is not None:
        return ByText(asked.text)
    return ByVector(asked.vector or [], asked.space)


def _answer(reading: Reading) -> Answer:
    return Answer(**{each.name: getattr(reading, each.name) for each in fields(Answer)})
