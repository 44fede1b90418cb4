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

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

import psycopg

from revec.model.errors import Unavailable
from revec.postgres.account import USER
from revec.postgres.cluster import Cluster
from revec.postgres.files import ALONE, ALONE_OR_NOT_AT_ALL, AMONG_OTHERS, lock, locked


def default_home() -> Path:
    if os.geteuid() == 0:
        return Path("/var/lib/revec")
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "revec"


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


@contextmanager
def said_in_a_sentence(home: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, psycopg.Error) as error:
        raise Unavailable(
            f"the embedded PostgreSQL in {home} cannot be used: {error}."
            " Mend that, or set REVEC_HOME to a folder of your own"
        ) from error
