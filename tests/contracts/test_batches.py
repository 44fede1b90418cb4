"""What every provider's second way in promises: files, batches, and what becomes of each text."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from importlib import import_module

import numpy as np
import pytest
import pytest_asyncio

from revec.model.errors import AnswerInvalid, BadInput, InputRefused, ProviderUnavailable
from revec.providers import _batches
from revec.providers.base import Batches, Fate, Item, Options, Progress, Provider, TakesBatches
from revec.seams import provider, provider_names
from revec.work.gather import batches_of, require_batches
from tests.loopback import Loopback, vector

MODEL = "fake-64"
ENGINES = ["gemini", "openai"]
KEEPS = {"openai"}  # the answers of a batch that expired


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return request.param


def connected(engine: str, loopback: Loopback, model: str = MODEL, **options: int | str) -> Provider:
    base_url = loopback.url_for(engine)
    return provider(f"{engine}:{model}", Options(**{"base_url": base_url, "api_key": "k", **options}))  # type: ignore[arg-type]


@pytest_asyncio.fixture
async def there(engine: str, loopback: Loopback) -> AsyncIterator[Batches]:
    model = connected(engine, loopback)
    yield batches_of(model)
    await model.close()


async def sent(there: Batches, *texts: str, mark: str = "m") -> str:
    return await there.submit(mark, await there.upload(mark, file_of(there, *texts)))


def file_of(there: Batches, *texts: str) -> io.BytesIO:
    return io.BytesIO(b"".join(there.line(f"name of {text}", text) for text in texts))


async def told(there: Batches, batch_id: str) -> dict[str, Item]:
    return {item.name: item async for item in there.collect(await there.look(batch_id))}


def test_every_provider_that_takes_batches_is_asked() -> None:
    """By its engine's own word."""
    named = {name: import_module(f"revec.providers.{name}").connect for name in provider_names()}
    assert sorted(name for name, made in named.items() if hasattr(made, "batches")) == ENGINES


async def test_each_text_comes_back_by_its_name(there: Batches, loopback: Loopback) -> None:
    """Whatever the order; what is not told of was not worked on."""
    loopback.batch(kind="permuted")
    progress = await there.look(await sent(there, "one", "zwei", "trois é"))
    assert (progress.fate, progress.answered) == (Fate.DONE, 3)
    items = {item.name: item async for item in there.collect(progress)}
    for text in ("one", "zwei", "trois é"):
        made = items[f"name of {text}"]
        assert made.vector is not None
        assert np.abs(made.vector - vector(text, MODEL)).max() < 1e-6
        assert made.tokens == len(text) // 4 + 1


async def test_a_text_has_the_same_vector_in_a_batch(engine: str, loopback: Loopback) -> None:
    """Asked in the same words: fewer dims, the task, norm 1 where the model itself leaves it shorter."""
    real = {"gemini": "gemini-embedding-001", "openai": "text-embedding-3-small"}[engine]
    model = connected(engine, loopback, real, dims=768)
    there = batches_of(model)
    items = await told(there, await sent(there, "one", "two"))
    for text in ("one", "two"):
        batched = items[f"name of {text}"].vector
        assert batched is not None
        assert np.linalg.norm(batched) == pytest.approx(1, abs=1e-5)
        assert batched == pytest.approx(vector(text, real, 768), abs=1e-5)
    assert (b'"taskType":"RETRIEVAL_DOCUMENT"' in there.line("n", "t")) is (engine == "gemini")
    await model.close()


async def test_a_refused_text_is_refused_alone(there: Batches, loopback: Loopback) -> None:
    """In the same sentence as elsewhere; a text that the server failed at is not."""
    for kind, blamed in (("refuse", True), ("error", False)):
        loopback.batch(kind=kind, match="bad")
        items = await told(there, await sent(there, "good", "bad"))
        assert items["name of good"].vector is not None
        bad = items["name of bad"]
        assert bad.vector is None
        assert isinstance(bad.refused, InputRefused) is blamed
        assert "(400: the input is not to our taste)" in str(bad.refused) or not blamed


async def test_a_batch_may_run_expire_and_fail(there: Batches, loopback: Loopback, engine: str) -> None:
    """Each is told from the others, and no room from no good."""
    loopback.batch(at_once=False)
    running = await sent(there, "a")
    assert (await there.look(running)).fate is Fate.RUNNING
    await there.cancel(running)
    assert (await there.look(running)).fate is Fate.CANCELLED
    loopback.batch(at_once=True, kind="expire")
    expired = await there.look(await sent(there, "a", "b"))
    assert expired.fate is Fate.EXPIRED
    answered = [item.name async for item in there.collect(expired) if item.vector is not None]
    assert answered == (["name of a"] if engine in KEEPS else [])
    for kind, error in (("fail", InputRefused), ("full", ProviderUnavailable)):
        loopback.batch(kind=kind)
        failed = await there.look(await sent(there, "a"))
        assert failed.fate is Fate.FAILED
        assert isinstance(failed.why, error)
        assert "Not this one." in str(failed.why)


@pytest.mark.parametrize("kind", ["garbled", "nameless"])
async def test_an_answer_that_is_none_is_not_taken(there: Batches, loopback: Loopback, kind: str) -> None:
    """A vector that is no vector, or nobody's: passed over, it would be paid for again and again."""
    loopback.batch(kind=kind)
    with pytest.raises(AnswerInvalid, match="nothing was written"):
        await told(there, await sent(there, "one"))


async def test_a_batch_is_found_by_its_mark(there: Batches, loopback: Loopback) -> None:
    """Behind a hundred others, or before them; and what is not there is not found."""
    began = datetime.now(UTC)
    loopback.batch(at_once=False)
    first = await sent(there, "a", mark="first")
    file = await there.upload("x", file_of(there, "b"))
    for _ in range(101):
        await there.submit("other", file)
    last = await sent(there, "a", mark="last")
    assert await there.find("first", began) == first
    assert await there.find("last", began) == last
    assert await there.find("none", began) is None


async def test_no_text_stays(there: Batches, loopback: Loopback) -> None:
    """Files go when they are done with; one that is gone already is no trouble."""
    file = await there.upload("m", file_of(there, "a"))
    progress = await there.look(await there.submit("m", file))
    assert len(loopback.batches()["files"]) == 2
    await there.discard([file, *progress.outputs, file])
    assert loopback.batches()["files"] == []
    assert [item async for item in there.collect(Progress(Fate.DONE))] == []


async def test_a_file_arrives_whole(there: Batches, loopback: Loopback) -> None:
    """Whatever its size, and wherever whoever wrote it stood."""
    texts = [f"{'word ' * 200}{n}" for n in range(300)]
    lines = file_of(there, *texts)
    lines.seek(77)
    batch_id = await there.submit("m", await there.upload("m", lines))
    assert (await there.look(batch_id)).answered == 300


async def test_no_room_says_when_to_come_again(there: Batches, loopback: Loopback) -> None:
    """Of a batch that was taken and did not begin: it does not say itself."""
    loopback.batch(kind="full")
    why = (await there.look(await sent(there, "a"))).why
    assert isinstance(why, ProviderUnavailable)
    assert why.retry_after == _batches.FULL_PAUSE


@pytest.mark.parametrize("engine", ENGINES)
async def test_a_wrong_key_is_told_before_anything_is_written(engine: str) -> None:
    """Every page wants the key, and no sentence repeats it."""
    with Loopback(key="right") as server:
        right, wrong = (connected(engine, server, api_key=key) for key in ("right", "wr0ng"))
        await require_batches(right)
        with pytest.raises(BadInput, match="refused the API key") as caught:
            await require_batches(wrong)
        assert "wr0ng" not in str(caught.value)
        there = batches_of(right)
        assert len(await told(there, await sent(there, "a"))) == 1
        await right.close()
        await wrong.close()


async def test_a_server_without_batches_says_so(engine: str, loopback: Loopback) -> None:
    """Asked before anything is written, in a sentence with the way out."""
    model = connected(engine, loopback, base_url=loopback.url_for("voyage"))
    assert isinstance(model, TakesBatches)
    with pytest.raises(BadInput, match=f"{engine}:fake-64 takes no batches: leave --patient out"):
        await require_batches(model)
    await model.close()
