"""What retrievers of other people's frameworks share: one question, asked in step or awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from revec.client.client import Client, How
from revec.client.shapes import Whose
from revec.client.twin import SyncClient
from revec.model.errors import Refused
from revec.model.reading import Hit


@dataclass(frozen=True, slots=True)
class Retrieving:
    """Searches of one collection; each call may ask otherwise (`k`, `mode`, `filter`, `tenant`, `sticky`)."""

    client: Client | SyncClient
    collection: str
    k: int
    mode: How
    filter: Mapping[str, Any] | str | None
    tenant: Whose

    def hits(self, query: str, **more: Any) -> list[Hit]:
        """
        Raises:
            Refused: the client is async, and its loop may be the one that would be kept waiting.
            RevecError: as `search`.
        """
        if isinstance(self.client, Client):
            raise Refused(
                "this retriever has an async client: call its async method, or make it with "
                "`revec.connect(…).sync()`"
            )
        return self.client.search(self.collection, query, **self._asked(more)).hits

    async def awaited_hits(self, query: str, **more: Any) -> list[Hit]:
        """With a client that is not async in a thread, so that the loop turns.

        Raises:
            RevecError: as `search`.
        """
        if isinstance(self.client, SyncClient):
            return await asyncio.to_thread(self.hits, query, **more)
        return (await self.client.search(self.collection, query, **self._asked(more))).hits

    def _asked(self, more: Mapping[str, Any]) -> dict[str, Any]:
        asked = {"k": self.k, "mode": self.mode, "filter": self.filter, "tenant": self.tenant}
        return asked | dict(more) | {"contents": True}


def metadata(hit: Hit) -> dict[str, Any]:
    """The document's own, and four words of ours, which nobody's metadata can take."""
    ours = {"title": hit.title, "tenant": hit.tenant, "source": hit.source, "score": hit.score}
    return {**(hit.metadata or {}), **ours}
