"""The door itself: every verb registered, every error a sentence, every end an exit code."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

import cyclopts

from revec import __version__
from revec.cli import (
    canary,
    client,
    collection,
    doctor,
    drift,
    indexes,
    judging,
    keys,
    migration,
    planning,
    proof,
    providers,
    queue,
    reading,
    runbook,
    serving,
    shadow,
    status,
    stores,
    tenants,
    up,
)
from revec.cli.demo import verb as demo
from revec.cli.door import Exit, err, exit_code
from revec.model.errors import RevecError, without_numpy

HELP = """Change the embedding model under a live search.

Look with `plan`, begin with `start`, do the work with `worker`, watch with `status --watch`, switch with
`cutover`, go back with `rollback`, end with `finish`.
"""


def build() -> cyclopts.App:
    app = cyclopts.App(
        name="revec",
        help=HELP,
        version=__version__,
        result_action="return_value",
        default_parameter=cyclopts.Parameter(negative=()),
    )
    modules = (
        collection,
        reading,
        judging,
        planning,
        migration,
        proof,
        canary,
        shadow,
        status,
        drift,
        indexes,
        queue,
        tenants,
        providers,
        stores,
        keys,
        serving,
        up,
        demo,
        doctor,
        client,
        runbook,
    )
    for module in modules:
        module.register(app)
    return app


def main(arguments: Sequence[str] | None = None) -> None:
    sys.exit(run(sys.argv[1:] if arguments is None else list(arguments)))


def run(arguments: Sequence[str]) -> int:
    """The exit code of one command line."""
    logging.getLogger("psycopg").addHandler(logging.NullHandler())  # a person reads our sentences
    try:
        code = build()(arguments, exit_on_error=False)
    except cyclopts.CycloptsError:
        return Exit.USAGE  # the sentence was printed
    except RevecError as error:
        err.print(f"revec: {error}", markup=False)
        return exit_code(error)
    except KeyboardInterrupt:
        return 130
    except BaseExceptionGroup as group:
        return _several(group)
    except Exception as error:
        if missing := without_numpy(error):
            err.print(f"revec: {missing}", markup=False)
        elif not _said_of_database(error):
            raise
        return Exit.FAILED
    return int(code or Exit.DONE)


def _several(group: BaseExceptionGroup[BaseException]) -> int:
    """Tasks that ran beside each other: the first sentence speaks for all."""
    known = [without_numpy(error) or error for error in _leaves(group)]
    ours = [error for error in known if isinstance(error, RevecError)]
    if ours:
        err.print(f"revec: {ours[0]}", markup=False)
        return exit_code(ours[0])
    if any(_said_of_database(error) for error in _leaves(group)):
        return Exit.FAILED
    raise group


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found


def _said_of_database(error: BaseException) -> bool:
    from revec.postgres.database import (
        DATABASE_TROUBLE,
        first_line,
        is_gone,
    )

    if not isinstance(error, DATABASE_TROUBLE):
        return False
    what = "the database is gone" if is_gone(error) else "the database refused for now"
    err.print(
        f"revec: {what}: {first_line(error)}. What was committed is safe: run the same command again",
        markup=False,
    )
    return True


if __name__ == "__main__":
    main()
