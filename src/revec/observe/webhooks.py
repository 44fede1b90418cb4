"""A signed message to an address of the user's own.

`Revec-Signature: t=SECONDS,v1=HEX`: HMAC-SHA256 by the shared secret of `SECONDS.BODY`. Who receives it
reckons the same, compares in constant time, refuses what is older than some minutes, and takes each
`Revec-Delivery` once.
"""

from __future__ import annotations

import asyncio
import hmac
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any
from urllib.parse import SplitResult, urlsplit

from revec.model.errors import BadInput, MissingExtra, Unavailable

PATIENCE = 5.0  # seconds for an answer; what it says is not read
HERE = {"127.0.0.1", "::1", "localhost"}


@dataclass(frozen=True, slots=True)
class Hook:
    """An address may hold a token of its own: it is in no log and no error."""

    url: str = field(repr=False)
    secret: str = field(repr=False)

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    async def send(self, delivery: str, body: bytes, *, at: int) -> None:
        """`at`: seconds since 1970, which are signed too.

        Raises:
            Unavailable: it was not taken: no answer, or another one than 2xx.
        """
        httpx2 = _httpx2()
        headers = {
            "Content-Type": "application/json",
            "Revec-Delivery": delivery,
            "Revec-Signature": f"t={at},v1={signature(self.secret, at, body)}",
        }
        try:
            async with (
                asyncio.timeout(PATIENCE),  # the client's own is for each byte
                httpx2.AsyncClient(
                    follow_redirects=False, timeout=PATIENCE, trust_env=self.host not in HERE
                ) as client,
                client.stream("POST", self.url, content=body, headers=headers) as response,
            ):
                status = response.status_code
        except Exception as error:  # noqa: BLE001 - nothing that a receiver does ends the worker
            raise Unavailable(f"the webhook at {self.host} failed: {type(error).__name__}") from None
        if not 200 <= status < 300:  # noqa: PLR2004 - what HTTP calls success
            raise Unavailable(f"the webhook at {self.host} answered {status}")


def signature(secret: str, at: int, body: bytes) -> str:
    return hmac.new(secret.encode(), b"%d." % at + body, sha256).hexdigest()


def hook(url: str | None, secret: str | None) -> Hook | None:
    """What the settings name; None where they name none.

    Raises:
        BadInput: no address, one that others can read on the way, or no secret.
        MissingExtra: nothing here speaks HTTP.
    """
    if not url:
        return None
    parts = _parts(url)
    if parts is None or parts.scheme not in {"http", "https"} or not parts.hostname:
        raise BadInput("REVEC_WEBHOOK is no address: write https://hooks.example/revec")
    if parts.scheme == "http" and parts.hostname not in HERE:
        raise BadInput(f"REVEC_WEBHOOK would go to {parts.hostname} for everybody to read: write https://…")
    if not secret:
        raise BadInput(
            "REVEC_WEBHOOK without REVEC_WEBHOOK_SECRET (or REVEC_WEBHOOK_SECRET_FILE): nobody could tell "
            "our messages from another's"
        )
    return Hook(url, secret)


def _parts(url: str) -> SplitResult | None:
    """None: nobody could be asked there; the client itself looks at a port only when it connects."""
    httpx2 = _httpx2()
    try:
        httpx2.URL(url)
        parts = urlsplit(url)
        is_there = parts.port != 0
    except (httpx2.InvalidURL, ValueError):
        return None
    return parts if is_there else None


def _httpx2() -> Any:
    try:
        import httpx2
    except ModuleNotFoundError as error:
        raise MissingExtra("a webhook", "serve") from error
    return httpx2
