"""Whether another model is worth it: `plan --compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from revec.cli.door import Exit, err, out, show_json
from revec.cli.judging import Declared, of_files
from revec.model.errors import BadInput

if TYPE_CHECKING:
    from revec.app import App
    from revec.migrate.compare import Compared
    from revec.model.index import Collection
    from revec.model.judging import JudgedQuery


async def judged_queries(
    app: App,
    collection: Collection,
    declared: Declared,
    *,
    queries: Path | None,
    qrels: Path | None,
    tenant: str,
) -> list[JudgedQuery]:
    """The judged queries of a set, or of two files."""
    from revec.postgres import judgements

    if (qrels is None) == (declared.judged is None):
        raise BadInput(
            "compared by which judged queries? Say --judged SET, or --queries FILE and --qrels FILE"
        )
    if qrels is None:
        assert declared.judged is not None
        async with app.database.transaction() as conn:
            return await judgements.read(conn, collection, declared.judged)
    bad: list[str] = []
    found = await of_files(app, collection, queries=queries, qrels=qrels, source=None, tenant=tenant, bad=bad)
    for why in bad:
        err.print(why, markup=False)
    return found


def show(name: str, to: str, compared: Compared, *, json: bool) -> int:
    from revec.migrate.compare import Advice

    if json:
        show_json(compared.facts)
    else:
        cost = "nobody knows its price" if compared.cost is None else f"${compared.cost:,.4f}"
        out.print(f"[bold]{name}[/bold]: {compared.old} beside {to}")
        out.print(
            f"sample      {compared.documents:,} documents, {compared.judged:,} of them judged: "
            f"{compared.share:.1%} of all that a migration would embed"
        )
        out.print(f"cost        {compared.tokens:,} tokens, {cost}; a start within a day pays for the rest")
        out.print(f"verdict     {compared.told}", markup=False)
        out.print(f"            {compared.caveat}", markup=False)
    return Exit.GATE if compared.advice is Advice.CANNOT_TELL else Exit.DONE
