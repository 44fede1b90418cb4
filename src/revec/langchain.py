"""Door: a retriever for LangChain."""

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
    from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
    from langchain_core.documents import Document
    from langchain_core.retrievers import BaseRetriever
except ModuleNotFoundError as error:
    raise MissingExtra("revec.langchain", "langchain") from error


class RevecRetriever(BaseRetriever):
    """Documents of one collection, as LangChain has them.

    `invoke` wants a client that is not async (`revec.connect(…).sync()`), `ainvoke` takes either. Both take
    `k`, `mode`, `filter`, `tenant` and `sticky` of one call; anything else is refused.
    """

    client: Client | SyncClient
    collection: str
    k: int = 10
    mode: How = Mode.HYBRID
    filter: Mapping[str, Any] | str | None = None
    tenant: Whose = None

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, **more: Any
    ) -> list[Document]:
        del run_manager
        return [_document(hit) for hit in self._retrieving.hits(query, **more)]

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, **more: Any
    ) -> list[Document]:
        del run_manager
        return [_document(hit) for hit in await self._retrieving.awaited_hits(query, **more)]

    @property
    def _retrieving(self) -> Retrieving:
        return Retrieving(self.client, self.collection, self.k, self.mode, self.filter, self.tenant)


def _document(hit: Hit) -> Document:
    return Document(id=hit.id, page_content=hit.text, metadata=metadata(hit))
