"""Where an index lives: a store, and what the index is called there."""

from __future__ import annotations

import ipaddress
import re
import secrets
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from revec.model.errors import BadInput

PG = "pg"
LOCAL = "localhost"
WITH_USER = "postgresql"  # the engine that knows users: to the others a name before the host is a key


@dataclass(frozen=True, slots=True)
class Place:
    """`name` is the collection of points that the index has at a store elsewhere; empty in this database."""

    store: str = PG  # or an address without any secret
    name: str = ""

    @property
    def is_here(self) -> bool:
        return self.store == PG

    @property
    def suffix(self) -> str:
        """What names of indexes show of it: not where it is, for whoever searches sees them."""
        return "" if self.is_here else f"@{self.store.partition(':')[0]}"


HERE = Place()


@dataclass(frozen=True, slots=True)
class Address:
    """A store elsewhere, as it is reached. Without a host it is on this machine's disk."""

    scheme: str
    host: str
    port: int | None
    path: str
    user: str | None
    query: str

    @property
    def is_safe(self) -> bool:
        """Whether nobody is between us and it: then, and only then, it is reached without TLS."""
        if not self.host or self.host == LOCAL:
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def key_name(self) -> str:
        """What its key is called among the settings."""
        return re.sub(r"[^a-z0-9]", "_", self.host.lower())


def new_place(store: str) -> Place:
    """A collection of points that nobody has: two installations may share one store."""
    return Place(store, f"revec_{secrets.token_hex(6)}")


def address(store: str) -> Address:
    """
    Raises:
        BadInput: it is no address, or holds a secret, which would be kept and shown.
    """
    try:
        parts = urlsplit(store)
        port = parts.port
    except ValueError:
        raise BadInput("that is no address of a store: write chroma://host:8000") from None
    if _holds_secret(parts):
        host = parts.hostname or "HOST"
        name = re.sub(r"[^A-Z0-9]", "_", host.upper())
        raise BadInput(
            "an address of a store is kept and shown, so it holds no password and no key: "
            f"leave it out, and set REVEC_STORE_KEYS__{name}"
        )
    if not parts.scheme or not (parts.hostname or parts.path) or store != store.strip():
        raise BadInput(f"{store!r} is no address of a store: write chroma://host:8000")
    return Address(parts.scheme, parts.hostname or "", port, parts.path, parts.username, parts.query)


def _holds_secret(parts: SplitResult) -> bool:
    if parts.password is not None or (parts.username is not None and parts.scheme != WITH_USER):
        return True
    asked = re.search(r"(^|&)(password|sslpassword|api_?key|token|key)=", parts.query, re.IGNORECASE)
    return asked is not None
