"""OpenAI's second way in: files, batches, and what becomes of each text."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import numpy as np
import pytest
import pytest_asyncio

from revec.model.errors import BadInput, InputRefused, ProviderUnavailable
from revec.providers import openai
from revec.providers.base import Batches, Fate, Options, Progress, TakesBatches
from revec.work.gather import require_batches
from tests.loopback import Loopback, vector

MODEL = "fake-64"


@pytest_asyncio.fixture
async def there(loopback: Loopback) -> AsyncIterator[Batches]:
    provider = openai.connect(MODEL, Options(base_url=loopback.url, api_key="k"))
    yield provider.batches()
    await provider.close()


async def sent(there: Batches, *texts: str, mark: str = "m") -> str:
    lines = io.BytesIO(b"".join(there.line(f"name of {text}", text) for text in texts))
    return await there.submit(mark, await there.upload(mark, lines))


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


async def test_a_refused_text_is_refused_alone(there: Batches, loopback: Loopback) -> None:
    """In the same sentence as elsewhere; a text that the server failed at is not."""
    for kind, blamed in (("refuse", True), ("error", False)):
        loopback.batch(kind=kind, match="bad")
        progress = await there.look(await sent(there, "good", "bad"))
        items = {item.name: item async for item in there.collect(progress)}
        assert items["name of good"].vector is not None
        bad = items["name of bad"]
        assert bad.vector is None
        assert isinstance(bad.refused, InputRefused) is blamed


async def test_a_batch_may_run_expire_and_fail(there: Batches, loopback: Loopback) -> None:
    """Each is told from the others, and no room from no good."""
    loopback.batch(at_once=False)
    running = await sent(there, "a")
    assert (await there.look(running)).fate is Fate.RUNNING
    await there.cancel(running)
    assert (await there.look(running)).fate is Fate.CANCELLED
    loopback.batch(at_once=True, kind="expire")
    expired = await there.look(await sent(there, "a", "b"))
    assert expired.fate is Fate.EXPIRED
    assert [item.vector is None async for item in there.collect(expired)] == [False, True]
    for kind, error in (("fail", InputRefused), ("full", ProviderUnavailable)):
        loopback.batch(kind=kind)
        failed = await there.look(await sent(there, "a"))
        assert failed.fate is Fate.FAILED
        assert isinstance(failed.why, error)


async def test_a_batch_is_found_by_its_mark(there: Batches, loopback: Loopback) -> None:
    """Also behind a hundred others; and what is not there is not found."""
    began = datetime.now(UTC)
    loopback.batch(at_once=False)
    first = await sent(there, "a", mark="first")
    file = await there.upload("x", io.BytesIO(there.line("n", "b")))
    for _ in range(101):
        await there.submit("other", file)
    assert await there.find("first", began) == first
    assert await there.find("second", began) is None


async def test_no_text_stays(there: Batches, loopback: Loopback) -> None:
    """Files go when they are done with; one that is gone already is no trouble."""
    await sent(there, "a")
    files = loopback.batches()["files"]
    assert len(files) == 2
    await there.discard([*files, "file-gone"])
    assert loopback.batches()["files"] == []
    assert [item async for item in there.collect(Progress(Fate.DONE))] == []


async def test_a_server_without_batches_says_so(loopback: Loopback) -> None:
    """Asked before anything is written, in a sentence with the way out."""
    provider = openai.connect(MODEL, Options(base_url=loopback.url_for("voyage"), api_key="k"))
    assert isinstance(provider, TakesBatches)
    with pytest.raises(BadInput, match="openai:fake-64 takes no batches: leave --patient out"):
        await require_batches(provider)
    await provider.close()
