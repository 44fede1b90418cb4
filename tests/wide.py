"""A model of 4,096 dims that knows real texts, without a download: a random layer over WordLlama.

No model of so many dims fits into a package. This one is what such models end with, a wide layer: WordLlama's
256 dims through random weights, a bias and a tanh. Who is near whom is WordLlama's word; by the tanh all 4,096
dims are needed, not 256 of them turned; and by the bias most dims have a mean that is not zero, as trained
models' have, so that their signs tell less than a coin's toss would.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from revec.providers import local
from revec.providers.base import Input, Kind, Matrix, Options, Traits, Vectors

BASE = "wordllama-256"
ADDRESS = "wide:4096"
DIMS = 4_096
BIAS = 0.5  # standard deviation, of the layer's input being 1


class Wide:
    """A Provider; its calls are WordLlama's."""

    name = ADDRESS

    def __init__(self) -> None:
        self._base = local.connect(BASE, Options())
        chance = np.random.default_rng(4096)
        self._weights = chance.standard_normal((local.CARDS[BASE].dims, DIMS), np.float32)
        self._bias = np.float32(BIAS) * chance.standard_normal(DIMS, np.float32)

    async def traits(self) -> Traits:
        return replace(await self._base.traits(), dims=DIMS)

    async def embed(self, inputs: Sequence[Input], kind: Kind = "document") -> Vectors:
        narrow = await self._base.embed(inputs, kind)
        return Vectors(self.widened(narrow.matrix), narrow.tokens)

    def widened(self, matrix: Matrix) -> Matrix:
        """Shape (texts, 256) to unit vectors of shape (texts, 4096)."""
        return local.unit(np.tanh(matrix @ self._weights + self._bias))

    def count(self, texts: Sequence[str]) -> list[int]:
        return self._base.count(texts)

    async def close(self) -> None:
        await self._base.close()
