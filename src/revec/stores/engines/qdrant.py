"""Qdrant, by its own client: a server, or (for tests) the client alone with a folder."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any
from uuid import UUID

import httpx
import numpy as np
from qdrant_client import AsyncQdrantClient, models
from qdrant_client.http.exceptions import ApiException, UnexpectedResponse

from revec.model.errors import NotFound, StoreUnavailable
from revec.model.place import Address
from revec.stores.base import Vector
from revec.stores.points import Near, Point

PORT = 6333
TENANT = "tenant"
SHOWN = 200  # characters of what it says when it refuses


def connect(address: Address, key: str | None) -> Qdrant:
    return Qdrant(address, key)


class Qdrant:
    most = 250  # of 1,536 dims these are a body of five megabytes

    def __init__(self, address: Address, key: str | None) -> None:
        self._name = f"qdrant at {address.host or address.path}"
        self._is_local = not address.host
        self._client = (
            AsyncQdrantClient(path=address.path)
            if self._is_local
            else AsyncQdrantClient(
                host=address.host,
                port=address.port or PORT,
                https=not address.is_safe,
                api_key=key,
                timeout=3600,  # whoever asks has a limit around all of it
                check_compatibility=False,
            )
        )

    async def facts(self) -> str:
        async with self._answering():
            if self._is_local:
                await self._client.get_collections()
                return "Qdrant's client alone"
            return f"Qdrant {(await self._client.info()).version}"

    async def create(self, place: str, dims: int) -> None:
        async with self._answering():
            if await self._client.collection_exists(place):
                return
            params = models.VectorParams(size=dims, distance=models.Distance.COSINE)
            await self._client.create_collection(place, vectors_config=params)
            if not self._is_local:  # there it would be of no use, and says so
                tenant = models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, is_tenant=True)
                await self._client.create_payload_index(place, TENANT, tenant, wait=True)

    async def drop(self, place: str) -> None:
        async with self._answering():
            await self._client.delete_collection(place)

    async def put(self, place: str, points: Sequence[Point]) -> None:
        async with self._answering(place):
            await self._client.upsert(
                place,
                [
                    models.PointStruct(
                        id=str(point.id), vector=point.vector.tolist(), payload={TENANT: point.tenant}
                    )
                    for point in points
                ],
                wait=True,
            )

    async def delete(self, place: str, ids: Sequence[UUID]) -> None:
        async with self._answering(place):
            await self._client.delete(place, models.PointIdsList(points=[*map(str, ids)]), wait=True)

    async def fetch(self, place: str, ids: Sequence[UUID]) -> dict[UUID, Vector]:
        async with self._answering(place):
            found = await self._client.retrieve(
                place, [*map(str, ids)], with_payload=False, with_vectors=True
            )
        return {UUID(str(point.id)): np.asarray(point.vector, np.float32) for point in found}

    async def nearest(self, place: str, query: Vector, *, limit: int, tenant: str | None) -> Near:
        theirs = models.FieldCondition(key=TENANT, match=models.MatchValue(value=tenant or ""))
        async with self._answering(place):
            found = await self._client.query_points(
                place,
                query=query.tolist(),
                limit=limit,
                query_filter=None if tenant is None else models.Filter(must=[theirs]),
                with_payload=False,
            )
        return [(UUID(str(point.id)), float(point.score)) for point in found.points]

    async def page(self, place: str, after: str, limit: int) -> tuple[list[UUID], str | None]:
        async with self._answering(place):
            found, beyond = await self._client.scroll(
                place, limit=limit, offset=after or None, with_payload=False, with_vectors=False
            )
        return [UUID(str(point.id)) for point in found], None if beyond is None else str(beyond)

    async def count(self, place: str) -> int:
        async with self._answering(place):
            return int((await self._client.count(place, exact=True)).count)

    async def close(self) -> None:
        await self._client.close()

    @asynccontextmanager
    async def _answering(self, place: str | None = None) -> AsyncIterator[None]:
        """What the client says of a failure, in our words. `place`: has to be there."""
        try:
            if self._is_local and place and not await self._client.collection_exists(place):
                raise NotFound(f"{self._name} has no collection {place}")
            yield
        except UnexpectedResponse as error:
            if error.status_code == HTTPStatus.NOT_FOUND:
                raise NotFound(f"{self._name} has no such collection") from error
            said: Any = error.content or b""
            raise StoreUnavailable(
                f"{self._name} answered {error.status_code}: {said[:SHOWN].decode(errors='replace')}"
            ) from error
        except (ApiException, httpx.HTTPError, OSError) as error:
            raise StoreUnavailable(f"{self._name} cannot be reached ({type(error).__name__})") from error
