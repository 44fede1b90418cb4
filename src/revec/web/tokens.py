"""JSON Web Tokens: what they are verified with is pinned here, and never read from the token.

A token says who signed it (`iss`), for whom (`aud`), about whom (`sub`), when (`iat`) and until when
(`exp`); it names the tenant, and may name a role and what may be seen. RFC 7519, with the advice of RFC
8725: algorithms by configuration, one kind of key, every claim required.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import httpx2
import jwt

from revec.model import filter as filters
from revec.model.access import Caller, Role
from revec.model.document import unstorable
from revec.model.errors import BadInput, NotIdentified, Unavailable
from revec.model.filter import Filter
from revec.observe import events
from revec.settings import Settings

REQUIRED = ["exp", "iat", "iss", "aud", "sub"]
ALL_TENANTS = "*"  # said aloud: a claim that is missing is never more than one that is there
LONGEST_NAME = 200  # characters of a subject
BY_SECRET = ("HS256", "HS384", "HS512")
BY_PUBLIC_KEY = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
)  # fmt: skip
FRESH, LASTS = 300.0, 3600.0  # seconds: public keys are read again, and no longer believed
ASK_AGAIN = 10.0  # seconds between two looks for a key that is not there
PATIENCE = 5.0  # seconds to read public keys in


class Keyring(Protocol):
    async def key(self, header: dict[str, Any]) -> tuple[Any, list[str]]:
        """The key that such a token must be signed with, and the algorithms that this key is for."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a token must say."""

    issuer: str
    audience: str
    tenant_claim: str
    role_claim: str
    visible_claim: str
    leeway: float  # seconds


class Tokens:
    def __init__(self, terms: Terms, keyring: Keyring) -> None:
        self._terms = terms
        self._keyring = keyring

    async def caller(self, token: str) -> Caller:
        """Whom the token speaks of.

        Raises:
            NotIdentified: anything at all is wrong with it.
            Unavailable: the public keys cannot be read.
        """
        try:
            key, algorithms = await self._keyring.key(jwt.get_unverified_header(token))
            claims = jwt.decode(
                token,
                key,
                algorithms=algorithms,
                audience=self._terms.audience,
                issuer=self._terms.issuer,
                leeway=self._terms.leeway,
                options={"require": REQUIRED, "enforce_minimum_key_length": True},
            )
            return self._described(claims)
        except (BadInput, jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
            raise NotIdentified(type(error).__name__) from None

    def _described(self, claims: dict[str, Any]) -> Caller:
        """Claims that were verified, as a caller."""
        tenant = claims.get(self._terms.tenant_claim)
        role = Role(claims.get(self._terms.role_claim, Role.VIEWER))
        for text in (tenant, claims["sub"]):
            if not isinstance(text, str) or not text or unstorable(text):
                raise NotIdentified("a name that is none")
        if tenant == ALL_TENANTS and role is Role.VIEWER:
            raise NotIdentified("a viewer of all tenants")
        name = f"token of {claims['sub'][:LONGEST_NAME]}"
        visible = self._visible(claims)
        return Caller(name, role, None if tenant == ALL_TENANTS else tenant, visible=visible, person=name)

    def _visible(self, claims: dict[str, Any]) -> Filter | None:
        """A filter, as JSON or as what its JSON holds; a claim that is there and is none is an error."""
        if self._terms.visible_claim not in claims:
            return None
        said = claims[self._terms.visible_claim]
        return filters.read(said) if isinstance(said, str) else filters.parsed(said)


@dataclass(frozen=True, slots=True)
class Secret:
    """One secret, shared with the issuer."""

    secret: str
    algorithms: list[str]

    def __repr__(self) -> str:
        return "Secret(…)"

    async def key(self, header: dict[str, Any]) -> tuple[Any, list[str]]:
        del header  # nothing that it says changes what it is verified with
        return self.secret, self.algorithms


class PublicKeys:
    """The issuer's public keys, by their ids (RFC 7517).

    `load` reads the key set anew. A key that was taken out of it is good for FRESH seconds more; while it
    cannot be read, the keys that are known are good for LASTS.
    """

    def __init__(
        self,
        load: Callable[[], Awaitable[Any]],
        algorithms: list[str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._load = load
        self._algorithms = algorithms
        self._clock = clock
        self._keys: dict[str, jwt.PyJWK] = {}
        self._read_at = self._asked_at = float("-inf")
        self._asking = asyncio.Lock()

    async def key(self, header: dict[str, Any]) -> tuple[Any, list[str]]:
        name = header.get("kid")
        if not isinstance(name, str):
            raise NotIdentified("no key is named")
        if self._lacks(name):
            async with self._asking:
                if self._lacks(name) and self._since_asked() >= ASK_AGAIN:
                    await self._read()
        elif self._since_asked() >= FRESH:
            await self._read()
        if self._age() >= LASTS:
            raise Unavailable("the keys that tokens are verified with cannot be read: later again")
        found = self._keys.get(name)
        if found is None:
            raise NotIdentified("an unknown key is named")
        return found, [found.algorithm_name]

    def _is_ours(self, key: jwt.PyJWK) -> bool:
        """Made for signatures, by an algorithm that is pinned: no secret, nothing for encryption."""
        return key.algorithm_name in self._algorithms and key.public_key_use in {None, "sig"}

    def _lacks(self, name: str) -> bool:
        return self._age() >= LASTS or name not in self._keys

    async def _read(self) -> None:
        self._asked_at = self._clock()
        try:
            async with asyncio.timeout(PATIENCE):
                keys = jwt.PyJWKSet.from_dict(await self._load()).keys
        except (jwt.PyJWTError, httpx2.HTTPError, OSError, ValueError, AttributeError) as error:
            events.emit(events.TryAgain(f"the public keys cannot be read: {type(error).__name__}"))
            return
        self._keys = {key.key_id: key for key in keys if key.key_id and self._is_ours(key)}
        self._read_at = self._clock()

    def _age(self) -> float:
        return self._clock() - self._read_at

    def _since_asked(self) -> float:
        return self._clock() - self._asked_at


def tokens(settings: Settings) -> Tokens | None:
    """As the settings say; None where they speak of no tokens.

    Raises:
        BadInput: they say half of it, or what would be unsafe.
    """
    secret, public = settings.signing_secret, settings.jwt_jwks
    if secret is None and public is None:
        return None
    if secret is not None and public is not None:
        raise BadInput(
            "tokens are signed with a secret or a public key: set REVEC_JWT_SECRET or REVEC_JWT_JWKS"
        )
    if not settings.jwt_issuer or not settings.jwt_audience:
        raise BadInput("tokens need REVEC_JWT_ISSUER and REVEC_JWT_AUDIENCE: whose they are, and for whom")
    known, usual = (BY_SECRET, ["HS256"]) if secret else (BY_PUBLIC_KEY, ["RS256", "ES256", "EdDSA"])
    algorithms = settings.jwt_algorithms or usual
    if strange := sorted(set(algorithms) - set(known)):
        raise BadInput(f"REVEC_JWT_ALGORITHMS names {strange[0]}: with such keys there is {', '.join(known)}")
    terms = Terms(
        settings.jwt_issuer,
        settings.jwt_audience,
        settings.jwt_tenant_claim,
        settings.jwt_role_claim,
        settings.jwt_visible_claim,
        settings.jwt_leeway,
    )
    return Tokens(terms, _keyring(secret, public or "", algorithms))


def _keyring(secret: str | None, public: str, algorithms: list[str]) -> Keyring:
    if secret is None:
        return PublicKeys(_loader(public), algorithms)
    # As many bytes as the hash has (RFC 7518, 3.2).
    shortest = max(int(name.removeprefix("HS")) // 8 for name in algorithms)
    if len(secret.encode()) < shortest:
        raise BadInput(
            f"REVEC_JWT_SECRET has less than {shortest} bytes, which {algorithms[0]} wants: "
            "`openssl rand -base64 48` makes one"
        )
    return Secret(secret, algorithms)


def _loader(place: str) -> Callable[[], Awaitable[Any]]:
    """Reads a file, or asks a server.

    Raises:
        BadInput: anybody on the way could put a key of theirs in.
    """
    if "://" not in place:
        return lambda: asyncio.to_thread(lambda: json.loads(Path(place).read_bytes()))
    url = httpx2.URL(place)
    if url.scheme != "https" and not (url.scheme == "http" and url.host in {"127.0.0.1", "::1", "localhost"}):
        raise BadInput(f"REVEC_JWT_JWKS is {url.scheme}: whoever is on the way could put in a key; use https")

    async def load() -> Any:
        async with httpx2.AsyncClient(timeout=PATIENCE) as client:  # follows no redirect
            return (await client.get(url)).raise_for_status().json()

    return load
