"""Any model that `sentence-transformers` can load, from this machine's disk or its cache.

The library is an extra of several gigabytes and is imported with the first text, never before. A
model's own words for documents and queries become the space's prefixes, so the library is told to
add none.
"""

from __future__ import annotations

import asyncio
import importlib
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np

from revec.model.errors import BadInput, InputRefused, MissingExtra
from revec.providers.base import (
    Ask,
    Input,
    Kind,
    Options,
    Traits,
    Vectors,
    checked,
    texts_only,
)

LIBRARY = "sentence_transformers"
PROMPTS: Mapping[Kind, tuple[str, ...]] = {
    "document": ("document", "passage", "text"),
    "query": ("query",),
}
PIECE = 16_384  # characters that are tokenised at once

_loading = threading.Lock()


class SentenceTransformers:
    """One model of this process; many of these share its weights."""

    def __init__(self, model: str, options: Options) -> None:
        self._model, self._dims = model, options.dims

    @property
    def name(self) -> str:
        return f"{LIBRARY}:{self._model}"

    async def traits(self) -> Traits:
        model = await asyncio.to_thread(self._loaded)
        return Traits(
            dims=model.get_sentence_embedding_dimension(),
            revision=revision(model),
            normalised=True,
            max_tokens=model.max_seq_length,
            document=Ask(prefix=prompt(model, "document")),
            query=Ask(prefix=prompt(model, "query")),
            exact=True,
        )

    async def embed(self, inputs: Sequence[Input], kind: Kind = "document") -> Vectors:
        texts = texts_only(inputs, name=self.name)
        for at, text in enumerate(texts, start=1):
            if not text.strip():
                raise InputRefused(
                    f"input {at} of {len(texts)} has nothing that {self.name} can read: "
                    f"leave empty texts out, or give the document a title or a body"
                )
        dims = (await self.traits()).dims
        if not texts:
            return Vectors(np.zeros((0, dims), np.float32), tokens=0)
        matrix = await asyncio.to_thread(self._encode, texts, kind)
        return Vectors(checked(matrix, inputs=len(texts), dims=dims, name=self.name, unit=True))

    def count(self, texts: Sequence[str]) -> list[int]:
        """By the model's own tokenizer, piece by piece: its memory grows with what it is given."""
        tokenizer = self._loaded().tokenizer
        ends = tokenizer.num_special_tokens_to_add()
        return [
            ends
            + sum(
                len(tokenizer.encode(text[at : at + PIECE], add_special_tokens=False, truncation=False))
                for at in range(0, len(text), PIECE)
            )
            for text in texts
        ]

    async def close(self) -> None:
        """The weights stay: the next provider of this name shares them."""

    def _loaded(self) -> Any:
        with _loading:
            return loaded(self._model, self._dims)

    def _encode(self, texts: list[str], kind: Kind) -> Any:
        model = self._loaded()
        encode = model.encode_query if kind == "query" else model.encode_document
        # An empty prompt is not the same as none: none would be filled in from the model's own.
        made = encode(texts, prompt="", normalize_embeddings=True, show_progress_bar=False)
        return np.asarray(made, np.float32)


def connect(model: str, options: Options) -> SentenceTransformers:
    """A model by its name or folder; it is loaded when somebody asks.

    Raises:
        MissingExtra: the library is not installed.
    """
    if find_spec(LIBRARY) is None:
        raise MissingExtra(f"{LIBRARY}:{model}", LIBRARY)
    return SentenceTransformers(model, options)


@cache
def loaded(name: str, dims: int | None) -> Any:
    """Once per process.

    Raises:
        BadInput: there is no such model on this machine.
        MissingExtra: a part of the library is missing.
    """
    try:
        library = importlib.import_module(LIBRARY)
    except ImportError as error:
        raise MissingExtra(f"{LIBRARY}:{name}", LIBRARY) from error
    try:
        return library.SentenceTransformer(name, truncate_dim=dims, local_files_only=True)
    except (OSError, ValueError) as error:
        raise BadInput(
            f"{LIBRARY}:{name} cannot be loaded from this machine ({type(error).__name__}): "
            f"download it once with the library itself, or name the folder that holds it"
        ) from error


def prompt(model: Any, kind: Kind) -> str:
    """The words that the model's card puts before such a text."""
    prompts: Mapping[str, str] = model.prompts or {}
    return next((prompts[name] for name in PROMPTS[kind] if prompts.get(name)), "")


def revision(model: Any) -> str:
    """The commit that the weights came from; a folder of one's own has none."""
    data = getattr(model, "model_card_data", None)
    return str(getattr(data, "base_model_revision", None) or "")
