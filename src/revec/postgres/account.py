"""Who the server runs as, and the closed folder of its socket."""

from __future__ import annotations

import hashlib
import os
import pwd
import stat
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from revec.model.errors import Unavailable

USER = "revec"  # of the system (when root starts it), of the cluster, and its database
LONGEST_SOCKET_FOLDER = 85  # bytes: a socket's whole path ends at 107, on some systems at 103


class Account(NamedTuple):
    uid: int
    gid: int


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
