"""Door: a retriever for LlamaIndex."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from revec.client.client import Client, How
from revec.client.retrieving import Retrieving, metadata
from revec.client.shapes import Whose
from revec.client.twin import SyncClient
from revec.model.errors import MissingExtra
from revec.model.reading import Hit, Mode

try:
    from llama_index.core.retrievers import BaseRetriever
    from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
except ModuleNotFoundError as error:
    raise MissingExtra("revec.llama_index", "llama-index") from error


class RevecRetriever(BaseRetriever):
    """Documents of one collection, as nodes with scores.

    `retrieve` wants a client that is not async (`revec.connect(…).sync()`), `aretrieve` takes either.
    """

    def __init__(
        self,
        client: Client | SyncClient,
        collection: str,
        *,
        k: int = 10,
        mode: How = Mode.HYBRID,
        filter: Mapping[str, Any] | str | None = None,  # noqa: A002 - what it is called everywhere
        tenant: Whose = None,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        self._retrieving = Retrieving(client, collection, k, mode, filter, tenant)

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return [_node(hit) for hit in self._retrieving.hits(query_bundle.query_str)]

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return [_node(hit) for hit in await self._retrieving.awaited_hits(query_bundle.query_str)]


def _node(hit: Hit) -> NodeWithScore:
    return NodeWithScore(node=TextNode(id_=hit.id, text=hit.text, metadata=metadata(hit)), score=hit.score)
