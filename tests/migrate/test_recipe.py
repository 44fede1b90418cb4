"""What a model wants to be told of documents and queries is in the space and in the query recipe."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from revec.app import App
from revec.migrate.planning.recipe import recipe
from revec.migrate.sentinels import probe_old
from revec.model.errors import BadInput, ProviderUnavailable, Refused
from revec.model.space import QueryRecipe
from revec.postgres import migrations
from revec.providers.base import Ask, Options, Provider, Traits
from revec.seams import provider
from tests import steps
from tests.conftest import settings_for
from tests.loopback import Loopback


@pytest.fixture
async def models() -> AsyncIterator[dict[str, Provider]]:
    addresses = [
        "gemini:gemini-embedding-001",
        "gemini:gemini-embedding-2",
        "voyage:voyage-4-large",
        "voyage:voyage-4-lite",
        "voyage:voyage-3.5-lite",
    ]
    async with AsyncExitStack() as exits:
        made = {address: provider(address, Options(api_key="any")) for address in addresses}
        for model in made.values():
            exits.push_async_callback(model.close)
        yield made


async def test_a_task_is_the_spaces_for_documents_and_the_recipes_for_queries(
    models: dict[str, Provider],
) -> None:
    space, query = await recipe(models["gemini:gemini-embedding-001"])
    assert (space.task, space.prefix) == ("RETRIEVAL_DOCUMENT", "")
    assert query == QueryRecipe("gemini:gemini-embedding-001", task="RETRIEVAL_QUERY")


async def test_so_is_a_prefix(models: dict[str, Provider]) -> None:
    space, query = await recipe(models["gemini:gemini-embedding-2"])
    assert (space.task, space.prefix) == ("", "title: none | text: ")
    assert query.prefix == "task: search result | query: "


async def test_each_of_them_makes_another_space(models: dict[str, Provider]) -> None:
    model = models["voyage:voyage-4-large"]
    traits = await model.traits()
    changed = [
        traits,
        replace(traits, document=Ask(task="query")),
        replace(traits, document=Ask(prefix="document: ")),
        replace(traits, family=""),
        replace(traits, dims=512),
    ]
    spaces = [(await recipe(Told(model.name, each)))[0].id for each in changed]
    assert len(set(spaces)) == len(changed)
    asked_otherwise, query = await recipe(Told(model.name, replace(traits, query=Ask(prefix="q: "))))
    assert asked_otherwise.id == spaces[0]
    assert query.prefix == "q: "


class Told:
    """A provider of which nothing but its traits is asked."""

    def __init__(self, name: str, traits: Traits) -> None:
        self.name, self._traits = name, traits

    async def traits(self) -> Traits:
        return self._traits


async def test_another_of_the_family_may_embed_the_queries(models: dict[str, Provider]) -> None:
    large, lite = models["voyage:voyage-4-large"], models["voyage:voyage-4-lite"]
    space, query = await recipe(large, lite)
    assert (space.model, space.family) == ("voyage-4-large", "voyage-4")
    assert query == QueryRecipe("voyage:voyage-4-lite", task="query")


@pytest.mark.parametrize("other", ["voyage:voyage-3.5-lite", "gemini:gemini-embedding-2"])
async def test_a_stranger_may_not(models: dict[str, Provider], other: str) -> None:
    with pytest.raises(BadInput, match="does not share the space of voyage:voyage-4-large"):
        await recipe(models["voyage:voyage-4-large"], models[other])


async def test_nor_one_of_the_family_at_other_dims(models: dict[str, Provider]) -> None:
    short = provider("voyage:voyage-4-lite", Options(api_key="any", dims=256))
    with pytest.raises(BadInput, match="same family at 1024 dims"):
        await recipe(models["voyage:voyage-4-large"], short)
    await short.close()


async def test_models_of_no_family_share_nothing() -> None:
    async with AsyncExitStack() as exits:
        one, other = (
            provider(f"openai:text-embedding-{name}", Options(api_key="any"))
            for name in ("3-small", "ada-002")
        )
        exits.push_async_callback(one.close)
        exits.push_async_callback(other.close)
        with pytest.raises(BadInput, match="leave --query-model out"):
            await recipe(one, other)


async def test_a_query_is_embedded_by_the_recipes_model_and_task(dsn: str, loopback: Loopback) -> None:
    """From the document's task to the query's, through the database, over the wire."""
    url = loopback.url_for("voyage")
    async with App(settings_for(dsn, loopback.url, voyage_base_url=url, voyage_api_key="k")) as app:
        made = await steps.filled(app, 3)
        planned = await app.plan(made, "voyage:voyage-4-large", query="voyage:voyage-4-lite")
        await app.commands.start(planned)
        await steps.drain(app)
        seen = {(line["model"], line["task"]) for line in loopback.log() if line["wire"] == "voyage"}
        assert seen == {("voyage-4-large", "document")}
        (index,) = [each for each in await steps.written(app, made) if each.space.provider == "voyage"]
        loopback.clear()
        await app.retriever.embedded(index, "what is asked")
        (asked,) = loopback.log()
        assert (asked["model"], asked["task"]) == ("voyage-4-lite", "query")


async def test_another_query_model_alone_is_worth_a_migration(dsn: str, loopback: Loopback) -> None:
    """The same one is not."""
    url = loopback.url_for("voyage")
    async with App(settings_for(dsn, loopback.url, voyage_base_url=url, voyage_api_key="k")) as app:
        made = await steps.filled(app, 3, model="voyage:voyage-4-large")
        with pytest.raises(Refused, match="by the same recipe"):
            await app.plan(made, "voyage:voyage-4-large")
        planned = await app.plan(made, "voyage:voyage-4-large", query="voyage:voyage-4-lite")
        assert planned.query.address == "voyage:voyage-4-lite"


async def test_a_way_back_needs_both_models_of_the_family(dsn: str, loopback: Loopback) -> None:
    """The documents' one is still what it was, and the queries' one answers."""
    url = loopback.url_for("voyage")
    lite = "voyage:voyage-4-lite"
    async with App(settings_for(dsn, loopback.url, voyage_base_url=url, voyage_api_key="k")) as app:
        made = await steps.collection(app, model=None)
        await app.start(made, "voyage:voyage-4-large", query=lite)
        await steps.put(app, made, steps.drafts(3))
        await steps.drain(app)
        moving = await app.start(made, steps.NEW)
        await steps.drain(app)
        async with app.database.transaction() as conn:
            moving = await migrations.by_id(conn, moving.id)

        async def without_lite(address: str, dims: int | None = None) -> Provider:
            if address == lite:
                raise ProviderUnavailable(f"{lite} was switched off: choose another")
            return await app.provider(address, dims)

        assert await probe_old(app.database, app.provider, moving) is None
        gone = await probe_old(app.database, without_lite, moving)
        assert gone == f"{lite} was switched off: choose another"
