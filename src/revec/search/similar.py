"""What a search for similar documents starts from: a document, a text, or a vector of the serving space."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from revec.model.errors import BadInput, NotFound, Refused
from revec.model.filter import Filter
from revec.model.index import Index
from revec.model.space import Space
from revec.postgres import documents, thresholds
from revec.postgres.database import Connection, Database, role_of
from revec.providers.base import LARGEST, UNIT_NORM_TOLERANCE
from revec.search.queries import Queries
from revec.stores import base
from revec.stores.base import Store, Vector

LONGEST_TEXT = 1_000_000  # characters


@dataclass(frozen=True, slots=True)
class ByKey:
    """Like a document that is there already, which is not among the hits."""

    key: str
    source: str | None = None  # where several sources have the key

    @property
    def said(self) -> str:
        return f"{self.source} {self.key}"


@dataclass(frozen=True, slots=True)
class ByText:
    """Like a text, embedded as a document would be."""

    text: str

    @property
    def said(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class ByVector:
    """Like a vector that somebody made: of which space, has to be said."""

    vector: Sequence[float]
    space: str | None  # its id

    @property
    def said(self) -> str:
        return str(self.vector[:8])  # enough to know it again


Like = ByKey | ByText | ByVector


@dataclass(frozen=True, slots=True)
class Start:
    """Vectors of which the nearest counts, and the document that is not to find itself."""

    vectors: Sequence[Vector]
    itself: int | None = None


async def of_document(
    database: Database, store: Store, index: Index, like: ByKey, *, tenant: str | None, visible: Filter | None
) -> Start:
    """
    Raises:
        NotFound: no such document is to be seen: nobody learns whether somebody else has it.
        BadInput: several sources have one.
        Refused: it has no vectors yet.
    """
    async with database.transaction(role_of(tenant), tenant=tenant) as conn:
        found = await documents.of_key(
            conn, index.collection_id, like.key, source=like.source, tenant=tenant, where=visible
        )
    if not found:
        raise NotFound(f"there is no document {like.key!r} for you: a key is what a search shows as id")
    if len(found) > 1:
        sources = ", ".join(row.source for row in found)
        raise BadInput(f"several documents have the key {like.key!r}: say which source, one of {sources}")
    doc_id = found[0].doc_id
    vectors = (await store.vectors(database, index, [doc_id], tenant=tenant)).get(doc_id)
    if not vectors:
        raise Refused(
            f"document {like.key!r} has no vectors in {index.name}: `revec worker` makes them, "
            "unless it is empty or a dead letter (`revec queue list`)"
        )
    return Start(vectors, doc_id)


async def of_text(queries: Queries, index: Index, like: ByText, tenant: str | None) -> Start:
    """
    Raises:
        BadInput: an empty text, or a very long one.
        ProviderError: it could not be embedded.
    """
    if not like.text.strip():
        raise BadInput("the text is empty: say what the documents should be like")
    if len(like.text) > LONGEST_TEXT:
        raise BadInput(f"the text has {len(like.text):,} characters, {LONGEST_TEXT:,} are allowed")
    return Start(await queries.of_document(index.space, like.text, tenant=tenant))


def of_vector(index: Index, like: ByVector) -> Start:
    """
    Raises:
        BadInput: it cannot be of the space that serves; which that is.
    """
    space = index.space
    if like.space != space.id:
        raise _foreign(space, f"it is of {like.space}" if like.space else "nobody says which space it is of")
    if len(like.vector) != space.dims:
        raise _foreign(space, f"it has {len(like.vector)} numbers")
    if not all(isinstance(number, int | float) for number in like.vector):
        raise _foreign(space, "it does not hold numbers alone")
    try:
        vector = base.vector(like.vector)
    except (ValueError, OverflowError) as error:
        raise _foreign(space, "it holds a number too large to be stored") from error
    norm = math.hypot(*like.vector)
    if not math.isfinite(norm) or max(map(abs, like.vector)) > LARGEST:
        raise _foreign(space, "it holds NaN, infinity or a number too large to be stored")
    if norm == 0 or (space.normalise and abs(norm - 1) > UNIT_NORM_TOLERANCE):
        raise _foreign(space, f"its norm is {norm:.3f}")
    return Start([vector])


def _foreign(space: Space, what: str) -> BadInput:
    norm = "norm 1" if space.normalise else "any norm but 0"
    return BadInput(
        f"the vector cannot be compared, {what}: {space.address} serves, "
        f"its space is {space.id}, of {space.dims} finite numbers and {norm}"
    )


async def threshold_of(conn: Connection, collection: str, index: Index) -> float | None:
    """What the collection calls similar in this space; None where nobody ever said.

    Raises:
        Refused: it was said for another space, and not carried to this one.
    """
    kept = await thresholds.kept(conn, index.collection_id)
    if not kept:
        return None
    if mine := kept.get(index.space.id):
        return mine.value
    raise Refused(
        f"the threshold of {collection} is for another space than {index.space.address}'s, whose scores are "
        f"others: `revec collections tune {collection} --threshold …` says one for it, a threshold in "
        "the question one for this question"
    )
