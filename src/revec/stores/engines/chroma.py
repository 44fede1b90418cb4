"""Chroma, by its own wire (HTTP, version 2): nine calls, on the client that the providers use.

Its own client brings thirty packages for them and takes longer to import than a search takes; see
docs/decisions/0015-stores-elsewhere.md.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any
from uuid import UUID

import httpx2
import numpy as np

from revec.model.errors import BadInput, NotFound, StoreUnavailable
from revec.model.place import LOCAL, Address
from revec.stores.base import Vector
from revec.stores.points import Near, Point

PORT = 8000
TENANT, DATABASE = "default_tenant", "default_database"
JSON = {"Content-Type": "application/json"}
NO_ENTRY = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
SHOWN = 200  # characters of what it says when it refuses


def connect(address: Address, key: str | None) -> Chroma:
    return Chroma(address, key)


def _database(path: str) -> tuple[str, str]:
    """Tenant and database, in Chroma's sense of the words.

    Raises:
        BadInput: only one of them.
    """
    match path.strip("/").split("/"):
        case [""]:
            return TENANT, DATABASE
        case [tenant, database]:
            return tenant, database
    raise BadInput(
        "a Chroma server's tenant and database stand behind it: chroma://host:8000/TENANT/DATABASE"
    )


class Chroma:
    """`chroma://host:8000/TENANT/DATABASE`; the path may be left out."""

    most = 250  # it takes twenty times as many; of 1,536 dims these are a body of five megabytes

    def __init__(self, address: Address, key: str | None) -> None:
        scheme = "http" if address.is_safe else "https"
        host = f"[{address.host}]" if ":" in address.host else address.host or LOCAL
        tenant, database = _database(address.path)
        self._name = f"chroma at {host}:{address.port or PORT}"
        self._collections = f"/tenants/{tenant}/databases/{database}/collections"
        self._ids: dict[str, str] = {}  # place → the collection's id, by which it is asked
        self._client = httpx2.AsyncClient(
            base_url=f"{scheme}://{host}:{address.port or PORT}/api/v2",
            headers=JSON | ({"x-chroma-token": key, "Authorization": f"Bearer {key}"} if key else {}),
            timeout=None,  # whoever asks has a limit around all of it
            trust_env=not address.is_safe,
        )

    async def facts(self) -> str:
        return f"Chroma {await self._asked('GET', '/version')}"

    async def create(self, place: str, dims: int) -> None:  # noqa: ARG002 - its first vector tells it
        await self._asked(
            "POST",
            self._collections,
            {"name": place, "configuration": {"hnsw": {"space": "cosine"}}, "get_or_create": True},
        )

    async def drop(self, place: str) -> None:
        self._ids.pop(place, None)
        try:
            await self._asked("DELETE", f"{self._collections}/{place}")
        except NotFound:
            return

    async def put(self, place: str, points: Sequence[Point]) -> None:
        await self._of(
            place,
            "upsert",
            {
                "ids": [str(point.id) for point in points],
                "embeddings": [point.vector.tolist() for point in points],
                "metadatas": [{"tenant": point.tenant} for point in points],
            },
        )

    async def delete(self, place: str, ids: Sequence[UUID]) -> None:
        await self._of(place, "delete", {"ids": [*map(str, ids)]})

    async def fetch(self, place: str, ids: Sequence[UUID]) -> dict[UUID, Vector]:
        found = await self._of(place, "get", {"ids": [*map(str, ids)], "include": ["embeddings"]})
        vectors = np.asarray(found["embeddings"] or [], np.float32)
        return {UUID(point_id): vector for point_id, vector in zip(found["ids"], vectors, strict=True)}

    async def nearest(self, place: str, query: Vector, *, limit: int, tenant: str | None) -> Near:
        asked: dict[str, Any] = {
            "query_embeddings": [query.tolist()],
            "n_results": limit,
            "include": ["distances"],
        }
        if tenant is not None:
            asked["where"] = {"tenant": tenant}
        found = await self._of(place, "query", asked)
        pairs = zip(found["ids"][0], found["distances"][0], strict=True)
        return [(UUID(point_id), 1.0 - float(distance)) for point_id, distance in pairs]

    async def page(self, place: str, after: str, limit: int) -> tuple[list[UUID], str | None]:
        offset = int(after or 0)
        found = await self._of(place, "get", {"limit": limit, "offset": offset, "include": []})
        ids = [UUID(point_id) for point_id in found["ids"]]
        return ids, str(offset + limit) if len(ids) == limit else None

    async def count(self, place: str) -> int:
        return int(await self._asked("GET", f"{self._collections}/{await self._id(place)}/count"))

    async def close(self) -> None:
        await self._client.aclose()

    async def _of(self, place: str, verb: str, body: dict[str, Any]) -> Any:
        try:
            return await self._asked("POST", f"{self._collections}/{await self._id(place)}/{verb}", body)
        except NotFound:
            self._ids.pop(place, None)  # there may be another one of this name by now
            raise

    async def _id(self, place: str) -> str:
        if place not in self._ids:
            found = await self._asked("GET", f"{self._collections}/{place}")
            self._ids[place] = str(found["id"])
        return self._ids[place]

    async def _asked(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        content = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        try:
            response = await self._client.request(method, path, content=content)
        except httpx2.HTTPError as error:
            raise StoreUnavailable(f"{self._name} cannot be reached ({type(error).__name__})") from error
        if response.status_code == HTTPStatus.NOT_FOUND:
            raise NotFound(f"{self._name} has no such collection")
        if response.status_code in NO_ENTRY:
            raise StoreUnavailable(
                f"{self._name} does not let us in ({response.status_code}): set REVEC_STORE_KEYS__HOST"
            )
        if not response.is_success:
            raise StoreUnavailable(f"{self._name} answered {response.status_code}: {response.text[:SHOWN]}")
        try:
            return response.json()
        except ValueError as error:
            raise StoreUnavailable(f"{self._name} answered what is no JSON") from error
