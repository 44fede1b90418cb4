"""Are the stored vectors what the model says today?"""

from __future__ import annotations

from collections.abc import Iterator

from revec.migrate import sentinels
from revec.migrate.gates.base import FIDELITY, Case, Tools
from revec.model.document import rendered, text_hash
from revec.model.errors import AnswerInvalid, ProviderError
from revec.model.index import Index
from revec.model.verdict import Figures, Outcome, Verdict
from revec.postgres import documents
from revec.postgres.database import Database
from revec.postgres.documents import Measure
from revec.providers.base import Provider
from revec.statistics.rates import rule_of_three
from revec.stores.base import Vector

ALIKE = 10  # different texts with one vector: from here on more than half of them is no coincidence
GROUP, GROUP_BYTES = 64, 4 << 20  # texts that are embedded again together

Row = tuple[int, bytes, Vector]  # (document, text hash, vector) as a store samples it


async def judge(case: Case) -> Verdict:
    """A random sample embedded again is what is stored; the sentinel texts are what they were."""
    tools, index = case.tools, case.index
    provider = await tools.provider_for(index.space.address, index.space.dims)
    try:
        if drift := await sentinels.drift(tools.database, provider, index):
            return Verdict(FIDELITY, Outcome.FAILED, drift)
        sample = await tools.store.sample(tools.database, index, tools.limits.sample)
        if sample.lost:
            why = f"the store has lost {sample.lost:,} of {sample.drawn:,} sampled vectors"
            return Verdict(FIDELITY, Outcome.FAILED, why, {"sample": sample.drawn, "lost": sample.lost})
        cosines, duplicates, different = await _embedded_again(tools, provider, index, sample.rows)
    except AnswerInvalid as error:
        return Verdict(FIDELITY, Outcome.FAILED, str(error))
    except ProviderError as error:
        return Verdict(FIDELITY, Outcome.INCONCLUSIVE, str(error))
    return _fidelity(cosines, duplicates, different, drawn=sample.drawn)


def _fidelity(cosines: list[float], duplicates: int, different: int, *, drawn: int) -> Verdict:
    bad = sum(each < sentinels.SAME_COSINE for each in cosines)
    evidence = {
        "sample": len(cosines),
        "bad": bad,
        "worst_cosine": round(min(cosines), 6) if cosines else None,
        "duplicates": duplicates,
        "bad_rate_below": round(rule_of_three(len(cosines)), 4) if not bad else None,
    }
    rate = rule_of_three(len(cosines)) if not bad else None
    figures = Figures(now=bad, bound=rate, limit=0, n=len(cosines))
    # Some models cannot tell some texts apart (case, word order, a tail that is cut off): no fault.
    alike = duplicates >= ALIKE and 2 * duplicates > different
    if bad or alike:
        why = f"{bad} of {len(cosines)} differ from a fresh embedding, {duplicates} share a vector"
        return Verdict(FIDELITY, Outcome.FAILED, why, evidence, figures)
    if drawn and not cosines:
        why = "no sampled vector is of its document's present text: nothing could be compared"
        return Verdict(FIDELITY, Outcome.INCONCLUSIVE, why, evidence, figures)
    if not cosines:
        return Verdict(FIDELITY, Outcome.PASSED, "nothing is stored", evidence, figures)
    bound = rule_of_three(len(cosines))
    rest = f"so fewer than {100 * bound:.1f}% do" if bound < 1 else "too few to say more"
    return Verdict(FIDELITY, Outcome.PASSED, f"0 of {len(cosines)} differ, {rest}", evidence, figures)


async def _embedded_again(
    tools: Tools, provider: Provider, index: Index, rows: list[Row]
) -> tuple[list[float], int, int]:
    """Cosines of stored and fresh vectors; of how many different texts one has another's vector."""
    async with tools.database.transaction("worker") as conn:
        sized = await documents.measured(conn, {doc_id for doc_id, *_ in rows})
    cosines: list[float] = []
    for some in _in_groups(rows, sized):
        cosines += await _again(tools.database, provider, index, some, sized)
    owners: dict[bytes, set[bytes]] = {}
    for _, hashed, vector in rows:
        owners.setdefault(vector.tobytes(), set()).add(hashed)
    duplicates = sum(len(texts) for texts in owners.values() if len(texts) > 1)
    return cosines, duplicates, len({hashed for _, hashed, _ in rows})


def _in_groups(rows: list[Row], sized: dict[int, Measure]) -> Iterator[list[Row]]:
    """Few enough for one call, and for memory however long the texts are."""
    group: list[Row] = []
    held = 0
    for row in rows:
        size = sized[row[0]].size if row[0] in sized else 0
        if group and (len(group) == GROUP or held + size > GROUP_BYTES):
            yield group
            group, held = [], 0
        group.append(row)
        held += size
    if group:
        yield group


async def _again(
    database: Database, provider: Provider, index: Index, rows: list[Row], sized: dict[int, Measure]
) -> list[float]:
    """Cosines of the stored vectors and fresh ones, of texts that are still what was embedded."""
    async with database.transaction("worker") as conn:
        wanted = {doc_id: sized[doc_id] for doc_id, *_ in rows if doc_id in sized}
        contents = await documents.contents(conn, wanted)
    texts: list[str] = []
    stored: list[Vector] = []
    for doc_id, hashed, vector in rows:
        content = contents.get(doc_id)
        chunks = rendered(index.space, content.title, content.body, provider.count) if content else []
        text = next((text for text in chunks if text_hash(text) == hashed), None)
        if text is not None:  # edited since: its new vector is on its way
            texts.append(text)
            stored.append(vector)
    if not texts:
        return []
    fresh = (await sentinels.asked(database, provider, index, texts)).matrix
    return [sentinels.cosine(a, b) for a, b in zip(stored, fresh, strict=True)]
