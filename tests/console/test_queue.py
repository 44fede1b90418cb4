"""The page of the work: what it shows, what a person does on it, and who may not."""

from __future__ import annotations

import re
import shlex
from html import unescape
from uuid import UUID

import httpx2

from revec.app import App
from revec.model.access import Role
from revec.model.index import Collection, Index
from revec.postgres import collections
from revec.work import queue
from tests import steps
from tests.console.test_doors import form_of, guest, log_in
from tests.loopback import Loopback
from tests.web import door
from tests.web.test_visible import SEES
from tests.work import hands
from tests.work.test_letters import assert_all_done, failed

HOSTILE = "<script>alert(1)</script>"
PAGE = "/console/queue"


async def group(app: App, index: Index) -> dict[str, str]:
    """What the form of its only cause says."""
    (row,) = await steps.rows(
        app, "SELECT DISTINCT pattern FROM revec.dead WHERE index_id = %(i)s", i=index.id
    )
    return {"like": row.pattern, "index": str(index.id)}


async def pressed(client: httpx2.AsyncClient, verb: str, **said: str) -> httpx2.Response:
    """A button of the page, and the page that follows."""
    form = form_of(await client.get(PAGE))
    answer = await client.post(f"{PAGE}/{verb}?collection=c", data={"csrf": form} | said)
    if answer.status_code != 303:
        return answer
    return await client.get(answer.headers["location"])


async def state(app: App) -> tuple[int, int, int]:
    """(letters that wait, documents left out, open work)."""
    (row,) = await steps.rows(
        app,
        "SELECT (SELECT count(*) FROM revec.dead WHERE retried_at IS NULL) AS dead,"
        " (SELECT count(*) FROM revec.excluded) AS out, (SELECT count(*) FROM revec.work) AS work",
    )
    return tuple(row)


async def hostile(app: App, loopback: Loopback) -> tuple[Collection, Index]:
    """Three letters; causes, keys and tenants are scripts."""
    made, index = await failed(app, loopback)
    await steps.rows(app, "UPDATE revec.dead SET cause = %(h)s || doc_id RETURNING 1", h=HOSTILE)
    await steps.rows(app, "UPDATE revec.document SET key = %(h)s || key RETURNING 1", h=HOSTILE)
    return made, index


async def test_a_failed_group_is_retried_and_taken_back(app: App, loopback: Loopback) -> None:
    made, index = await failed(app, loopback)
    async with guest(app) as client:
        page = await client.get(PAGE)
        assert "Failures by cause" in page.text
        assert "3 ×" in page.text
        assert "Retry group" in page.text
        page = await pressed(client, "retry", **await group(app, index))
        assert "3 documents are to be tried again" in page.text
        assert await state(app) == (0, 0, 3)
        (deed,) = set(re.findall(r'name="deed" value="(\d+)"', page.text))
        page = await pressed(client, "deeds/undo", deed=deed)
        assert "3 of 3 are dead letters again" in page.text
        assert await state(app) == (3, 0, 0)
        again = await pressed(client, "deeds/undo", deed=deed)
        assert again.status_code == 409
        assert "undone already" in again.text
    await assert_all_done(app, made, index)


async def test_a_discard_wants_a_reason_and_shows_it(app: App, loopback: Loopback) -> None:
    made, index = await failed(app, loopback)
    async with guest(app) as client:
        refused = await pressed(client, "discard", reason=" ", **await group(app, index))
        assert refused.status_code == 422
        assert "say why" in refused.text
        await pressed(client, "discard", reason="drafts", **await group(app, index))
        assert await state(app) == (0, 3, 0)
        page = await client.get(f"{PAGE}?state=excluded")
        assert "accepted: drafts" in page.text
        assert "drafts" in (await client.get(f"{PAGE}?state=settled")).text
    await assert_all_done(app, made, index)


async def test_who_may_not_act_sees_why_and_cannot(app: App, loopback: Loopback) -> None:
    """An operator looks; a viewer does not even see whose letters there are; nobody acts without our form."""
    made, index = await failed(app, loopback)
    async with guest(app, Role.OPERATOR, None) as client:
        page = await client.get(PAGE)
        assert page.status_code == 200
        assert "an admin&#39;s key may do this" in page.text
        for verb in ("retry", "discard", "deeds/undo"):
            refused = await pressed(client, verb, **await group(app, index), reason="x", deed="1")
            assert refused.status_code == 403, verb
    async with guest(app, Role.VIEWER, "acme") as client:
        assert (await client.get(PAGE)).status_code == 403
        assert (await client.get(f"{PAGE}/document?key=0")).status_code == 403
        assert (await client.get("/console/live/queue?once")).status_code == 403
    async with guest(app, Role.OPERATOR, "acme") as client:
        assert (await client.get(PAGE)).status_code == 403
    async with door.door(app) as client:
        await log_in(client, await door.made_key(app, Role.ADMIN, visible=SEES))
        assert (await client.get(PAGE)).status_code == 403
        assert (await client.get(f"{PAGE}/document?key=0")).status_code == 403
    async with guest(app) as client:
        forged = await client.post(
            f"{PAGE}/retry?collection=c", data={"csrf": "0" * 64, **await group(app, index)}
        )
        assert forged.status_code == 403
    assert await state(app) == (3, 0, 0)
    await assert_all_done(app, made, index)


async def test_another_collections_letters_are_not_touched(app: App, loopback: Loopback) -> None:
    """Whatever a form says of indexes and deeds."""
    made, index = await failed(app, loopback)
    await steps.collection(app, "d", model=None)
    said = {**await group(app, index), "reason": "x"}
    async with guest(app) as client:
        form = form_of(await client.get(PAGE))
        for verb in ("retry", "discard"):
            await client.post(f"{PAGE}/{verb}?collection=d", data={"csrf": form} | said)
        assert await state(app) == (3, 0, 0)
        page = await pressed(client, "retry", **said)
        (deed,) = set(re.findall(r'name="deed" value="(\d+)"', page.text))
        refused = await client.post(f"{PAGE}/deeds/undo?collection=d", data={"csrf": form, "deed": deed})
        assert refused.status_code == 404
        assert await state(app) == (0, 0, 3)
    await assert_all_done(app, made, index)


async def test_what_documents_and_causes_say_is_only_ever_text(app: App, loopback: Loopback) -> None:
    _, index = await hostile(app, loopback)
    async with guest(app) as client:
        said = await group(app, index)
        seen = [
            await client.get(PAGE),
            await client.get(PAGE, params={"like": said["like"], "index": said["index"]}),
            await client.get(f"{PAGE}/document", params={"key": f"{HOSTILE}1"}),
            await client.get("/console/live/queue?once"),
        ]
        for page in seen:
            assert page.status_code == 200
            assert HOSTILE not in page.text
            assert "<script>alert" not in page.text
        assert "&lt;script&gt;" in seen[1].text
        assert "&lt;script&gt;" in seen[2].text


async def test_each_state_has_its_list(app: App, loopback: Loopback) -> None:
    """Also while nothing is there; workers and limits are beside it."""
    made, index = await hands.indexed(app)
    async with guest(app) as client:
        for name in ("failed", "waiting", "working", "stuck", "excluded", "settled"):
            assert (await client.get(PAGE, params={"state": name})).status_code == 200
    await steps.put(app, made, steps.drafts(3))
    await hands.claim(app, index, size=1)
    async with app.database.transaction("worker") as conn:
        await queue.beat(conn, queue.Beat(UUID(int=7), "ship", 7, 1, 2.0, 300.0, 0.5, "search"))
    async with guest(app) as client:
        waiting = await client.get(PAGE, params={"state": "waiting"})
        assert waiting.text.count("<td>waiting</td>") == 2
        assert (await client.get(PAGE, params={"state": "working"})).text.count("<td>in hand</td>") == 1
        now = (await client.get("/console/live/queue?once&state=waiting")).text
        assert "ship 7" in now
        assert "50%" in now
        assert 'aria-current="page"' in now
        assert (await client.get(PAGE, params={"state": "nonsense"})).status_code == 422
    await hands.expire(app)
    await steps.drain(app)
    await hands.assert_oracle(app, made)


async def test_a_page_without_a_collection_shows_the_way(app: App) -> None:
    async with guest(app) as client:
        assert "No collection yet" in (await client.get(PAGE)).text


async def test_of_two_documents_with_one_key_only_the_one_looked_at_is_touched(
    app: App, loopback: Loopback
) -> None:
    made, index = await failed(app, loopback, 2)
    async with app.database.transaction() as conn:
        other = await collections.add_source(conn, made, "other")
    await steps.rows(
        app, "UPDATE revec.document SET key = '0', source_id = %(s)s WHERE key = '1' RETURNING 1", s=other
    )
    async with guest(app) as client:
        page = await client.get(PAGE, params=await group(app, index))
        linked = {unescape(each) for each in re.findall(r'href="(/console/queue/document[^"]*)"', page.text)}
        assert {address.rpartition("source=")[2] for address in linked} == {"push", "other"}
        for address, verb, left in zip(
            sorted(linked), ("retry", "discard"), ((1, 0, 1), (0, 1, 1)), strict=True
        ):
            seen = await client.get(address)
            (source,) = set(re.findall(r'name="source" value="(\w+)"', seen.text))
            await pressed(client, verb, key="0", source=source, reason="drafts")
            assert await state(app) == left
    await assert_all_done(app, made, index)


async def test_a_copied_command_shows_the_very_document(app: App, loopback: Loopback) -> None:
    """Whatever its key is."""
    await failed(app, loopback, 1)
    evil = "-x'; touch /tmp/pwned; $(id) `id`'"
    await steps.rows(app, "UPDATE revec.document SET key = %(e)s WHERE key = '0' RETURNING 1", e=evil)
    async with guest(app) as client:
        page = await client.get(f"{PAGE}/document", params={"key": evil})
        (line,) = re.findall(r'data-copies="(revec queue show[^"]*)"', page.text)
    words = shlex.split(unescape(line))
    assert words == ["revec", "queue", "show", "--source=push", "--", "c", evil]


async def test_the_live_figures_are_for_whom_the_page_is(app: App) -> None:
    await steps.collection(app)
    async with door.door(app) as client:
        await log_in(client, await door.made_key(app, Role.ADMIN, visible=SEES))
        assert (await client.get("/console/live/queue?once")).status_code == 403
