"""The data and the processes of an embedded server: made, started, recovered, stopped."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import time
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import psycopg
from psycopg.pq import PGconn, Ping

from revec.model.errors import Unavailable
from revec.postgres.account import (
    USER,
    Account,
    name_of,
    refuse_if_open_to_others,
    socket_folder,
    system_account,
)
from revec.postgres.binaries import copied, find_binaries
from revec.postgres.files import ALONE_OR_NOT_AT_ALL, locked, sync, write

PATIENCE = 120  # seconds for a crash recovery, and for the orphans of a killed server to finish
PAUSE = 0.1
WAIT = ("-w", "-t", str(PATIENCE))
PORTS = range(20_000, 32_768)  # below those that systems lend to outgoing connections
# The caller's may hold API keys, and the server outlives the caller. LC_ALL: we read what it says.
ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C"}

# An error of a statement goes to who sent it, not to the log: it may quote somebody's document.
# No wal_compression = lz4: the embedded build was compiled without it and would not start.
SETTINGS = """\
listen_addresses = '127.0.0.1'
max_connections = 100
shared_buffers = 256MB
max_wal_size = 4GB
synchronous_commit = on
jit = off
random_page_cost = 1.1
idle_in_transaction_session_timeout = 10min
password_encryption = 'scram-sha-256'
logging_collector = off
log_min_messages = log
log_min_error_statement = panic
log_checkpoints = off
"""

# What the log says of a start that may succeed a moment later.
PASSING = ("shared memory block", "Address already in use")


class Address(NamedTuple):
    folder: Path
    port: int


class Cluster:
    """The data and the processes of one home; who starts or stops them holds `startup.lock`."""

    def __init__(self, home: Path, binaries: Path | None) -> None:
        self.home = home
        self.data = home / "data"
        self.log = home / "server.log"
        self._given_binaries = binaries

    def dsn(self, database: str) -> str:
        folder, port = self._address()
        return f"postgresql://{USER}@/{database}?host={quote(str(folder))}&port={port}"

    def tcp_dsn(self, database: str) -> str:
        password = (self.home / "password").read_text()
        return f"postgresql://{USER}:{password}@127.0.0.1:{self._address().port}/{database}"

    def make_home(self) -> None:
        if not self.home.exists():
            self.home.mkdir(parents=True, exist_ok=True)
            # What is secret in root's is closed by itself; the server's user must come through.
            self.home.chmod(0o755 if os.geteuid() == 0 else 0o700)

    def ensure_running(self) -> None:
        give_up_at = time.monotonic() + PATIENCE
        while (answer := self._ping()) is not Ping.OK:
            if time.monotonic() > give_up_at:
                raise Unavailable(
                    f"the embedded PostgreSQL in {self.home} does not answer, though processes of"
                    " it are alive (recovering, left over from a crash, or in another container):"
                    f" try again later, end them, or set REVEC_HOME elsewhere.{self._last_words()}"
                )
            # A server that rejects us is on its way up or down: either ends by itself.
            if answer is Ping.REJECT or not self._start():
                time.sleep(PAUSE)

    def ensure_database(self) -> None:
        with psycopg.connect(self.dsn("postgres"), autocommit=True, connect_timeout=10) as own:
            if not own.execute("SELECT FROM pg_database WHERE datname = 'revec'").rowcount:
                own.execute("CREATE DATABASE revec")
                # The login's name is our schema's: a user's unqualified table would land in there.
                own.execute("ALTER DATABASE revec SET search_path = public")

    def stop(self) -> None:
        if self._ping() is Ping.NO_RESPONSE:
            return
        self._run(self.binaries / "pg_ctl", "-D", self.data, "-m", "fast", *WAIT, "stop")
        with suppress(OSError):  # not empty: it would not stop, so the next one out tries again
            self._address().folder.rmdir()

    def _ping(self) -> Ping:
        """Ask the server itself: a pid file may name a zombie, or a stranger."""
        try:
            refuse_if_open_to_others(self._address().folder, self.account)
        except FileNotFoundError:
            return Ping.NO_RESPONSE
        return Ping(PGconn.ping(f"{self.dsn('postgres')}&connect_timeout=10".encode()))

    def _start(self) -> bool:
        """Start it; False if that may succeed a moment later."""
        try:
            with locked(self.home / "server.lock", ALONE_OR_NOT_AT_ALL) as server_lock:
                return self._start_alone(server_lock)
        except BlockingIOError:  # orphans of a killed server are finishing
            return False

    def _start_alone(self, server_lock: int) -> bool:
        self._refuse_if_out_of_reach()
        if not self.data.exists():
            self._create(server_lock)
        self._configure()
        # Every process of a server inherits the lock that we hold: whoever this file names is none.
        # A zombie would block the start until somebody reaps it, in a container maybe nobody.
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        said_before = self.log.stat().st_size
        started = self._run(
            *(self.binaries / "pg_ctl", "-D", self.data, "-l", self.log, *WAIT, "start"),
            inherit=server_lock,
        )
        if started.returncode == 0:
            return True
        words = self._last_words(said_before)
        if self._ping() is Ping.NO_RESPONSE and not any(hope in words for hope in PASSING):
            raise Unavailable(f"the embedded PostgreSQL in {self.home} did not start.{words}")
        return False

    def _create(self, server_lock: int) -> None:
        """Make the cluster beside its place, then rename it: a kill leaves nothing half made."""
        unfinished = self.home / "data.new"
        for locale in ("C.UTF-8", "C"):
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(mode=0o700)
            self._hand_over(unfinished)
            made = self._run(
                *(self.binaries / "initdb", "-D", unfinished, "-U", USER, "-E", "UTF8"),
                *(f"--locale={locale}", "--data-checksums", "--auth-local=trust"),
                *("--auth-host=scram-sha-256", f"--pwfile={self._password_file()}"),
                inherit=server_lock,  # one that outlives us must not write into the next one's work
            )
            if made.returncode == 0:
                break
        else:
            raise Unavailable(f"no database could be made in {self.home}: {made.stderr.strip()}")
        with (unfinished / "postgresql.conf").open("a") as settings:
            settings.write("include '../revec.conf'\n")
        unfinished.rename(self.data)
        sync(self.home)

    def _configure(self) -> None:
        folder = socket_folder(self.home)
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        refuse_if_open_to_others(folder, self.account)
        self._hand_over(folder)
        for left_over in folder.glob(".s.PGSQL.*"):  # its lock file names the dead postmaster too
            left_over.unlink()
        port = self._free_port()
        write(self.home / "address.json", json.dumps({"folder": str(folder), "port": port}))
        quoted = str(folder).replace("'", "''")
        listening = f"port = {port}\nunix_socket_directories = '{quoted}'\n"
        write(self.home / "revec.conf", SETTINGS + listening)
        self.log.touch(mode=0o600)
        self._hand_over(self.log)

    def _address(self) -> Address:
        """Where it listens, or last did. FileNotFoundError before the first start."""
        known = json.loads((self.home / "address.json").read_text())
        return Address(Path(known["folder"]), known["port"])

    def _free_port(self) -> int:
        with suppress(FileNotFoundError):
            if is_free(kept := self._address().port):
                return kept
        shuffled = secrets.SystemRandom().sample(PORTS, len(PORTS))
        return next(port for port in shuffled if is_free(port))

    def _password_file(self) -> Path:
        path = self.home / "password"
        if not path.exists():
            write(path, secrets.token_urlsafe(24), mode=0o600)
        self._hand_over(path)
        return path

    def _last_words(self, since: int = 0) -> str:
        """The end of the log, as the end of a sentence."""
        if not self.log.exists():
            return ""
        lines = self.log.read_bytes()[since:].decode(errors="replace").splitlines()
        return "\n".join((f" {self.log} ends with:", *lines[-8:]))

    @cached_property
    def account(self) -> Account:
        """Oneself; PostgreSQL refuses root, so for root whoever owns the data, first `revec`."""
        if os.geteuid() != 0:
            return Account(os.geteuid(), os.getegid())
        with suppress(FileNotFoundError):
            return Account(self.data.stat().st_uid, self.data.stat().st_gid)
        return system_account()

    @cached_property
    def binaries(self) -> Path:
        """The server's programs, where its user can run them."""
        found = self._given_binaries or find_binaries()
        if not (found / "postgres").exists():
            raise Unavailable(f"{found} holds no PostgreSQL server: name the folder of `postgres`")
        try:
            runs = self._run(found / "initdb", "--version").returncode == 0
        except PermissionError:
            runs = False
        return found if runs else copied(found, self.home / "binaries")

    def _refuse_if_out_of_reach(self) -> None:
        if self._run("/bin/sh", "-c", 'cd -- "$1"', "sh", self.home).returncode:
            raise Unavailable(
                f"the embedded PostgreSQL runs as user {name_of(self.account)}, who may not enter"
                f" {self.home}: set REVEC_HOME to a folder that this user may enter"
            )

    def _hand_over(self, path: Path) -> None:
        if os.geteuid() == 0:
            os.chown(path, *self.account)

    def _run(self, *command: str | Path, inherit: int | None = None) -> subprocess.CompletedProcess[str]:
        """As the server's user, out of reach of the terminal's Ctrl-C."""
        root = os.geteuid() == 0
        return subprocess.run(
            command,
            cwd=self.home,
            env=ENVIRONMENT,
            user=self.account.uid if root else None,
            group=self.account.gid if root else None,
            extra_groups=[] if root else None,
            start_new_session=True,
            pass_fds=() if inherit is None else (inherit,),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as PostgreSQL does
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
