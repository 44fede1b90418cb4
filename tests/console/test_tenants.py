"""The page of the tenants: page by page, filtered, and acted on by those who may."""

from __future__ import annotations

import re

import httpx2
import pytest

from revec.app import App
from revec.model.access import Role
from revec.model.index import Collection
from revec.postgres import indexes, tenants
from revec.postgres.tenants import Page, Wanted
from revec.web.console.pages import tenants as page_of_tenants
from tests import steps
from tests.console.test_doors import form_of, guest
from tests.loopback import Loopback

PAGE = "/console/tenants"


async def fleet(app: App, count: int = 7) -> Collection:
    """Tenants t0, t1, … with a document each, all embedded; one more that has none yet."""
    made = await steps.collection(app)
    drafts = [steps.Draft(f"{n}", body=f"document {n}", tenant=f"t{n}") for n in range(count)]
    await steps.put(app, made, drafts)
    await steps.drain(app)
    async with app.database.transaction() as conn:
        await tenants.say(conn, made.id, [tenants.Said("nobody-yet", tier="gold")])
    return made


async def listed(app: App, made: Collection, wanted: Wanted, limit: int = 100, after: str = "") -> Page:
    async with app.database.transaction("worker") as conn:
        written = [each.id for each in await indexes.writing(conn, made.id)]
        return await tenants.listed(conn, made, written, limit=limit, wanted=wanted, after=after)


async def every(app: App, made: Collection, wanted: Wanted, limit: int) -> list[str]:
    """All pages, one behind the other."""
    found, after = [], ""
    while True:
        page = await listed(app, made, wanted, limit, after)
        found += [each["tenant"] for each in page.tenants]
        if page.after is None:
            return found
        assert page.after > after
        after = page.after


def ticked(page: httpx2.Response) -> list[str]:
    return re.findall(r'name="tenant" value="([^"]*)"', page.text)


async def done(client: httpx2.AsyncClient, what: str, *names: str, **said: str) -> httpx2.Response:
    form = form_of(await client.get(PAGE))
    return await client.post(
        f"{PAGE}/{what}?collection=c&word=t", data={"csrf": form, "tenant": list(names)} | said
    )


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
@pytest.mark.parametrize("looked", [1, 3, 100])
async def test_a_list_has_each_tenant_once_however_it_is_cut(
    app: App, monkeypatch: pytest.MonkeyPatch, limit: int, looked: int
) -> None:
    """With and without filters; a page that found none says where to go on."""
    monkeypatch.setattr(tenants, "LOOKED", looked)
    made = await fleet(app)
    await app.commands.pause_tenants(made, ["t2", "t6"], "test")
    names = ["nobody-yet", *(f"t{n}" for n in range(7))]
    assert await every(app, made, Wanted(), limit) == names
    assert await every(app, made, Wanted(word="T5"), limit) == ["t5"]
    assert await every(app, made, Wanted(paused=True), limit) == ["t2", "t6"]
    assert await every(app, made, Wanted(tier="gold"), limit) == ["nobody-yet"]
    assert await every(app, made, Wanted(word="t6", paused=True), limit) == ["t6"]
    assert await every(app, made, Wanted(word="x"), limit) == []


async def test_tenants_are_paused_resumed_and_set_where_they_are_ticked(
    app: App, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the list is the one that they were ticked in."""
    monkeypatch.setattr(page_of_tenants, "PAGE", 5)
    made = await fleet(app)
    async with guest(app) as client:
        first = await client.get(PAGE)
        assert ticked(first) == ["nobody-yet", "t0", "t1", "t2", "t3"]
        assert "after=t3" in first.text
        assert ticked(await client.get(PAGE, params={"after": "t3"})) == ["t4", "t5", "t6"]
        answer = await done(client, "pause", "t1", "t2", reason="they asked for it")
        assert answer.headers["location"] == f"{PAGE}?collection=c&word=t"
        assert ticked(await client.get(PAGE, params={"paused": "1"})) == ["t1", "t2"]
        assert "they asked for it" in (await client.get(PAGE)).text
        await done(client, "resume", "t1")
        assert ticked(await client.get(PAGE, params={"paused": "1"})) == ["t2"]
        await done(client, "set", "t0", tier="gold", priority="7")
        assert ticked(await client.get(PAGE, params={"tier": "gold"})) == ["nobody-yet", "t0"]
        for said in ({"priority": "much"}, {"weight": "0"}, {"budget": "NaN"}, {}):
            assert (await done(client, "set", "t0", **said)).status_code == 422, said
        assert (await done(client, "pause", "t0")).status_code == 422
        assert (await done(client, "pause", reason="nobody")).status_code == 422
    page = await listed(app, made, Wanted(tier="gold"))
    assert [(each["priority"], each["paused"]) for each in page.tenants] == [(0, None), (7, None)]


async def test_who_may_not_act_on_tenants_cannot(app: App, loopback: Loopback) -> None:
    """Nor does one tenant see the others."""
    made = await fleet(app, 2)
    async with guest(app, Role.OPERATOR, None) as client:
        assert "an admin&#39;s key may do this" in (await client.get(PAGE)).text
        assert (await done(client, "pause", "t0", reason="x")).status_code == 403
    async with guest(app, Role.OPERATOR, "t0") as client:
        assert (await client.get(PAGE)).status_code == 403
    assert (await listed(app, made, Wanted(paused=True))).tenants == []


async def test_an_open_migration_is_told_by_tenant(app: App, loopback: Loopback) -> None:
    made = await fleet(app, 3)
    await app.commands.start(await app.plan(made, steps.NEW))
    await steps.drain(app)
    page = await listed(app, made, Wanted(word="t"))
    assert [(each["moved"], each["to_move"]) for each in page.tenants if each["documents"]] == [(1, 1)] * 3
    async with guest(app) as client:
        assert "1 of 1" in (await client.get(PAGE)).text


async def test_a_tenants_name_is_only_ever_text(app: App, loopback: Loopback) -> None:
    hostile = '"><script>alert(1)</script>'
    made = await steps.collection(app)
    await steps.put(app, made, [steps.Draft("1", body="text", tenant=hostile)])
    async with guest(app) as client:
        page = await client.get(PAGE, params={"word": hostile, "after": '"><b>'})
        assert page.status_code == 200
        assert "<script>alert" not in page.text
        assert "<b>" not in page.text.replace("<b>0", "")
        answer = await done(client, "pause", hostile, reason=hostile)
        assert answer.status_code == 303
        assert "<script>alert" not in (await client.get(PAGE)).text
