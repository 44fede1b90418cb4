"""Retrievers in other people's frameworks: their documents are ours, whole, in step and awaited."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_tests.integration_tests import RetrieversIntegrationTests
from llama_index.core.schema import QueryBundle

import revec
from revec import errors, langchain, llama_index
from revec.app import App
from revec.client.twin import SyncClient
from tests.client.ways import TEXTS, environment, notes, served
from tests.conftest import settings_for
from tests.loopback import Loopback
from tests.web import door

ASKED = "the wing of an aircraft"
WING = {"title": "Wing", "tenant": "default", "source": "push", "lang": "en", "year": 2024}
PATIENCE = 60.0


@pytest.fixture
def url(dsn: str, loopback: Loopback) -> Iterator[tuple[str, str]]:
    """`revec serve` with the notes, in a thread with a loop of its own: address and key."""
    ready, found = threading.Event(), []
    leaving: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def serve() -> None:
        async with App(settings_for(dsn, loopback.url)) as app:
            await notes(app)
            async with served(app) as address:
                leaving.append((asyncio.get_running_loop(), asyncio.Event()))
                found.extend([address, await door.made_key(app, tenant="default")])
                ready.set()
                await leaving[0][1].wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(PATIENCE)
        yield found[0], found[1]
    finally:
        loop, event = leaving[0]
        loop.call_soon_threadsafe(event.set)
        thread.join(PATIENCE)


class TestRetriever(RetrieversIntegrationTests):
    """What LangChain expects of every retriever."""

    @pytest.fixture(autouse=True)
    def _client(self, url: tuple[str, str]) -> Iterator[None]:
        with revec.connect(url[0], key=url[1]).sync() as client:
            self.client: SyncClient = client
            yield

    @property
    def retriever_constructor(self) -> type[langchain.RevecRetriever]:
        return langchain.RevecRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {"client": self.client, "collection": "notes"}

    @property
    def retriever_query_example(self) -> str:
        return ASKED


async def test_a_document_of_langchain(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """Id, text, title, tenant, source, score and its own metadata; by `invoke` and by `ainvoke` the same."""
    await notes(app)
    environment(app, monkeypatch)
    async with revec.connect() as client:
        with revec.connect().sync() as in_step:
            retriever = langchain.RevecRetriever(client=in_step, collection="notes", k=1)
            (found,) = retriever.invoke(ASKED)
            assert [found] == await retriever.ainvoke(ASKED)
            score = found.metadata.pop("score")
            assert 0 < score < 1
            assert found == Document(id="2", page_content=TEXTS["2"][1], metadata=WING)
            others = langchain.RevecRetriever(client=client, collection="notes", filter={"lang": "de"})
            assert [each.id for each in await others.ainvoke(ASKED)] == ["3"]


async def test_one_call_of_langchain_may_ask_otherwise(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever way it is called, nothing of it is dropped: neither the tenant nor a word that is wrong."""
    await notes(app)
    environment(app, monkeypatch)
    with revec.connect().sync() as client:
        retriever = langchain.RevecRetriever(client=client, collection="notes", tenant="default")
        for more, expected in (
            ({"tenant": "acme", "k": 1}, ["acme-2"]),
            ({"filter": {"lang": "de"}}, ["3"]),
            ({"mode": "lexical", "k": 1}, ["2"]),
        ):
            assert [each.id for each in retriever.invoke(ASKED, **more)] == expected
            assert [each.id for each in await retriever.ainvoke(ASKED, **more)] == expected
        with pytest.raises(TypeError, match="tenent"):
            retriever.invoke(ASKED, tenent="acme")
        with pytest.raises(TypeError, match="tenent"):
            await retriever.ainvoke(ASKED, tenent="acme")


async def test_a_node_of_llama_index(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its text, id and score; by `retrieve` and by `aretrieve` the same."""
    await notes(app)
    environment(app, monkeypatch)
    async with revec.connect() as client:
        with revec.connect().sync() as in_step:
            retriever = llama_index.RevecRetriever(in_step, "notes", k=1, filter={"lang": "en"})
            (found,) = retriever.retrieve(ASKED)
            (awaited,) = await retriever.aretrieve(QueryBundle(ASKED))
        theirs = llama_index.RevecRetriever(client, "notes", k=1, tenant="acme")
        (other,) = await theirs.aretrieve(ASKED)
    assert (found.node_id, found.text, found.score) == ("2", TEXTS["2"][1], awaited.score)
    assert found.metadata == awaited.metadata == {**WING, "score": found.score}
    assert (other.node_id, other.metadata["tenant"]) == ("acme-2", "acme")


async def test_nobodys_metadata_takes_our_words(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """A document cannot say that it is another tenant's."""
    await notes(app)
    environment(app, monkeypatch)
    forged = {"id": "f", "text": "forged", "metadata": {"tenant": "acme", "score": 9, "mine": 1}}
    async with revec.connect() as client:
        await client.put("notes", [forged])
        retriever = langchain.RevecRetriever(client=client, collection="notes")
        found = {each.id: each.metadata for each in await retriever.ainvoke("")}
    assert (found["f"]["tenant"], found["f"]["score"], found["f"]["mine"]) == ("default", 0.0, 1)


async def test_an_async_client_is_not_waited_for(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sentence instead of a loop that stands still for ever."""
    environment(app, monkeypatch)
    async with revec.connect() as client:
        with pytest.raises(errors.Refused, match="sync"):
            langchain.RevecRetriever(client=client, collection="notes").invoke(ASKED)
        with pytest.raises(errors.Refused, match="sync"):
            llama_index.RevecRetriever(client, "notes").retrieve(ASKED)


@pytest.mark.parametrize("module", ["langchain", "llama_index"])
def test_a_framework_loads_without_a_warning_and_without_the_other(module: str) -> None:
    """Each is an extra of its own."""
    other = {"langchain": "llama_index", "llama_index": "langchain_core"}[module]
    program = f"import sys, revec.{module}; assert {other!r} not in sys.modules; assert 'fastapi' not in sys.modules"
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)


@pytest.mark.parametrize(
    ("module", "package", "extra"),
    [("langchain", "langchain_core", "langchain"), ("llama_index", "llama_index", "llama-index")],
)
def test_a_missing_framework_is_named(module: str, package: str, extra: str) -> None:
    """With the way to it."""
    program = f"""
import sys
sys.modules[{package!r}] = None
from revec.model.errors import MissingExtra
try:
    import revec.{module}
except MissingExtra as error:
    assert "revec[{extra}]" in str(error), error
else:
    raise AssertionError
"""
    subprocess.run([sys.executable, "-c", program], check=True)
