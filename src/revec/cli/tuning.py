"""The verb that sets how a collection is searched, and says on what evidence."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from revec.cli import judgements
from revec.cli.door import Exit, Json, Yes, confirmed, opened, out, show_json, table
from revec.cli.reading import AllTenants, Tenant, require_similarity
from revec.model.document import DEFAULT_TENANT
from revec.model.errors import BadInput
from revec.model.verdict import Outcome

if TYPE_CHECKING:
    from revec.app import App
    from revec.model.index import Index
    from revec.search.duplicates import Figures, Judged
    from revec.search.tuning import Tuning

SHOWN = 0.25  # of the shares so many apart are drawn; --json has all


async def tune(
    name: str,
    /,
    *,
    threshold: Annotated[
        float | None, Parameter(help="From this score on `similar` calls documents similar.")
    ] = None,
    judged: Annotated[
        Path | None,
        Parameter(help='Measure the threshold: lines of {"a", "b", "same"}, two ids and true or false.'),
    ] = None,
    queries: Annotated[Path | None, Parameter(help='Tune the fusion: lines of {"id", "text"}.')] = None,
    qrels: Annotated[
        Path | None, Parameter(help="Their judgements, tab-separated: query id, document id, grade.")
    ] = None,
    rrf: Annotated[bool, Parameter(help="Fuse by ranks again, as before any tuning.", negative=())] = False,
    tenant: Tenant = DEFAULT_TENANT,
    all_tenants: AllTenants = False,
    dry_run: Annotated[bool, Parameter(help="Measure and show, set nothing.", negative=())] = False,
    yes: Yes = False,
    json: Json = False,
) -> int:
    """Set how a collection is searched, on evidence, or show how it is.

    With --queries and --qrels: how the vectors' and the words' lists become one. The fusion by ranks, and by
    scores with each share of the vectors, are measured. The best is set, after asking, if at least 40 judged
    queries that did not choose it prove it better than what is in force. Exit code 3: they do not.

    With --threshold: from which score on documents are called similar; --judged says how often that is right.

    Both are of the space that serves now. A cutover carries the threshold to the new space by the share of
    pairs that reach it, and fuses by ranks there until tuned; after a rollback the old ones count again.

    Parameters
    ----------
    name
        The collection.
    """
    if (queries is None) != (qrels is None):
        raise BadInput("judged queries are two files: --queries FILE and --qrels FILE")
    asked = [threshold is not None or judged is not None, queries is not None, rrf]
    if sum(asked) > 1:
        raise BadInput("one thing at a time: --threshold, or --queries and --qrels, or --rrf")
    if threshold is not None:
        require_similarity(threshold)
    whose = None if all_tenants else tenant
    pairs = judgements.of_pairs(judged) if judged else []
    read = judgements.of_queries(queries, qrels) if queries and qrels else None
    async with opened() as app:
        index = await app.serving(name)
        if read:
            from revec.search import tuning

            texts, grades = read
            tuned = await tuning.measured(
                app.database,
                app.store,
                app.retriever.embedded,
                index=index,
                texts=texts,
                qrels=grades,
                tenant=whose,
            )
            return await _fuse(app, name, tuned, dry_run=dry_run, yes=yes, json=json)
        if rrf:
            return await _by_ranks(app, name, index, dry_run=dry_run, yes=yes, json=json)
        measured = None
        if pairs:
            least = await _least(app, name, index) if threshold is None else threshold
            measured = await _measured(app, index, pairs, threshold=least, whose=whose)
        if threshold is not None and not dry_run:
            await _keep(app, index, threshold, measured)
        await _show(app, name, index, measured, json=json)
    return Exit.DONE


async def _fuse(app: App, name: str, tuned: Tuning, *, dry_run: bool, yes: bool, json: bool) -> int:
    from revec.search import tuning
    from revec.search.fusion import named

    proved = tuned.verdict.outcome is Outcome.PASSED
    if not json:
        _draw(name, tuned)
    if proved and not dry_run:
        confirmed(f"Searches of {name} will be fused {named(tuned.best)}", name, yes=yes)
        await tuning.adopt(app.database, tuned, app.commands.who)
    if json:
        what = {"index": tuned.index.name, "space": tuned.index.space.id, "language": tuned.now.language}
        said = {"verdict": tuned.verdict.outcome, "why": tuned.verdict.why, "changed": proved and not dry_run}
        show_json(what | tuned.evidence | said)
    elif proved and not dry_run:
        out.print(
            f"{name} is fused {named(tuned.best)} now: `revec collections tune {name} --rrf` goes back."
        )
    return Exit.DONE if proved or not tuned.changes else Exit.GATE


def _draw(name: str, tuned: Tuning) -> None:
    from revec.search.fusion import named

    out.print(
        f"{name}: {tuned.queries:,} judged queries, {tuned.index.name}, fused {tuned.now}", markup=False
    )
    table(
        [
            {
                "fusion": named(alpha),
                "nDCG@10": f"{mean:.4f}",
                "": ", ".join(
                    word
                    for word, fits in (("in force", alpha == tuned.now.alpha), ("best", alpha == tuned.best))
                    if fits
                ),
            }
            for alpha, mean in tuned.shares
            if alpha is None or alpha % SHOWN == 0 or alpha in (tuned.now.alpha, tuned.best)
        ]
    )
    low, high = tuned.interval
    out.print(
        f"On queries that did not choose: nDCG@10 {tuned.held_out:.4f}, in force {tuned.before:.4f}: "
        f"{tuned.gain:+.4f} [{low:+.4f}, {high:+.4f}] at 95%, p = {tuned.p:.4f}.",
        markup=False,
    )
    kept = "" if tuned.verdict.outcome is Outcome.PASSED else " Nothing was changed."
    out.print(f"{tuned.verdict.why[0].upper()}{tuned.verdict.why[1:]}.{kept}", markup=False)


async def _by_ranks(app: App, name: str, index: Index, *, dry_run: bool, yes: bool, json: bool) -> int:
    from revec.search import fusion, tuning

    async with app.database.transaction() as conn:
        was = await fusion.in_force(conn, index.collection_id, index.space, index.query)
    if was.alpha is not None and not dry_run:
        confirmed(f"Searches of {name} are fused {was}, and will be fused by ranks", name, yes=yes)
        was = await tuning.by_ranks(app.database, index, app.commands.who)
    if json:
        changed = was.alpha is not None and not dry_run
        show_json({"index": index.name, "space": index.space.id, "was": was.alpha, "changed": changed})
    elif was.alpha is None:
        out.print(f"{name} is fused {was} already.", markup=False)
    else:
        out.print(
            f"{name} was fused {was}, by ranks {'it would be' if dry_run else 'from now on'}.", markup=False
        )
    return Exit.DONE


async def _least(app: App, name: str, index: Index) -> float:
    from revec.search import similar

    async with app.database.transaction() as conn:
        kept = await similar.threshold_of(conn, name, index)
    if kept is None:
        raise BadInput(f"{name} has no threshold that could be measured: add --threshold 0.8, say")
    return kept


async def _measured(
    app: App, index: Index, pairs: list[Judged], *, threshold: float, whose: str | None
) -> Figures:
    from revec.search import duplicates

    return await duplicates.figures(app.database, app.store, index, pairs, threshold=threshold, tenant=whose)


async def _keep(app: App, index: Index, threshold: float, measured: Figures | None) -> None:
    from revec.postgres import thresholds
    from revec.postgres.thresholds import Threshold

    said = Threshold(threshold, None, measured.facts if measured else {})
    async with app.database.transaction() as conn:
        await thresholds.keep(conn, index.collection_id, index.space.id, said)


async def _show(app: App, name: str, index: Index, measured: Figures | None, *, json: bool) -> None:
    from revec.postgres import thresholds
    from revec.search import fusion

    async with app.database.transaction() as conn:
        kept = (await thresholds.kept(conn, index.collection_id)).get(index.space.id)
        fused = await fusion.in_force(conn, index.collection_id, index.space, index.query)
    if json:
        facts = {"index": index.name, "space": index.space.id, "threshold": kept, "fusion": asdict(fused)}
        judged = {"measured": {"threshold": measured.threshold, **measured.facts}} if measured else {}
        show_json(facts | judged)
        return
    if kept is None:
        out.print(f"{name}: no threshold, `similar` shows whatever is nearest (space {index.space.id})")
    else:
        how = f", which keeps the hit rate of {kept.evidence['was']:g} before" if kept.carried_from else ""
        out.print(f"{name}: `similar` shows scores from {kept.value:g}{how} (space {index.space.id})")
    if measured:
        out.print(
            f"at {measured.threshold:g}: precision {measured.precision}, recall {measured.recall}",
            markup=False,
        )
        if measured.without_score:
            unknown = f"{measured.without_score:,} judged pairs have no score"
            out.print(f"{unknown}: a document is not there, or has no vectors")
    out.print(f"{name}: searches are fused {fused.told}", markup=False)
