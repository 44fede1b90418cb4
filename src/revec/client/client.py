"""The client that an application holds: what may be asked, looked at once, sent one way or the other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

from revec.capture.drafts import all_drafted
from revec.client import checks
from revec.client.shapes import ALL_TENANTS, Answer, Document, Receipt, Search, Similar, Way, Whose
from revec.model.document import Draft
from revec.model.errors import BadInput, NotAllowed, Refused
from revec.model.index import Listed
from revec.model.reading import Mode

if TYPE_CHECKING:
    from revec.client.twin import SyncClient

PUSH = "push"  # the source of documents that are handed in

How = Mode | Literal["hybrid", "vector", "lexical"]


class Client:
    """Search and documents of one Revec: `async with revec.connect(…) as client`.

    With a tenant of its own it asks for that tenant's documents and for nobody else's. Every error of a
    method is a `RevecError`: BadInput for what cannot be asked, NotFound for what is not there or not
    yours, NotIdentified and NotAllowed where a key does not reach, TooMuch and Unavailable for later.
    """

    def __init__(self, way: Way, *, tenant: Whose = None) -> None:
        self._way = way
        self._tenant = _tenant(tenant)
        self._is_open = False

    async def __aenter__(self) -> Self:
        if self._is_open:
            raise Refused("this client is open already: connect another one")
        await self._way.open()
        self._is_open = True
        return self

    async def __aexit__(self, *_: object) -> None:
        self._is_open = False
        await self._way.close()

    def sync(self) -> SyncClient:
        """The same for code that is not async: `with revec.connect(…).sync() as client`."""
        from revec.client.twin import SyncClient  # noqa: PLC0415 - it is made of this class

        return SyncClient(self)

    async def search(
        self,
        collection: str,
        query: str = "",
        *,
        k: int = 10,
        mode: How = Mode.HYBRID,
        filter: Mapping[str, Any] | str | None = None,  # noqa: A002 - what it is called everywhere
        tenant: Whose = None,
        sticky: str | None = None,
        contents: bool = False,
    ) -> Answer:
        """The k best documents by meaning and by words; for an empty query the ones written last.

        With `contents` each hit has its text and metadata. Whoever says the same `sticky`, a user's id for
        example, is answered by the same index while a canary shows another one to a share of the users.
        """
        asked = Search(
            collection=checks.name("a collection's name", collection),
            query=checks.query(query),
            k=checks.k(k),
            mode=checks.mode(mode),
            filter=checks.filter_of(filter),
            whose=self._whose(tenant),
            sticky=_sticky(sticky),
            contents=contents,
        )
        return await self._open_way.search(asked)

    async def similar(
        self,
        collection: str,
        *,
        key: str | None = None,
        source: str | None = None,
        text: str | None = None,
        vector: Sequence[float] | None = None,
        space: str | None = None,
        k: int = 10,
        threshold: float | None = None,
        filter: Mapping[str, Any] | str | None = None,  # noqa: A002
        tenant: Whose = None,
        sticky: str | None = None,
    ) -> Answer:
        """The k documents most similar to a document, a text, or a vector of the space that serves.

        Those below the threshold (a cosine similarity; None: what the collection keeps) are left out.
        """
        if sum(one is not None for one in (key, text, vector)) != 1:
            raise BadInput("like what? Say one of key, text and vector")
        asked = Similar(
            collection=checks.name("a collection's name", collection),
            key=None if key is None else checks.name("the key", key),
            source=None if source is None else checks.name("the source", source),
            text=None if text is None else checks.text("the text", text),
            vector=checks.vector(vector),
            space=None if space is None else checks.name("the space", space),
            k=checks.k(k),
            threshold=checks.threshold(threshold),
            filter=checks.filter_of(filter),
            whose=self._whose(tenant),
            sticky=_sticky(sticky),
        )
        return await self._open_way.similar(asked)

    async def put(
        self, collection: str, documents: Iterable[Mapping[str, Any]], *, wait: float = 0.0
    ) -> Receipt:
        """Insert documents, or put them in the place of those with their ids: all of them or none.

        Each is `{"id", "text", "title"?, "tenant"?, "metadata"?}`. `wait`: seconds until a search has them.
        """
        where = checks.name("a collection's name", collection)
        drafts = self._drafts(documents)
        return await self._open_way.write(where, drafts, [], self._tenant, checks.wait(wait))

    async def delete(self, collection: str, ids: Iterable[str], *, wait: float = 0.0) -> Receipt:
        """Delete documents; no search shows them from then on. One that is not there, or not of the client's
        tenant, is not answered for.
        """
        where = checks.name("a collection's name", collection)
        return await self._open_way.write(where, [], checks.ids(ids), self._tenant, checks.wait(wait))

    async def get(
        self,
        collection: str,
        id: str,  # noqa: A002 - what everybody calls it
        *,
        source: str = PUSH,
        tenant: Whose = None,
    ) -> Document:
        """One document as it is kept."""
        return await self._open_way.get(
            checks.name("a collection's name", collection),
            checks.name("an id", id),
            checks.name("the source", source),
            self._whose(tenant),
        )

    async def collections(self) -> list[Listed]:
        """The collections that there are, what serves them, and what other indexes they have."""
        return await self._open_way.collections()

    @property
    def _open_way(self) -> Way:
        if not self._is_open:
            raise Refused("this client is not open: `async with revec.connect(…) as client`")
        return self._way

    def _whose(self, asked: Whose) -> Whose:
        if asked is None or self._tenant is None or asked == self._tenant:
            return self._tenant if asked is None else _tenant(asked)
        if self._tenant is ALL_TENANTS:
            return _tenant(asked)
        raise NotAllowed(f"this client is of tenant {self._tenant!r}, and of no other: connect another one")

    def _drafts(self, documents: Iterable[Mapping[str, Any]]) -> list[Draft]:
        """The documents; those that do not say whose they are, are the client's tenant's."""
        own = self._tenant if isinstance(self._tenant, str) else None
        labels = {} if own is None else {"tenant": own}
        said = checks.several(list(documents))
        return all_drafted({**labels, **one} if isinstance(one, Mapping) else one for one in said)


def _sticky(said: str | None) -> str | None:
    return None if said is None else checks.name("the sticky key", said)


def _tenant(whose: Whose) -> Whose:
    return checks.name("a tenant", whose) if whose is not None and whose is not ALL_TENANTS else whose
