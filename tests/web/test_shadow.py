"""The shadow over HTTP: who may look at it, who may set it, and that searches there feed it."""

from __future__ import annotations

from revec.app import App
from revec.model.access import Role
from tests import steps
from tests.loopback import Loopback
from tests.search import shadowed
from tests.web import door

HERE = "/v1/collections/c/migration/shadow"


async def test_it_is_set_fed_and_looked_at(app: App, loopback: Loopback) -> None:
    """An admin sets it; what a search answered is the same with it and without."""
    await steps.ready(app)
    admin = await door.holder(app, Role.ADMIN)
    async with door.door(app) as client:
        asked = {"q": "what is document 3"}
        before = await client.post("/v1/collections/c/search", json=asked, headers=admin)
        said = (await client.post(HERE, json={"rate": 1}, headers=admin)).json()
        assert (said["on"], said["rate"], said["candidate"], said["questions"]) == (
            True,
            1,
            f"{steps.NEW}#2",
            0,
        )
        after = await client.post("/v1/collections/c/search", json=asked, headers=admin)
        assert after.json()["hits"] == before.json()["hits"]
        await shadowed.settled(app)
        seen = (await client.get(HERE, headers=admin)).json()
        assert (seen["questions"], seen["errors"]["new"], seen["doubt"]) == (1, 0, None)
        assert (await client.post(HERE, json={"rate": 0}, headers=admin)).json()["on"] is False


async def test_it_is_no_tenants_business(app: App, loopback: Loopback) -> None:
    """Nor a viewer's; and what makes no sense is refused in a sentence."""
    await steps.ready(app)
    admin = await door.holder(app, Role.ADMIN)
    async with door.door(app) as client:
        for role in (Role.VIEWER, Role.OPERATOR):
            tenants = await door.holder(app, role, "default")
            door.said(await client.get(HERE, headers=tenants), 403)
            door.said(await client.post(HERE, json={"rate": 1}, headers=tenants), 403)
        door.said(await client.post(HERE, json={"rate": 2}, headers=admin), 422)
        door.said(await client.post(HERE, json={"to": "99"}, headers=admin), 422)
    assert await steps.rows(app, "SELECT 1 FROM revec.shadow") == []
