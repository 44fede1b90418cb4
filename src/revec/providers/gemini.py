"""Gemini: one Content per input, because several in one become one vector.

`gemini-embedding-001` is told the task by a parameter; `gemini-embedding-2` by words before the text,
which are the space's prefix and not ours to add, and it reads images.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from revec.providers._answers import count_in, matrix_of
from revec.providers._gemini_batches import GeminiBatches
from revec.providers._hosted import Hosted
from revec.providers._http import House
from revec.providers.base import Ask, Batches, Input, Kind, Matrix, TextInput


class Gemini(Hosted):
    house = House(
        "gemini",
        "https://generativelanguage.googleapis.com/v1beta",
        "GEMINI_API_KEY",
        "https://host/v1beta",
    )
    unknown: ClassVar[Mapping[Kind, Ask]] = {
        "document": Ask(task="RETRIEVAL_DOCUMENT"),
        "query": Ask(task="RETRIEVAL_QUERY"),
    }

    def _headers(self, key: str) -> dict[str, str]:
        return {"x-goog-api-key": key}

    def batches(self) -> Batches:
        return GeminiBatches(self)

    def document(self, text: str) -> dict[str, object]:
        return self._request(TextInput(text), self._ask_of("document").task)

    def _path(self) -> str:
        return f"/models/{self._model}:batchEmbedContents"

    def _payload(self, inputs: Sequence[Input], task: str, _: Mapping[str, object]) -> dict[str, object]:
        return {"requests": [self._request(given, task) for given in inputs]}

    def _request(self, given: Input, task: str) -> dict[str, object]:
        request: dict[str, object] = {"model": f"models/{self._model}", "content": {"parts": [part(given)]}}
        if task:
            request["taskType"] = task
        if self._asked_dims:
            request["outputDimensionality"] = self._asked_dims
        return request

    def _matrix(self, said: dict[str, Any], inputs: int) -> Matrix | None:
        data = said.get("embeddings")
        if not isinstance(data, list):
            return None
        return matrix_of(
            enumerate(item.get("values") if isinstance(item, dict) else None for item in data), inputs
        )

    def _tokens(self, said: dict[str, Any]) -> int | None:
        said_of_all = count_in(said, "usageMetadata", "promptTokenCount")
        return count_in(said, "tokenCount") if said_of_all is None else said_of_all  # of a text in a batch


def part(given: Input) -> dict[str, object]:
    if isinstance(given, TextInput):
        return {"text": given.text}
    return {"inlineData": {"mimeType": given.mime, "data": base64.b64encode(given.data).decode()}}


connect = Gemini
