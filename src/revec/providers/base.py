"""The port of every embedding model: one input is one vector.

An engine is one file with `connect(model, options) -> Provider`; its name is its address
("openai:text-embedding-3-small" is `revec.providers.openai`). Nothing else is edited to add one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import IO, TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from revec.model.errors import AnswerInvalid, InputRefused, ProviderError

Kind = Literal["document", "query"]
if TYPE_CHECKING:  # numpy comes with the models' extras: a door that only steers does not have it
    import numpy as np
    from numpy.typing import NDArray

    Matrix = NDArray[np.float32]
else:
    Matrix = Any

AXES = 2  # inputs, dims
LARGEST = 65_504.0  # float16
UNIT_NORM_TOLERANCE = 0.01  # float16 of a unit vector keeps its norm within this


@dataclass(frozen=True, slots=True)
class TextInput:
    text: str


@dataclass(frozen=True, slots=True)
class ImageInput:
    data: bytes
    mime: str


Input = TextInput | ImageInput


@dataclass(frozen=True, slots=True)
class Vectors:
    """One answer: `matrix` is float32, shape (inputs, dims), row i belongs to input i."""

    matrix: Matrix
    tokens: int | None = None  # as the provider counted them; None where it does not say
    headers: Mapping[str, str] = field(default_factory=dict)  # of the successful answer, in lower case


@dataclass(frozen=True, slots=True)
class Ask:
    """What a model wants to be told of a text: whether it is a document or a query."""

    prefix: str = ""  # words before the text, put there by whoever renders it
    task: str = ""  # in the provider's own words, sent by the engine


@dataclass(frozen=True, slots=True)
class Traits:
    """What an engine knows of its model."""

    dims: int
    revision: str  # weights digest or dated version; "" where the provider names none
    normalised: bool  # every vector has norm 1
    max_tokens: int | None  # per input; longer texts are cut by the model or refused
    max_inputs: int | None = None  # per call
    max_request_tokens: int | None = None  # per call, over all inputs
    max_request_bytes: int | None = None  # per call, as it is sent
    document: Ask = field(default_factory=Ask)
    query: Ask = field(default_factory=Ask)
    family: str = ""  # models of one family, at the same dims, share a space
    shutdown: date | None = None  # announced
    exact: bool = False  # `count` says how many tokens a text is, not how many at most


@dataclass(frozen=True, slots=True)
class Options:
    """What a door hands to an engine; engines read no environment."""

    dims: int | None = None  # ask for this many (or declare them); None: the model's own
    base_url: str | None = None
    api_key: str | None = field(default=None, repr=False)
    timeout: float = 60.0  # seconds for one call, connecting included
    threads: int = 1  # for models in this process


class Provider(Protocol):
    """Holds one model. Raises ProviderUnavailable, InputRefused, AnswerInvalid and nothing else.

    An engine never retries: the caller knows what waiting costs.
    """

    @property
    def name(self) -> str:
        """The address, e.g. `local:minilm-384`."""

    async def traits(self) -> Traits:
        """Dims and limits; learned by one probe and remembered where nobody declared them."""

    async def embed(self, inputs: Sequence[Input], kind: Kind = "document") -> Vectors:
        """Embed; a vector per input, in their order."""

    def count(self, texts: Sequence[str]) -> list[int]:
        """How many tokens each text is: exactly where the tokenizer is known, else no fewer than it is.

        On the hot path, and not async: a text costs at most about 10 ms, because one far beyond what
        the model takes is only bounded. Many large ones belong into a thread.
        """

    async def close(self) -> None: ...


class Fate(StrEnum):
    """Where a batch is at its provider."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"  # as a whole, before any text was worked on
    EXPIRED = "expired"  # its time ran out: some texts may have been answered
    CANCELLED = "cancelled"  # the same


@dataclass(frozen=True, slots=True)
class Progress:
    """What a provider says of a batch."""

    fate: Fate
    answered: int = 0  # texts, by the provider's count
    why: ProviderError | None = None  # it failed
    outputs: Sequence[str] = ()  # the provider's names of what there is to collect


@dataclass(frozen=True, slots=True)
class Item:
    """What became of one text of a batch."""

    name: str  # as it was handed in
    vector: Matrix | None = None  # float32, shape (dims,)
    tokens: int = 0  # billed
    refused: InputRefused | None = None  # neither this nor a vector: it was not worked on


class Batches(Protocol):
    """A provider's second way in: many texts at once, for half the price, answered within a day.

    Errors are those of a Provider. A batch carries our mark, so that one whose id was lost is found.
    """

    max_inputs: int
    max_tokens: int  # of all texts
    max_bytes: int  # of all lines

    async def ready(self) -> None:
        """
        Raises:
            ProviderError: nobody here takes batches.
        """

    def line(self, name: str, text: str) -> bytes:
        """One text as it is sent, with its end of line. `name`: at most 64 characters."""

    async def upload(self, mark: str, lines: IO[bytes]) -> str:
        """Bring the lines there; nothing begins and nothing costs. The name of the file."""

    async def submit(self, mark: str, file: str) -> str:
        """Begin; the id of the batch."""

    async def find(self, mark: str, since: datetime) -> str | None:
        """The id of the batch with this mark, submitted after `since`."""

    async def look(self, batch_id: str) -> Progress: ...

    def collect(self, progress: Progress) -> AsyncIterator[Item]:
        """Each text that was worked on, in any order, read a line at a time.

        Raises:
            AnswerInvalid: something that is not an answer to what was asked.
        """

    async def cancel(self, batch_id: str) -> None: ...

    async def discard(self, files: Sequence[str]) -> None:
        """No text of ours stays longer than it has to."""


@runtime_checkable
class TakesBatches(Protocol):
    """A Provider that may have Batches."""

    def batches(self) -> Batches: ...


def texts_only(inputs: Sequence[Input], *, name: str) -> list[str]:
    """The texts of the inputs, for a model that knows nothing else.

    Raises:
        InputRefused: one is an image, or no valid Unicode; which one, and what to do.
    """
    for at, given in enumerate(inputs, start=1):
        if isinstance(given, ImageInput):
            raise InputRefused(
                f"input {at} of {len(inputs)} is an image ({given.mime}) and {name} reads text only: "
                f"choose a model for images, or leave images out of the documents"
            )
    return valid_inputs(inputs)


def valid_inputs(inputs: Sequence[Input]) -> list[str]:
    """The texts among them.

    Raises:
        InputRefused: one is no valid Unicode; which one, and what to do.
    """
    texts = []
    for at, given in enumerate(inputs, start=1):
        if isinstance(given, ImageInput):
            continue
        try:
            given.text.encode()
        except UnicodeEncodeError:
            raise InputRefused(
                f"input {at} of {len(inputs)} holds half a surrogate pair, which is not valid Unicode: "
                f"repair the text where it comes from and write it again"
            ) from None  # the cause would carry the whole text
        texts.append(given.text)
    return texts


def checked(matrix: Matrix, *, inputs: int, dims: int, name: str, unit: bool) -> Matrix:
    """The matrix, if it is one finite, non-zero vector of `dims` per input.

    Args:
        matrix: float32, shape (inputs, dims).
        unit: whether the model promises norm 1.

    Raises:
        AnswerInvalid: what is wrong with it and what to do.
    """
    import numpy as np

    advice = "nothing was written; check the model behind this name, then `revec resume`"
    if matrix.ndim != AXES or matrix.shape[0] != inputs:
        raise AnswerInvalid(f"{name} answered {inputs} inputs with {matrix.shape[0]} vectors: {advice}")
    if inputs and matrix.shape[1] != dims:
        raise AnswerInvalid(
            f"{name} answered with {matrix.shape[1]} dims where {dims} were expected: {advice}"
        )
    if not np.isfinite(matrix).all():
        raise AnswerInvalid(f"{name} answered with NaN or infinity: {advice}")
    if inputs and float(np.abs(matrix).max()) > LARGEST:
        raise AnswerInvalid(f"{name} answered with a number too large to be stored: {advice}")
    norms = np.linalg.norm(matrix, axis=1)
    if inputs and float(norms.min()) == 0.0:
        raise AnswerInvalid(f"{name} answered with a zero vector: {advice}")
    if unit and inputs and float(np.abs(norms - 1.0).max()) > UNIT_NORM_TOLERANCE:
        worst = float(norms[np.abs(norms - 1.0).argmax()])
        raise AnswerInvalid(f"{name} answered with a vector of norm {worst:.3f}, promised was 1: {advice}")
    return matrix
