"""Voyage: one more `input_type` than OpenAI's wire, and families whose models share a space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from revec.providers._answers import by_index, count_in, matrix_of
from revec.providers._hosted import Hosted, bearer, texts_of
from revec.providers._http import House
from revec.providers.base import Ask, Input, Kind, Matrix


class Voyage(Hosted):
    house = House("voyage", "https://api.voyageai.com/v1", "VOYAGE_API_KEY", "https://host/v1")
    unknown: ClassVar[Mapping[Kind, Ask]] = {
        "document": Ask(task="document"),
        "query": Ask(task="query"),
    }

    def _may_leave_out(self) -> dict[str, object]:
        wanted = {"output_dimension": self._asked_dims} if self._asked_dims else {}
        return {"encoding_format": "base64", **wanted}

    def _headers(self, key: str) -> dict[str, str]:
        return bearer(key)

    def _path(self) -> str:
        return "/embeddings"

    def _payload(self, inputs: Sequence[Input], task: str, more: Mapping[str, object]) -> dict[str, object]:
        return {"model": self._model, "input": texts_of(inputs), "input_type": task, **more}

    def _matrix(self, said: dict[str, Any], inputs: int) -> Matrix | None:
        data = said.get("data")
        return matrix_of(by_index(data), inputs) if isinstance(data, list) else None

    def _tokens(self, said: dict[str, Any]) -> int | None:
        return count_in(said, "usage", "total_tokens")


connect = Voyage
