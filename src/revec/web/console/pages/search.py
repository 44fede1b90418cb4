"""A search as the API does it, with why its answer is as it is, and the commands that ask it again."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from revec.model.access import Role
from revec.model.errors import Refused
from revec.model.limits import LONGEST_FILTER, LONGEST_NAME, LONGEST_QUERY, MOST_HITS
from revec.model.reading import Mode
from revec.postgres import indexes
from revec.search.explained import explained
from revec.web import answers, asking
from revec.web.bodies import Question, Text
from revec.web.console import again
from revec.web.console.view import Tab, shown
from revec.web.console.visit import Looking, Visit
from revec.web.routes import search

router = APIRouter(prefix="/console/search", include_in_schema=False)
TAB = Tab("Search", "/console/search", 70)


class Asking(BaseModel):
    """What the form says: a field that was left empty is there, and says nothing."""

    model_config = ConfigDict(frozen=True)

    q: Text | None = Field(default=None, max_length=LONGEST_QUERY)  # None: nothing was asked yet
    k: int = Field(default=10, ge=1, le=MOST_HITS)
    mode: Mode = Mode.HYBRID
    filter: Text = Field(default="", max_length=LONGEST_FILTER)
    tenant: Text = Field(default="", max_length=LONGEST_NAME)
    index: Text = Field(default="", max_length=LONGEST_NAME)

    @property
    def question(self) -> Question:
        """As the API is asked."""
        return Question(
            q=self.q or "",
            k=self.k,
            mode=self.mode,
            filter=self.filter or None,
            tenant=self.tenant or None,
            index=self.index or None,
        )


@router.get("")
async def page(visit: Looking, asked: Annotated[Asking, Query()]) -> Response:
    """An empty query is answered with what was written last, as everywhere."""
    facts: dict[str, Any] = {"answer": None, "why": ""}
    if visit.collection is not None and asked.q is not None:
        try:
            facts |= await _answered(visit, visit.collection, asked.question)
        except Refused as error:  # nothing serves yet: no fault of who asks
            facts["why"] = str(error)
    may_choose = visit.caller.role.covers(Role.OPERATOR)
    return shown(
        visit,
        "search.html",
        asked=asked,
        modes=list(Mode),
        indexes=await _written(visit) if may_choose and visit.collection else [],
        **facts,
    )


async def _answered(visit: Visit, name: str, question: Question) -> dict[str, Any]:
    """By the very way of the API, so nobody finds here what it would not tell them."""
    of = search.asker(visit.caller, name, question)
    reading = await search.found(visit.app, name, question, of)
    return {
        "answer": await explained(visit.app.database, reading, question.mode),
        "json": json.dumps(answers.said(reading), indent=2, ensure_ascii=False),
        "curl": again.curl(str(visit.request.base_url), name, question),
        "cli": None if question.index else again.search(name, question, tenant=of.tenant),
    }


async def _written(visit: Visit) -> list[str]:
    found = await asking.collection(visit.app, visit.caller, visit.collection or "")
    async with visit.app.database.transaction("worker") as conn:
        return [index.name for index in await indexes.writing(conn, found.id)]
