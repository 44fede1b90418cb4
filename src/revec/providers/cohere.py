"""Cohere's v2 wire: texts and images, vectors in base64 or as lists, nothing but their order to go by."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from revec.providers._answers import count_in, matrix_of
from revec.providers._hosted import Hosted, bearer, texts_of
from revec.providers._http import House
from revec.providers.base import Ask, Input, Kind, Matrix, TextInput


class Cohere(Hosted):
    house = House("cohere", "https://api.cohere.com/v2", "COHERE_API_KEY", "https://host/v2")
    unknown: ClassVar[Mapping[Kind, Ask]] = {
        "document": Ask(task="search_document"),
        "query": Ask(task="search_query"),
    }

    def _may_leave_out(self) -> dict[str, object]:
        wanted = {"output_dimension": self._asked_dims} if self._asked_dims else {}
        return {"embedding_types": ["base64"], **wanted}

    def _headers(self, key: str) -> dict[str, str]:
        return bearer(key)

    def _path(self) -> str:
        return "/embed"

    def _payload(self, inputs: Sequence[Input], task: str, more: Mapping[str, object]) -> dict[str, object]:
        texts = texts_of(inputs)
        # The short form where it is enough: older models know no other.
        given: dict[str, object] = (
            {"texts": texts}
            if len(texts) == len(inputs)
            else {"inputs": [{"content": [content(given)]} for given in inputs]}
        )
        return {
            "model": self._model,
            "input_type": task,
            "truncate": "END",
            "embedding_types": ["float"],
            **given,
            **more,
        }

    def _matrix(self, said: dict[str, Any], inputs: int) -> Matrix | None:
        kinds = said.get("embeddings")
        if not isinstance(kinds, dict):
            return None
        data = kinds.get("base64") or kinds.get("float")
        return matrix_of(enumerate(data), inputs) if isinstance(data, list) else None

    def _tokens(self, said: dict[str, Any]) -> int | None:
        texts = count_in(said, "meta", "billed_units", "input_tokens")
        images = count_in(said, "meta", "billed_units", "image_tokens")
        return None if texts is None and images is None else (texts or 0) + (images or 0)


def content(given: Input) -> dict[str, object]:
    if isinstance(given, TextInput):
        return {"type": "text", "text": given.text}
    data = base64.b64encode(given.data).decode()
    return {"type": "image_url", "image_url": {"url": f"data:{given.mime};base64,{data}"}}


connect = Cohere
