"""What models.toml says of hosted models."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from importlib import resources

from revec.model.errors import BadInput
from revec.providers.base import Ask


@dataclass(frozen=True, slots=True)
class Facts:
    """One model; the fields are explained in models.toml."""

    dims: int
    max_tokens: int
    max_inputs: int
    shorter: bool | tuple[int, ...] = False
    normalised: bool = True
    shorter_normalised: bool = True
    max_request_tokens: int | None = None
    max_request_bytes: int | None = None
    images: bool = False
    document: Ask = field(default_factory=Ask)
    query: Ask = field(default_factory=Ask)
    family: str = ""
    tokenizer: str = ""
    overhead: int = 0
    shutdown: date | None = None

    def unit(self, dims: int) -> bool:
        """Whether the model itself makes vectors of norm 1 at these dims."""
        return self.normalised if dims == self.dims else self.shorter_normalised


@cache
def known_models(engine: str) -> Mapping[str, Facts]:
    text = resources.files("revec.providers").joinpath("models.toml").read_text("utf-8")
    return {model: _facts(**facts) for model, facts in tomllib.loads(text).get(engine, {}).items()}


def _facts(
    *,
    document: Mapping[str, str] | None = None,
    query: Mapping[str, str] | None = None,
    shorter: bool | list[int] = False,
    **plain: object,
) -> Facts:
    return Facts(
        document=Ask(**(document or {})),
        query=Ask(**(query or {})),
        shorter=tuple(shorter) if isinstance(shorter, list) else shorter,
        **plain,  # type: ignore[arg-type]  # names and types are the file's, which a test reads whole
    )


def checked_dims(address: str, facts: Facts | None, dims: int | None) -> None:
    """
    Raises:
        BadInput: the known model cannot have so many.
    """
    if facts is None or dims is None or dims == facts.dims:
        return
    if not facts.shorter:
        raise BadInput(f"{address} has {facts.dims} dims, always: leave dims out")
    if isinstance(facts.shorter, tuple) and dims not in facts.shorter:
        choice = ", ".join(map(str, sorted({*facts.shorter, facts.dims})))
        raise BadInput(f"{address} has no {dims} dims: ask for one of {choice}, or leave dims out")
    if facts.shorter is True and dims > facts.dims:
        raise BadInput(f"{address} has {facts.dims} dims, not {dims}: ask for fewer, or leave dims out")
