"""Some users first, over HTTP: who sees which index, and what an admin may say of it."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from revec.app import App
from tests import steps
from tests.loopback import Loopback
from tests.web import door
from tests.web.door import ask, holder

PLACE = "/v1/collections/c/migrations/current"


async def test_users_are_moved_over_http(app: App, loopback: Loopback) -> None:
    """A share of the sticky keys, a held tenant, an order for tonight, and back; a key is no user of its own,
    and `/metrics` counts what each index answered.
    """
    await door.two_tenants(app)
    await steps.drain(app)
    async with app.database.transaction() as conn:
        from revec.postgres import collections

        made = await collections.named(conn, "c")
    await app.start(made, steps.NEW)
    await steps.drain(app)
    admin = await holder(app, door.Role.ADMIN)
    viewer, other = await holder(app), await holder(app, tenant="globex")
    async with door.door(app) as client:

        async def say(verb: str, status: int = 200, **more: object) -> dict[str, object]:
            done = await client.post(f"{PLACE}/{verb}", json={"reason": "test", **more}, headers=admin)
            assert done.status_code == status, done.text
            return done.json()

        assert (await say("canary", percent=50, hold=["globex"]))["state"] == "canary"
        seen = {
            f"u{n}": {(await ask(client, viewer, sticky=f"u{n}", q=q)).json()["index"] for q in ("a", "b")}
            for n in range(20)
        }
        assert all(len(indexes) == 1 for indexes in seen.values())
        assert len(set.union(*seen.values())) == 2
        assert {(await ask(client, viewer, q=f"q{n}")).json()["index"][-1] for n in range(20)} == {"1", "2"}
        assert {(await ask(client, other, sticky=f"u{n}")).json()["index"][-1] for n in range(9)} == {"1"}
        said = await client.post(f"{PLACE}/canary", json={"reason": "x", "percent": 120}, headers=admin)
        door.said(said, 422)
        door.said(
            await client.post(f"{PLACE}/canary", json={"reason": "x", "percent": 9}, headers=viewer), 403
        )
        tonight = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        assert (await say("cutover", at=tonight))["state"] == "canary"
        await say("cancel-cutover")
        assert (await say("cutover"))["state"] == "live"
        assert (await ask(client, other)).json()["index"][-1] == "1"
        await say("canary", tenants=["globex"])
        assert (await ask(client, other)).json()["index"][-1] == "2"
        await say("rollback", tenants=["acme"])
        assert (await ask(client, viewer)).json()["index"][-1] == "1"
        counted = (await client.get("/metrics", headers=admin)).text
        assert re.search(
            r'revec_searches_total{epoch="\d+",how="answered",index="openai:fake-b-96#2"}', counted
        )
        assert (await say("rollback"))["state"] == "ready"
    await steps.assert_oracle(app, made)
