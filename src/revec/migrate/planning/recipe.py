"""The space that a model makes of a collection's texts, and how queries reach it."""

from __future__ import annotations

from dataclasses import dataclass

from revec.model.chunking import BY_THE_MODEL, NONE, chunking
from revec.model.errors import BadInput
from revec.model.space import QueryRecipe, Space
from revec.providers.base import Provider, Traits


@dataclass(frozen=True, slots=True)
class Long:
    """What becomes of long texts: chunks by a recipe, or a cut at so many tokens."""

    chunk: str | None = None
    truncate: int | None = None

    @property
    def chunking(self) -> str:
        """As a space has it.

        Raises:
            BadInput: there is no such way to chunk.
        """
        return str(chunking(self.chunk or NONE) or NONE)

    @property
    def truncation(self) -> str:
        return f"at {self.truncate} tokens" if self.truncate else BY_THE_MODEL


AS_IT_IS = Long()


async def recipe(
    provider: Provider, query: Provider | None = None, long: Long = AS_IT_IS
) -> tuple[Space, QueryRecipe]:
    """The space that the model makes by default, and how queries reach it.

    Args:
        query: embeds the queries instead; a model of the same family, at the same dims.

    Raises:
        BadInput: `query` is of another space, or long texts cannot be dealt with in that way.
    """
    traits = await provider.traits()
    engine, _, model = provider.name.partition(":")
    space = Space(
        provider=engine,
        model=model,
        revision=traits.revision,
        dims=traits.dims,
        normalise=traits.normalised,
        prefix=traits.document.prefix,
        task=traits.document.task,
        family=traits.family,
        chunking=long.chunking,
        truncation=long.truncation,
    )
    _require_fit(space, traits, long)
    asker = query or provider
    asking = await asker.traits()
    together = asking.family and (asking.family, asking.dims) == (traits.family, traits.dims)
    if asker.name != provider.name and not together:
        raise BadInput(
            f"{asker.name} does not share the space of {provider.name}: "
            f"leave --query-model out, or name a model of the same family at {traits.dims} dims"
        )
    return space, QueryRecipe(asker.name, prefix=asking.query.prefix, task=asking.query.task)


def _require_fit(space: Space, traits: Traits, long: Long) -> None:
    most, made = traits.max_tokens, chunking(space.chunking)
    if made and long.truncate:
        raise BadInput("chunked texts are not cut as well: take either chunk or truncate")
    if most and (asked := made.tokens if made else long.truncate or 0) > most:
        raise BadInput(f"{space.address} takes {most:,} tokens at most, not {asked:,}: ask for fewer")
