"""What every model behind an HTTP API does alike; an engine adds its wire."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from importlib.util import find_spec
from typing import Any, ClassVar

import httpx2
import numpy as np

from revec.model.errors import BadInput, MissingExtra
from revec.model.space import MAX_STORED_DIMS
from revec.providers import _tokens
from revec.providers._answers import Garbled
from revec.providers._facts import Facts, checked_dims, known_models
from revec.providers._http import House, Server, usable_key, usable_url
from revec.providers._refusals import Answer, unknown_parameter
from revec.providers.base import (
    Ask,
    Input,
    Kind,
    Matrix,
    Options,
    TextInput,
    Traits,
    Vectors,
    checked,
    texts_only,
    valid_inputs,
)

PROBE = "How many dimensions?"


class Hosted(ABC):
    """One model of one server. `connect` of an engine is its constructor; nothing is sent by it.

    Raises:
        BadInput: the key, base_url or dims cannot be right.
        MissingExtra: the model's tokenizer is not installed.
    """

    house: ClassVar[House]
    unknown: ClassVar[Mapping[Kind, Ask]] = {"document": Ask(), "query": Ask()}  # of models without facts

    def __init__(self, model: str, options: Options) -> None:
        self._model = model
        self._facts: Facts | None = known_models(self.house.engine).get(model)
        base_url = usable_url(options.base_url or self.house.home, self.house)
        key = usable_key(options.api_key, self.house)
        if key is None and base_url.host == httpx2.URL(self.house.home).host:
            raise BadInput(
                f"{self.name} needs an API key: "
                f"set {self.house.key_name}, or base_url to a server of your own"
            )
        if self._facts and self._facts.tokenizer and find_spec(_tokens.TOKENIZER) is None:
            raise MissingExtra(self.name, self.house.engine)
        checked_dims(self.name, self._facts, options.dims)
        self._asked_dims = options.dims
        self._dims = options.dims or (self._facts.dims if self._facts else None)
        self._probing = asyncio.Lock()
        # What a server may not know. Once it says so, it is asked without.
        self._optional = self._may_leave_out()
        self._server = Server(
            self.house,
            model,
            base_url=base_url,
            key=key,
            headers=self._headers(key) if key else {},
            timeout=options.timeout,
        )

    @property
    def name(self) -> str:
        return f"{self.house.engine}:{self._model}"

    async def traits(self) -> Traits:
        async with self._probing:
            dims = self._dims or (await self.embed([TextInput(PROBE)])).matrix.shape[1]
        facts = self._facts
        return Traits(
            dims=dims,
            revision="",
            normalised=facts is not None,  # by the model, or by us
            max_tokens=facts.max_tokens if facts else None,
            max_inputs=facts.max_inputs if facts else None,
            max_request_tokens=facts.max_request_tokens if facts else None,
            max_request_bytes=facts.max_request_bytes if facts else None,
            document=self._ask_of("document"),
            query=self._ask_of("query"),
            family=facts.family if facts else "",
            shutdown=facts.shutdown if facts else None,
            exact=bool(facts and facts.tokenizer),
        )

    async def embed(self, inputs: Sequence[Input], kind: Kind = "document") -> Vectors:
        if self._facts and self._facts.images:
            valid_inputs(inputs)
        else:
            texts_only(inputs, name=self.name)
        if not inputs:
            return Vectors(np.zeros((0, (await self.traits()).dims), np.float32), tokens=0)
        answer = await self._ask(inputs, kind)
        said = self._server.understood(answer, len(inputs))
        return self._vectors(said, answer, len(inputs))

    @property
    def model(self) -> str:
        return self._model

    @property
    def server(self) -> Server:
        return self._server

    def document(self, text: str) -> dict[str, object]:
        """A request for one document, as it would be sent now."""
        return self._payload([TextInput(text)], self._ask_of("document").task, self._optional)

    def vector(self, answer: Answer, said: dict[str, Any]) -> Vectors:
        """Of the good answer to one text, which is `said`.

        Raises:
            AnswerInvalid: it is none.
        """
        return self._vectors(said, answer, 1)

    def _vectors(self, said: dict[str, Any], answer: Answer, inputs: int) -> Vectors:
        try:
            matrix = self._matrix(said, inputs)
        except Garbled as error:
            raise self._server.garbled(inputs, error) from error
        if matrix is None:
            raise self._server.senseless(answer)
        return Vectors(self._checked(matrix, inputs), self._tokens(said), answer.headers)

    def count(self, texts: Sequence[str]) -> list[int]:
        facts = self._facts
        if facts is None:
            return [_tokens.bound(text.encode(errors="replace")) for text in texts]
        encoding, most, overhead = facts.tokenizer, facts.max_tokens, facts.overhead
        return [_tokens.count(text, encoding=encoding, max_tokens=most, overhead=overhead) for text in texts]

    async def close(self) -> None:
        await self._server.close()

    def _ask_of(self, kind: Kind) -> Ask:
        if self._facts is None:
            return self.unknown[kind]
        return self._facts.document if kind == "document" else self._facts.query

    async def _ask(self, inputs: Sequence[Input], kind: Kind) -> Answer:
        """The good answer; a parameter that the server does not know is left out from then on."""
        sent = dict(self._optional)
        numbers = len(inputs) * (self._dims or MAX_STORED_DIMS)
        while True:
            payload = self._payload(inputs, self._ask_of(kind).task, sent)
            answer = await self._server.post(self._path(), payload, numbers=numbers)
            if answer.status == HTTPStatus.OK:
                self._optional = {k: v for k, v in self._optional.items() if k in sent}
                return answer
            unknown = unknown_parameter(answer, sent)
            if unknown is None:
                raise self._server.refusal(answer)
            del sent[unknown]

    def _checked(self, matrix: Matrix, inputs: int) -> Matrix:
        dims, place, facts = self._dims or matrix.shape[1], self._server.place, self._facts
        unit = facts is not None and facts.unit(dims)
        matrix = checked(matrix, inputs=inputs, dims=dims, name=place, unit=unit)
        self._dims = dims
        if facts is not None and not unit:
            matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
        return matrix

    def _may_leave_out(self) -> dict[str, object]:
        return {}

    @abstractmethod
    def _headers(self, key: str) -> dict[str, str]: ...

    @abstractmethod
    def _path(self) -> str:
        """Below base_url."""

    @abstractmethod
    def _payload(self, inputs: Sequence[Input], task: str, more: Mapping[str, object]) -> dict[str, object]:
        """The request's JSON: `task` as the provider calls it, `more` as it is."""

    @abstractmethod
    def _matrix(self, said: dict[str, Any], inputs: int) -> Matrix | None:
        """Of a good answer; None where it holds no vectors at all.

        Raises:
            Garbled: what is wrong with them.
        """

    @abstractmethod
    def _tokens(self, said: dict[str, Any]) -> int | None: ...


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def texts_of(inputs: Sequence[Input]) -> list[str]:
    """Of inputs that were found to be texts."""
    return [given.text for given in inputs if isinstance(given, TextInput)]
