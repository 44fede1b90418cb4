"""Vectors as a pure function of (text, model, dims): whoever stored one can be checked."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]

LATENT = 16  # dims that carry meaning; hash-random vectors of full rank make HNSW recall 0.10
NOISE = 0.1  # of the meaning: makes the other dims differ, decides no ranking
REAL = {  # names that engines know the facts of
    "text-embedding-3-small": 1536,
    "text-embedding-3-large": 3072,
    "text-embedding-ada-002": 1536,
    "gemini-embedding-001": 3072,
    "gemini-embedding-2": 3072,
    "embed-v4.0": 1536,
    "voyage-4-large": 1024,
    "voyage-4": 1024,
    "voyage-4-lite": 1024,
}


def dims_of(model: str) -> int:
    """`fake-b-64` has 64.

    Raises:
        ValueError: the model names no dims, and is no real one.
    """
    if model in REAL:
        return REAL[model]
    dims = int(model.rpartition("-")[2])
    if not 0 < dims <= 16_384:
        raise ValueError(model)
    return dims


def vector(text: str, model: str, dims: int | None = None) -> Matrix:
    return vectors([text], model, dims)[0]


def vectors(texts: Sequence[str], model: str, dims: int | None = None) -> Matrix:
    """Unit vectors, one row per text. Fewer dims are the first ones of the model's own."""
    digests = b"".join(hashlib.sha256(text.encode()).digest() for text in texts)
    return of_digests(digests, model, dims or dims_of(model))


def of_digests(digests: bytes, model: str, dims: int) -> Matrix:
    words = np.frombuffer(digests, "<u2").reshape(-1, LATENT)
    latent = words.astype(np.float32) / np.float32(32_768) - np.float32(1)
    made = latent @ projection(model, dims)
    made += np.float32(NOISE) * noise(digests, model, dims)
    made /= np.sqrt(np.einsum("ij,ij->i", made, made))[:, None]
    return made


@lru_cache(maxsize=64)
def projection(model: str, dims: int) -> Matrix:
    rows = np.random.Generator(np.random.PCG64(seed_of(model))).standard_normal((dims, LATENT))
    return np.ascontiguousarray(rows.T / LATENT**0.5, np.float32)


def seed_of(model: str) -> int:
    return int.from_bytes(hashlib.sha256(model.encode()).digest()[:4], "little")


def noise(digests: bytes, model: str, dims: int) -> Matrix:
    """Uniform in [-1, 1) from the text's hash and the coordinate, by integers only."""
    texts = np.frombuffer(digests, "<u4").reshape(-1, 8)[:, 7:]
    columns = np.arange(dims, dtype=np.uint32) * np.uint32(0x9E3779B9)
    mixed = texts ^ (columns + np.uint32(seed_of(model)))
    mixed ^= mixed >> np.uint32(16)
    mixed *= np.uint32(0x85EBCA6B)
    mixed ^= mixed >> np.uint32(13)
    mixed *= np.uint32(0xC2B2AE35)
    mixed ^= mixed >> np.uint32(16)
    return mixed.view(np.int32).astype(np.float32) / np.float32(2**31)
