"""Two indexes side by side: what each answers, what people say of it, and where they differ most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Query
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from revec.migrate import under_way
from revec.model.access import Role
from revec.model.errors import NotAllowed, Refused
from revec.model.index import Collection
from revec.model.judging import DEFAULT_SET, GRADES, Asked, JudgedQuery, Said, lines
from revec.model.limits import LONGEST_NAME, LONGEST_QUERY
from revec.model.reading import Mode
from revec.postgres import judgements, migrations
from revec.search import qrels, side_by_side
from revec.search.side_by_side import Pair, SideBySide
from revec.search.worst import worst
from revec.web import asking
from revec.web.bodies import Text
from revec.web.console.environment import rendered
from revec.web.console.shelf import Shelf, Which
from revec.web.console.view import Tab, shown
from revec.web.console.visit import Looking, Overseeing, Tending, Visit
from revec.web.entrance import extend

router = APIRouter(prefix="/console/compare", include_in_schema=False)
TAB = Tab("Compare", "/console/compare", 30)
SEE_OTHER = 303
WORST = 50  # queries in the list
QUERIES = 50  # on a page of a set
PATIENCE = 60.0  # seconds: every query of a set is asked twice
QUALITY = "quality"
Words = Annotated[Text, AfterValidator(lines)]
Name = Annotated[Text, Field(max_length=LONGEST_NAME)]


class Look(BaseModel):
    """What the address says; empty: nothing was said of it."""

    model_config = ConfigDict(frozen=True)

    q: Words = Field(default="", max_length=LONGEST_QUERY)
    tenant: Name = ""
    old: Name = ""
    new: Name = ""
    k: int = Field(default=10, ge=1, le=side_by_side.MOST)
    mode: Mode = Mode.HYBRID
    set: Name = ""
    by: Literal["", "shadow", "ndcg"] = ""
    after: Name = ""

    def address(self, collection: str | None, **other: str) -> str:
        """The page that looks like this, but for what is said otherwise."""
        said = self.model_dump(mode="json", exclude_defaults=True) | other
        whose = {} if collection is None else {"collection": collection}
        return f"{TAB.path}?{urlencode({**whose, **{name: value for name, value in said.items() if value}})}"


class Judged(Look):
    """One key on one answer. `old_place`, `new_place`: where the page shows it; 0: nowhere."""

    source: Name
    key: Name
    grade: int
    old_place: int = Field(default=0, ge=0, le=side_by_side.MOST)
    new_place: int = Field(default=0, ge=0, le=side_by_side.MOST)


@dataclass(frozen=True, slots=True)
class Sets:
    """What an operator of all tenants sees beside the answers."""

    names: list[str]
    name: str  # the one that is looked at, whether there is one or not
    queries: list[JudgedQuery]  # with a good answer
    page: list[Any]  # of all its queries
    is_whole: bool  # no more of them come behind
    verdict: Any  # of the quality gate, where a migration under way has to be proven by this set; or None


@router.get("")
async def page(visit: Looking, look: Annotated[Look, Query()]) -> Response:
    """Whoever asks sees what they would find; the sets and what the shadow saw are of all tenants."""
    caller = visit.caller
    if (look.old or look.new) and not caller.role.covers(Role.OPERATOR):
        raise NotAllowed("`old` and `new` are for operators: leave them out")
    whose = asking.tenant(caller, look.tenant or None)
    pair, why = await _pair(visit, look)
    facts: dict[str, Any] = {"seen": None, "grades": {}, "sets": None, "unlike": [], "outcome": None}
    if pair and visit.collection:
        collection = await visit.of_collection()
        if look.q.strip():
            extend(visit.request, visit.app.settings.request_deadline)  # both sides may take as long as one
            asked = Asked(look.q, whose)
            facts["seen"] = await side_by_side.asked(
                visit.app.retriever, pair, asked, k=look.k, mode=look.mode, visible=caller.visible
            )
        if not why_not_judge(visit):
            facts |= await _judging(visit, look, collection, pair, facts["seen"])
    return shown(
        visit,
        "compare.html",
        look=look,
        pair=pair,
        why=why,
        why_not_judge=why_not_judge(visit),
        may_choose=caller.role.covers(Role.OPERATOR),
        names=GRADES,
        modes=list(Mode),
        **facts,
    )


@router.post("/judge")
async def judge(visit: Tending, said: Annotated[Judged, Form()]) -> Response:
    """One person's word on one answer; the quality gate counts it at its next look."""
    _require_judge(visit)
    collection = await visit.of_collection()
    name = said.set or DEFAULT_SET
    asked = Asked(said.q, said.tenant or None)
    word = Said(asked.words, asked.tenant, (said.source, said.key), said.grade)
    async with visit.app.database.transaction() as conn:
        await judgements.judge(conn, collection, name, word, who=visit.caller.name)
        grades = await judgements.grades(conn, collection, name, asked, [word.doc])
    if visit.request.headers.get("hx-request") != "true":
        look = Look.model_validate(said.model_dump(include=set(Look.model_fields)))
        return RedirectResponse(look.address(collection.name), SEE_OTHER)
    html = rendered("judged.html", visit=visit, look=said, doc=word.doc, grades=grades, names=GRADES)
    return HTMLResponse(html)


@router.post("/weigh")
async def weigh(visit: Tending, said: Annotated[Look, Form()]) -> Response:
    """Ask both indexes every query of the set. It costs what the queries cost, so it is asked for."""
    from revec.search.weighing import ranked  # noqa: PLC0415

    _require_judge(visit)
    extend(visit.request, PATIENCE)
    collection = await visit.of_collection()
    pair = await side_by_side.pair_of(
        visit.app.database, collection.name, old=said.old or None, new=said.new or None
    )
    name = said.set or DEFAULT_SET
    async with visit.app.database.transaction("worker") as conn:
        queries = await judgements.read(conn, collection, name)
    rankings = await ranked(visit.app.retriever, pair, queries, said.mode)
    _shelf(visit).put(_which(collection, pair, name, said.mode), rankings)
    return RedirectResponse(said.address(collection.name, by="ndcg"), SEE_OTHER)


@router.get("/judgements")
async def exported(
    visit: Overseeing,
    set: Annotated[Text, Query(max_length=LONGEST_NAME)] = DEFAULT_SET,  # noqa: A002 - as the address says it
    form: Literal["qrels.tsv", "qrels.jsonl", "queries.jsonl"] = "qrels.tsv",
) -> Response:
    """The set as a file, as `revec eval` and `revec judgements add` read it."""
    _require_judge(visit)
    collection = await visit.of_collection()
    async with visit.app.database.transaction("worker") as conn:
        queries = await judgements.graded(conn, collection, set)
    write = {"qrels.tsv": qrels.tabbed, "qrels.jsonl": qrels.as_lines, "queries.jsonl": qrels.asked}[form]
    kind = "text/tab-separated-values" if form.endswith("tsv") else "application/jsonl"
    named = {"content-disposition": f'attachment; filename="{form}"'}
    return Response(write(queries), media_type=f"{kind}; charset=utf-8", headers=named)


def why_not_judge(visit: Visit) -> str:
    """A judgement moves a gate that all tenants depend on; empty: they may."""
    if why := visit.why_not(Role.OPERATOR):
        return why
    if visit.caller.visible is not None:
        return "your key does not see every document, and a set may judge any: ask with a key that does"
    return ""


def _require_judge(visit: Visit) -> None:
    if why := why_not_judge(visit):
        raise NotAllowed(why)


async def _pair(visit: Visit, look: Look) -> tuple[Pair | None, str]:
    """Or why there are no two."""
    if visit.collection is None:
        return None, ""
    try:
        asking.require_reach(visit.caller, visit.collection)
        found = await side_by_side.pair_of(
            visit.app.database, visit.collection, old=look.old or None, new=look.new or None
        )
    except Refused as error:
        return None, str(error)
    return found, ""


async def _judging(
    visit: Visit, look: Look, collection: Collection, pair: Pair, seen: SideBySide | None
) -> dict[str, Any]:
    """The set that is looked at, what is known of these answers, and where the indexes differ most."""
    sets = await _sets(visit, look, collection)
    async with visit.app.database.transaction("worker") as conn:
        docs = {*seen.old.docs, *seen.new.docs} if seen else set()
        grades = await judgements.grades(conn, collection, sets.name, seen.asked, docs) if seen else {}
    which = _which(collection, pair, sets.name, look.mode)
    outcome, asked_at = await _shelf(visit).weighed(which, sets.queries)
    unlike = []
    if look.by != "ndcg" and not (outcome and not look.by):
        unlike = await worst(visit.app.database, pair, sets.queries, limit=WORST)
    by = look.by or ("shadow" if unlike else "ndcg")  # what there is to see
    return {
        "sets": sets,
        "grades": grades,
        "outcome": outcome,
        "asked_at": asked_at,
        "by": by,
        "unlike": unlike,
        "worst": WORST,
    }


async def _sets(visit: Visit, look: Look, collection: Collection) -> Sets:
    async with visit.app.database.transaction("worker") as conn:
        names = await judgements.names(conn, collection)
        migration = await under_way.found(conn, collection)
        declared = migration.judged.judged if migration and migration.judged else None
        name = look.set or declared or DEFAULT_SET
        queries = await _shelf(visit).judged(conn, collection, name)
        listed = await judgements.page(conn, collection, name, after=look.after, limit=QUERIES)
        verdicts = await migrations.verdicts(conn, migration) if migration and declared == name else {}
    verdict = verdicts[QUALITY][0] if QUALITY in verdicts else None
    return Sets(names, name, queries, listed, len(listed) < QUERIES, verdict)


def _which(collection: Collection, pair: Pair, name: str, mode: Mode) -> Which:
    return Which(collection.id, pair.old.id, pair.new.id, name, mode)


def _shelf(visit: Visit) -> Shelf:
    shelf: Shelf = visit.request.app.state.shelf
    return shelf
