"""Any server that speaks the OpenAI wire: OpenAI, Azure, vLLM, TEI, Ollama, a gateway.

Base64 goes straight into numpy: this is the hot path. Servers that know neither base64 nor
`dimensions` are asked without them once they have said so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from revec.providers._answers import by_index, count_in, matrix_of
from revec.providers._hosted import Hosted, bearer, texts_of
from revec.providers._http import House
from revec.providers._openai_batches import OpenAIBatches
from revec.providers.base import Batches, Input, Matrix


class OpenAI(Hosted):
    house = House("openai", "https://api.openai.com/v1", "OPENAI_API_KEY", "https://host/v1")

    def batches(self) -> Batches:
        return OpenAIBatches(self)

    def _may_leave_out(self) -> dict[str, object]:
        wanted = {"dimensions": self._asked_dims} if self._asked_dims else {}
        return {"encoding_format": "base64", **wanted}

    def _headers(self, key: str) -> dict[str, str]:
        return bearer(key)

    def _path(self) -> str:
        return "/embeddings"

    def _payload(self, inputs: Sequence[Input], _: str, more: Mapping[str, object]) -> dict[str, object]:
        return {"model": self._model, "input": texts_of(inputs), **more}

    def _matrix(self, said: dict[str, Any], inputs: int) -> Matrix | None:
        data = said.get("data")
        return matrix_of(by_index(data), inputs) if isinstance(data, list) else None

    def _tokens(self, said: dict[str, Any]) -> int | None:
        return count_in(said, "usage", "prompt_tokens")


connect = OpenAI
