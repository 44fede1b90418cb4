"""What goes over the wire, apart from the facts: shapes, limits, examples."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from revec.model.document import unstorable
from revec.model.index import Kind
from revec.model.judging import MARGIN
from revec.model.limits import LONGEST_FILTER, LONGEST_NAME, LONGEST_QUERY, MOST_DOCUMENTS, MOST_HITS
from revec.model.reading import Mode

MOST_NUMBERS = 16_384  # in a vector


def _storable(text: str) -> str:
    if why := unstorable(text):
        raise ValueError(why)
    return text


_SAID = Field(json_schema_extra={"pattern": r"^[^\u0000]*$"})  # the sentence is _storable's
Text = Annotated[str, AfterValidator(_storable), _SAID]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Name = Annotated[str, Field(min_length=1, max_length=LONGEST_NAME), AfterValidator(_storable), _SAID]


class In(BaseModel):
    """What is asked; a field that we do not know is refused, not dropped."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Question(In):
    """A search. The tenant is the caller's own; who may see all of them may name one."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"q": "reset my password", "k": 3}]})

    q: Text = Field(
        default="",
        max_length=LONGEST_QUERY,
        description="The words; empty: what was written last.",
    )
    k: int = Field(default=10, ge=1, le=MOST_HITS, description="How many hits.")
    mode: Mode = Field(default=Mode.HYBRID, description="By vectors, by words, or by both.")
    filter: Text | None = Field(
        default=None,
        max_length=LONGEST_FILTER,
        description="Only documents with this metadata, as JSON.",
        examples=['{"lang": "en"}'],
    )
    tenant: Name | None = Field(default=None, description="Only for callers of all tenants.")
    contents: bool = Field(default=False, description="Each hit with its text and metadata.")
    sticky: Name | None = Field(
        default=None, description="Whoever says the same is answered by the same index, also in a canary."
    )
    index: Name | None = Field(default=None, description="Operators: another index, by number or name.")
    vectors: bool = Field(default=False, description="Operators: the hits' vectors, chunk by chunk.")


class Likeness(In):
    """A search by what there is: one of `key`, `text` and `vector` says like what."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"key": "1", "threshold": 0.9}, {"text": "How to reset a password", "k": 3}]
        }
    )

    key: Name | None = Field(default=None, description="A document's, which a search shows as `id`.")
    source: Name | None = Field(default=None, description="The document's, where several have the key.")
    text: Text | None = Field(default=None, description="Embedded as a document would be.")
    vector: Annotated[list[Number], Field(min_length=1, max_length=MOST_NUMBERS, fail_fast=True)] | None = (
        Field(default=None, description="Of the space that serves.")
    )
    space: Name | None = Field(default=None, description="The vector's, by its id.")
    k: int = Field(default=10, ge=1, le=MOST_HITS, description="How many hits.")
    threshold: Number | None = Field(
        default=None, ge=-1, le=1, description="The lowest score; unless said what the collection keeps."
    )
    filter: Text | None = Field(
        default=None,
        max_length=LONGEST_FILTER,
        description="Only documents with this metadata, as JSON.",
        examples=['{"lang": "en"}'],
    )
    tenant: Name | None = Field(default=None, description="Only for callers of all tenants.")
    sticky: Name | None = Field(
        default=None, description="Whoever says the same is answered by the same index, also in a canary."
    )

    @model_validator(mode="after")
    def _is_of_one_way(self) -> Self:
        given = [name for name in ("key", "text", "vector") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"like what? say key, text or vector, one of them, not {len(given)}")
        if self.source is not None and self.key is None:
            raise ValueError("source belongs to a key: leave it out")
        if self.space is not None and self.vector is None:
            raise ValueError("space belongs to a vector: leave it out")
        return self


class Hit(BaseModel):
    id: str
    score: float = Field(
        description="Of the fusion, or of one leg (cosine, BM25); never comparable between indexes."
    )
    matched_by: list[str] = Field(default=[], description="Of a hybrid answer: the legs that had it.")
    vector_rank: int | None = None
    lexical_rank: int | None = None
    title: str
    tenant: str
    source: str
    text: str | None = None
    metadata: dict[str, Any] | None = None
    vectors: list[list[float]] | None = None


class Answer(BaseModel):
    """Wholly of one index, at one epoch of the route."""

    collection: str
    index: str
    epoch: int
    degraded: bool = Field(default=False, description="The query has no vector: the words alone answered.")
    why: str | None = None
    early: bool = Field(
        default=False, description="Of the index that is being filled, before its migration's cutover."
    )
    demanded: int = Field(default=0, description="Documents that were embedded for this very answer.")
    hits: list[Hit]


class Likenesses(Answer):
    """Hits below the threshold were left out; null: there is none."""

    threshold: float | None


class Index(BaseModel):
    id: int
    name: str
    kind: str
    role: Literal["serving", "previous", "next"]


class Collection(BaseModel):
    name: str
    epoch: int
    serving: str | None
    indexes: list[Index] = Field(description="All that can be asked by `index`.")


class Collections(BaseModel):
    collections: list[Collection]


class DocumentIn(In):
    """A document, without its id."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"title": "Reset", "text": "How to reset a password", "tenant": "acme"}]
        }
    )

    title: Text = ""
    text: Text
    tenant: Name = "default"
    metadata: dict[str, Any] = {}


class Identified(DocumentIn):
    """The same with its id, as a batch has it."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"id": "1", "text": "How to reset a password"}]}
    )

    id: Name


class Batch(In):
    """All of it or nothing."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"put": [{"id": "1", "text": "How to reset a password"}], "delete": ["2"]}]
        }
    )

    tenant: Name | None = Field(default=None, description="No other tenant's document is touched.")
    put: list[Identified] = Field(default=[], max_length=MOST_DOCUMENTS)
    delete: list[Name] = Field(default=[], max_length=MOST_DOCUMENTS)


class Document(BaseModel):
    id: str
    source: str
    title: str
    text: str
    tenant: str
    metadata: dict[str, Any]
    changed_at: datetime


class Written(BaseModel):
    id: str
    standing: str = Field(
        description="pending, searchable, excluded, dead or gone, in the index that serves."
    )
    why: str | None = None


class Receipt(BaseModel):
    """With 200 the index that serves has nothing left to do for these documents; with 202 it has."""

    collection: str
    documents: list[Written]


class Migration(BaseModel):
    id: int
    state: str
    target: str
    paused: str | None
    hold: str | None
    started_at: datetime
    changed_at: datetime


class Migrations(BaseModel):
    migrations: list[Migration]


class Event(BaseModel):
    at: datetime
    who: str
    was: str
    became: str | None
    why: str
    evidence: Any


class History(BaseModel):
    migration: int
    events: list[Event]


class Start(In):
    model_config = ConfigDict(json_schema_extra={"examples": [{"to": "local:minilm-384"}]})

    to: Name = Field(description="The model to move to.")
    dims: int | None = Field(default=None, ge=1, le=16_000)
    index: Kind | None = None
    serve_early: bool = Field(
        default=False,
        description="The new model may answer before the backfill is over, where it loses nothing.",
    )
    judged: Name | None = Field(
        default=None, description="A set of judged queries: the quality gate is required."
    )
    margin: float = Field(
        default=MARGIN, gt=0, lt=1, description="The loss of nDCG@10, and of Recall@3, that nobody minds."
    )


class Shadowing(In):
    """What is read behind the answers from now on; what is left out stays."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"rate": 0.05}]})

    rate: float | None = Field(
        default=None, ge=0, le=1, description="The share of the distinct queries; 0: none."
    )
    to: Name | None = Field(default=None, description="The index that is compared, by name or number.")


class Shadow(BaseModel):
    """What was seen of an index beside the one that serves; of each distinct query once."""

    collection: str
    on: bool
    rate: float
    serving: str | None
    candidate: str | None
    since: datetime | None
    questions: int
    requests: int
    effective: float
    tenants: int
    first_of_tenants: int = Field(description="Questions that were observed for their tenant's sake alone.")
    variance: dict[str, Any]
    latency: dict[str, Any]
    errors: dict[str, Any]
    dropped: int
    lost: int
    shed: float
    doubt: str | None = Field(description="Why nothing can be told from it.")
    gates: dict[str, str]
    waits_for: str


class Order(In):
    """Why, for the history."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"reason": "the gates passed"}]})

    reason: Annotated[Text, Field(min_length=1, max_length=LONGEST_NAME)]
    drop_after: float = Field(default=7 * 86_400, ge=0, le=365 * 86_400, description="Of finish: seconds.")
    percent: float | None = Field(default=None, ge=0, le=100, description="Of canary: so many of the users.")
    steps: list[Annotated[float, Field(ge=0, le=100)]] = Field(
        default=[], max_length=20, description="Of canary: percents that come after it by themselves."
    )
    tenants: list[Name] = Field(
        default=[], max_length=1_000, description="Of canary: these wholly; of rollback: only these."
    )
    hold: list[Name] = Field(
        default=[], max_length=1_000, description="Of canary: these stay on the old index."
    )
    at: AwareDatetime | None = Field(default=None, description="Of cutover: not now, but then.")
    override: list[Name] = Field(
        default=[], max_length=20, description="Of cutover: required gates that count as passed all the same."
    )


class Where(BaseModel):
    where: str
    why: str


class Problem(BaseModel):
    """RFC 9457."""

    type: Literal["about:blank"]
    title: str
    status: int
    detail: str = Field(description="A sentence with the way out.")
    code: str | None = Field(default=None, description="The error's name among Revec's own.")
    errors: list[Where] | None = None
