"""A module in the place of `sentence_transformers`: as much of it as the engine touches."""

from __future__ import annotations

import importlib.machinery
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import pytest

from revec.providers import sentence_transformers as engine
from tests.loopback import vectors

DIMS = 32


class Tokenizer:
    def num_special_tokens_to_add(self) -> int:
        return 2

    def encode(self, text: str, **how: bool) -> list[int]:
        assert how == {"add_special_tokens": False, "truncation": False}
        return list(text.encode())


class SentenceTransformer:
    """Remembers how it was asked."""

    max_seq_length = 128
    prompts: ClassVar = {"query": "query: ", "passage": "passage: "}
    tokenizer = Tokenizer()

    def __init__(self, name: str, *, truncate_dim: int | None, local_files_only: bool) -> None:
        assert local_files_only, "no text may wait for a download"
        if name == "missing":
            raise OSError(name)
        self.dims = truncate_dim or DIMS
        self.asked: list[tuple[str, str | None]] = []

    def get_sentence_embedding_dimension(self) -> int:
        return self.dims

    def encode_query(self, texts: Sequence[str], **how: Any) -> Any:
        return self._made("query", texts, **how)

    def encode_document(self, texts: Sequence[str], **how: Any) -> Any:
        return self._made("document", texts, **how)

    def _made(
        self,
        kind: str,
        texts: Sequence[str],
        *,
        normalize_embeddings: bool,
        show_progress_bar: bool,
        prompt: str | None = None,
    ) -> Any:
        assert (normalize_embeddings, show_progress_bar) == (True, False)
        self.asked.append((kind, prompt))
        return vectors(texts, "stand-in-32", self.dims).astype(np.float32)


@contextmanager
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    module = ModuleType(engine.LIBRARY)
    module.__spec__ = importlib.machinery.ModuleSpec(engine.LIBRARY, None)
    module.SentenceTransformer = SentenceTransformer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, engine.LIBRARY, module)
    engine.loaded.cache_clear()
    yield
    engine.loaded.cache_clear()
