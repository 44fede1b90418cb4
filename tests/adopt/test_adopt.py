from __future__ import annotations

from revec.app import App
from revec.model.index import Writer
from revec.migrate.check import check
from tests import steps
from tests.adopt import questions
from tests.capture import people
from tests.capture.people import User


async def test_first(any_app: App, any_dsn: str) -> None:
    async with people.connected(any_dsn) as user:
        texts = questions.texts(300)
        await questions.made(user, texts)
        made, adoption = await questions.adopted(any_app)
        print(adoption.told)
        await people.project(any_app)
        assert await check(any_app.database, freshness=30) == []
        reading = await any_app.retriever.search("questions", texts[7], k=3, tenant="default")
        print(reading)
        assert reading.hits[0].key == "8"
