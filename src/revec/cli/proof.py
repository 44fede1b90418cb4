"""Verbs that prove: judge an index now, compare two, run the invariants, tell what was done and why."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import cyclopts
from cyclopts import Parameter

from revec.cli.door import Exit, Json, err, of_collection, opened, out, show_json, table
from revec.cli.judging import gates_table
from revec.cli.standing import came
from revec.model.errors import BadInput
from revec.model.verdict import Outcome, together


def register(app: cyclopts.App) -> None:
    for verb in (verify, check, history):
        app.command(verb)


async def verify(
    name: str,
    /,
    *,
    between: Annotated[
        tuple[str, str] | None, Parameter(help="Two indexes, by name or number: what does either lack?")
    ] = None,
    heal: Annotated[bool, Parameter(help="With --between: make work of what is wrong.")] = False,
    json: Json = False,
) -> int:
    """Judge now: is the index complete, and are its vectors what its model says?"""
    if between:
        return await _between(name, between, heal=heal, json=json)
    if heal:
        raise BadInput("--heal goes with --between A B; what a gate finds, `revec worker` mends by itself")
    async with of_collection(name) as (app, collection):
        verdicts = await app.commands.verify(collection)
        fused = await app.commands.switch.fusion_after(collection)
    outcome = together([each for each in verdicts if each.outcome is not Outcome.NOT_CONFIGURED])
    if json:
        counted = next(each.evidence for each in verdicts if each.gate == "completeness")
        names = [name for name in counted if name != "horizon"]
        gates = {
            each.gate: {"verdict": each.outcome, "why": each.why, **asdict(each.figures)} for each in verdicts
        }
        said = {"gates": gates, "fusion": fused}
        show_json({"verdict": outcome, **{key: counted[key] for key in names}, **said})
    else:
        gates_table(verdicts)
        if fused:
            out.print(f"{fused}.", markup=False)
        out.print(f"[bold]{outcome}[/bold]")
    return Exit.DONE if outcome is Outcome.PASSED else Exit.GATE


async def _between(name: str, pair: tuple[str, str], *, heal: bool, json: bool) -> int:
    from revec.migrate import between

    async with of_collection(name) as (app, collection):
        one, other = await between.named(app.database, collection, pair)
        found = await between.compare(app.database, app.store, one, other)
        made = await between.heal(app.database, app.store, found) if heal else {}
    facts = found.facts
    if json:
        show_json(facts | {"healed": made})
        return Exit.GATE if found.differ else Exit.DONE
    table(facts["indexes"])
    if found.sampled:
        out.print(f"{found.different:,} of {found.sampled:,} sampled texts have different vectors.")
    else:
        out.print("Their spaces differ, so their vectors were not compared.")
    for index, count in made.items():
        out.print(f"{index}: {count:,} to be mended; `revec worker` does it.", markup=False)
    out.print("[bold]They differ.[/bold]" if found.differ else "They hold the same.")
    return Exit.GATE if found.differ else Exit.DONE


async def check(*, json: Json = False) -> int:
    """Run the invariants as SQL: what is not as promised."""
    from revec.migrate.check import check as run

    async with opened() as app:
        breaches = await run(app.database, freshness=app.limits.freshness)
    if json:
        show_json({"breaches": [asdict(breach) for breach in breaches]})
    for breach in breaches:
        err.print(str(breach), markup=False)
    if not breaches and not json:
        out.print("All invariants hold: I1, I2, I3, I4, I10, I12, I15.")
    return Exit.FAILED if breaches else Exit.DONE


async def history(
    name: str,
    /,
    *,
    bundle: Annotated[
        Path | None,
        Parameter(help="Write all the evidence there: a folder, or a .zip; signed by REVEC_BUNDLE_KEY."),
    ] = None,
    json: Json = False,
) -> int:
    """Show every move of the last migration: who, what, why."""
    from revec.migrate.planning import reality
    from revec.postgres import migrations

    async with of_collection(name) as (app, collection), app.database.transaction() as conn:
        migration = await migrations.latest(conn, collection.id)
        if bundle and migration:
            from revec.migrate import bundle as evidence

            key = app.settings.bundle_signer
            evidence.write(evidence.files(await evidence.gathered(conn, name, migration), key), bundle)
            signed = "signed" if key else "not signed: set REVEC_BUNDLE_KEY (or REVEC_BUNDLE_KEY_FILE)"
            out.print(f"The evidence of migration {migration.id} is in {bundle}, {signed}.", markup=False)
            return Exit.DONE
        events = [] if migration is None else await migrations.events(conn, migration)
    rows = [row._asdict() for row in events]
    if json:
        show_json(rows)
        return Exit.DONE
    table(
        [
            {
                "at": row["at"].astimezone().strftime("%Y-%m-%d %H:%M:%S"),
                "who": row["who"],
                "move": f"{row['was']} → {row['became']}" if row["became"] else f"in {row['was']}",
                "why": row["why"],
            }
            for row in rows
        ]
    )
    for label, words in came([each.facts for each in reality.compared(rows)]):
        out.print(f"{label:12}{words}", markup=False)
    if not rows:
        out.print(f"{name} was never migrated.")
    return Exit.DONE
