"""How often a threshold is right, against pairs that people judged: precision and recall with their intervals."""

from __future__ import annotations

import pytest

from revec.app import App
from revec.model.errors import BadInput
from revec.model.index import Collection
from revec.search import duplicates
from revec.search.duplicates import Figures, Judged, Share
from revec.search.similar import ByKey
from tests import steps
from tests.loopback import Loopback


async def twins(app: App, tenant: str = "default") -> Collection:
    """Ten documents, each with a copy; what is alike by chance is less than 0.99 so."""
    made = await steps.collection(app)
    drafts = steps.drafts(10, tenant=tenant)
    copies = [steps.Draft(f"{d.key} again", d.title, d.body, tenant) for d in drafts]
    await steps.put(app, made, [*drafts, *copies])
    await steps.drain(app)
    return made


async def figures(app: App, pairs: list[Judged], threshold: float, tenant: str | None = "default") -> Figures:
    index = await app.serving("c")
    return await duplicates.figures(app.database, app.store, index, pairs, threshold=threshold, tenant=tenant)


COPIES = [Judged(str(n), f"{n} again", same=True) for n in range(10)]
OTHERS = [Judged(str(n), str(n + 1), same=False) for n in range(9)]


async def test_precision_and_recall_at_the_threshold(app: App, loopback: Loopback) -> None:
    """Of what reaches it, what is the same; of what is the same, what reaches it."""
    await twins(app)
    missed = Judged("0", "5", same=True)
    wrong = Judged("3", "3 again", same=False)
    found = await figures(app, [*COPIES, *OTHERS, missed, wrong], 0.99)
    assert found.precision == Share(10, 11)
    assert found.recall == Share(10, 11)
    assert found.without_score == 0
    everything = await figures(app, [*COPIES, *OTHERS], -1)
    assert (everything.precision, everything.recall) == (Share(10, 19), Share(10, 10))


async def test_a_pair_reaches_it_where_similar_shows_it(app: App, loopback: Loopback) -> None:
    """At the very score that `similar` prints, and no more just above it."""
    await twins(app)
    reading = await app.retriever.similar("c", ByKey("0"), k=100, tenant="default")
    for hit in reading.hits:
        pair = [Judged("0", hit.id, same=True)]
        assert (await figures(app, pair, hit.score)).recall == Share(1, 1)
        assert (await figures(app, pair, hit.score + 2e-6)).recall == Share(0, 1)


async def test_pairs_that_have_no_score_are_counted_apart(app: App, loopback: Loopback) -> None:
    """A document that is not there, is another tenant's, or has no vectors yet: neither right nor wrong."""
    made = await twins(app)
    await steps.put(
        app, made, [steps.Draft("new", "not", "embedded"), steps.Draft("theirs", "x", "y", "acme")]
    )
    pairs = [Judged("0", other, same=True) for other in ("nobody", "new", "theirs")]
    found = await figures(app, [*COPIES, *pairs], 0.99)
    assert (found.precision, found.recall, found.without_score) == (Share(10, 10), Share(10, 10), 3)


async def test_pairs_are_of_one_tenant_unless_an_operator_asks(app: App, loopback: Loopback) -> None:
    """Another one's documents are not there."""
    await twins(app, tenant="acme")
    assert (await figures(app, COPIES, 0.99)).without_score == 10
    assert (await figures(app, COPIES, 0.99, "acme")).recall == Share(10, 10)
    assert (await figures(app, COPIES, 0.99, None)).recall == Share(10, 10)


def test_a_share_says_how_sure_it_is() -> None:
    """With the exact interval; of nothing, nothing is known."""
    assert str(Share(38, 40)) == "0.950 [0.831, 0.994] (38 of 40)"
    assert Share(38, 40).facts == {"value": 0.95, "hits": 38, "of": 40, "interval": [0.8308, 0.9939]}
    assert str(Share(0, 0)) == "unknown, there is none"
    assert Share(0, 0).facts == {"value": None, "hits": 0, "of": 0, "interval": [0.0, 1.0]}


async def test_a_key_of_two_sources_is_asked_about(app: App, loopback: Loopback) -> None:
    from revec.postgres import collections, documents

    made = await twins(app)
    async with app.database.transaction() as conn:
        source = await collections.add_source(conn, made, "other")
        await documents.lock_source(conn, source)
        await documents.put(conn, source, steps.drafts(1))
    with pytest.raises(BadInput, match="several documents have the key '0'"):
        await figures(app, COPIES, 0.9)
