"""A space: what makes two vectors comparable. Immutable; its id is a hash of all of it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from hashlib import sha256
from types import MappingProxyType

from revec.model.chunking import BY_THE_MODEL, NONE, chunking, truncation
from revec.model.errors import BadInput

MAX_STORED_DIMS = 16_000  # pgvector: what a vector column can hold
MAX_HNSW_DIMS = 4_000  # pgvector: halfvec
BYTES_PER_DIM = 2  # halfvec is float16


LATER = MappingProxyType({"later": True})  # a field that ids are older than: at its default it is not in them


@dataclass(frozen=True, slots=True)
class Space:
    """A document recipe: every field changes the vectors, so every field is in the id."""

    provider: str
    model: str
    revision: str
    dims: int
    normalise: bool
    metric: str = "cosine"
    dtype: str = "float16"
    prefix: str = ""
    template: str = "title, newline, body"
    chunking: str = NONE  # or windows: model/chunking.py
    truncation: str = BY_THE_MODEL
    modality: str = "text"
    task: str = field(default="", metadata=LATER)  # what the provider is told of a document
    family: str = field(default="", metadata=LATER)  # of models that share the space

    def __post_init__(self) -> None:
        if not 1 <= self.dims <= MAX_STORED_DIMS:
            raise BadInput(
                f"{self.address} has {self.dims} dims; Revec stores 1 to {MAX_STORED_DIMS}: "
                "ask for fewer with --dims where the model allows it"
            )
        chunking(self.chunking)
        truncation(self.truncation)

    @property
    def address(self) -> str:
        """How a person names the model: `openai:text-embedding-3-small`."""
        return f"{self.provider}:{self.model}"

    @property
    def recipe(self) -> dict[str, object]:
        return asdict(self)

    @property
    def id(self) -> str:
        """16 hex digits of the SHA-256 of the recipe's canonical JSON, without empty later fields."""
        later = {known.name for known in fields(self) if known.metadata}
        said = {name: value for name, value in self.recipe.items() if value or name not in later}
        canonical = json.dumps(said, sort_keys=True, separators=(",", ":"))
        return sha256(canonical.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class QueryRecipe:
    """How a query becomes a vector of a space; belongs to the index, not to the space."""

    address: str
    prefix: str = ""
    task: str = ""  # what the provider is told of a query

    @property
    def recipe(self) -> dict[str, object]:
        return asdict(self)
