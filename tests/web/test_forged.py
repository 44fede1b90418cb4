"""Whatever is shown that is not a good key or a good token opens nothing, and learns nothing from it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import httpx2
import jwt
import pytest

from revec.app import App
from revec.model.access import Role
from revec.model.errors import BadInput, NotIdentified, Unavailable
from revec.postgres import keys
from revec.settings import Settings, read
from revec.web.tokens import PublicKeys, Tokens, tokens
from tests.loopback import Loopback
from tests.web import door, forging
from tests.web.door import ask, showing
from tests.web.forging import GONE, by_hand, by_rsa, claims, part, token

HS = {"alg": "HS256", "typ": "JWT"}


def by_secret(**more: object) -> Tokens:
    given = {"jwt_issuer": forging.ISSUER, "jwt_audience": forging.AUDIENCE, "jwt_secret": forging.SECRET}
    made = tokens(Settings(**given | more))  # type: ignore[arg-type]
    assert made
    return made


def by_public_keys(**more: object) -> Tokens:
    file = Path("keys.json")  # every test has a folder of its own
    file.write_text(json.dumps(forging.key_set()))
    given = {"jwt_issuer": forging.ISSUER, "jwt_audience": forging.AUDIENCE, "jwt_jwks": str(file)}
    made = tokens(Settings(**given | more))  # type: ignore[arg-type]
    assert made
    return made


def tampered(payload: dict[str, object]) -> str:
    head, _, signature = token().split(".")
    return f"{head}.{part(payload)}.{signature}"


def nested(depth: int) -> bytes:
    return b'{"a":' * depth + b"1" + b"}" * depth


SIGNED_WITH_THE_SECRET: dict[str, Callable[[], str]] = {
    "no algorithm, no signature": lambda: by_hand({"alg": "none"}, claims(), None),
    "no algorithm in other letters": lambda: by_hand({"alg": "nOnE"}, claims(), None),
    "no algorithm, yet signed": lambda: by_hand({"alg": "none"}, claims()),
    "no algorithm named": lambda: by_hand({"typ": "JWT"}, claims()),
    "an algorithm that is a number": lambda: by_hand({"alg": 256}, claims()),
    "an algorithm that is not pinned": lambda: token(algorithm="HS384"),
    "another one": lambda: token(algorithm="HS512"),
    "an RSA header over an HMAC": lambda: by_hand({"alg": "RS256"}, claims()),
    "another secret": lambda: token("another secret of more than thirty-two bytes"),
    "an empty secret": lambda: by_hand(HS, claims(), b""),
    "signed by nothing": lambda: f"{part(HS)}.{part(claims())}.",
    "a signature cut short": lambda: token()[:-8],
    "another payload": lambda: tampered(claims(tenant="globex")),
    "another header": lambda: f"{part(HS | {'kid': 'x'})}.{token().split('.', 1)[1]}",
    "without exp": lambda: token(exp=GONE),
    "without iat": lambda: token(iat=GONE),
    "without iss": lambda: token(iss=GONE),
    "without aud": lambda: token(aud=GONE),
    "without sub": lambda: token(sub=GONE),
    "expired": lambda: token(exp=int(time.time()) - 60),
    "made in the future": lambda: token(iat=int(time.time()) + 600),
    "good from tomorrow on": lambda: token(nbf=int(time.time()) + 86_400),
    "an end that is no number": lambda: by_hand(HS, claims(exp="tomorrow")),
    "an end that is a list": lambda: by_hand(HS, claims(exp=[1e12])),
    "for somebody else": lambda: token(aud="another"),
    "for some others": lambda: token(aud=["another", "a third"]),
    "of another issuer": lambda: token(iss="https://evil.example"),
    "of several issuers": lambda: by_hand(HS, claims(iss=[forging.ISSUER])),
    "about a number": lambda: by_hand(HS, claims(sub=7)),
    "about nobody": lambda: token(sub=""),
    "of no tenant": lambda: token(tenant=GONE),
    "of an empty tenant": lambda: token(tenant=""),
    "of a list of tenants": lambda: token(tenant=["acme", "globex"]),
    "of a tenant that cannot be": lambda: token(tenant="ac\0me"),
    "a viewer of all tenants": lambda: token(tenant="*"),
    "an unknown role": lambda: token(role="root"),
    "a list of roles": lambda: token(role=["admin"]),
    "with what we do not understand": lambda: by_hand(HS | {"crit": ["x"], "x": 1}, claims()),
    "with a payload beside it": lambda: by_hand(HS | {"crit": ["b64"], "b64": False}, claims()),
    "with a key of its own": lambda: by_hand(
        HS | {"jwk": {"kty": "oct", "k": part(b"k" * 32)}}, claims(), b"k" * 32
    ),
    "only dots": lambda: "..",
    "five parts": lambda: f"{token()}.x.y",
    "a payload that is no JSON": lambda: by_hand(HS, b"{"),
    "a payload that is a list": lambda: by_hand(HS, []),
    "a payload without end": lambda: by_hand(HS, nested(1_400)),
    "very long": lambda: token(padding="x" * 9_000),
    "words": lambda: "let-me-in",
}


async def opened_by(client: httpx2.AsyncClient, shown: dict[str, str]) -> list[str]:
    """Which of them got further than the door; the others got the same answer, all of them."""
    refused = {name: await ask(client, showing(text)) for name, text in shown.items()}
    through = [name for name, answer in refused.items() if answer.status_code != 401]
    for name in refused.keys() - through:
        assert_closed(refused[name])
    return through


async def test_a_forged_token_opens_nothing(app: App, loopback: Loopback) -> None:
    """Refused before anything is looked at: the collection is not even there."""
    async with door.door(app, tokens=by_secret()) as client:
        forged = {name: make() for name, make in SIGNED_WITH_THE_SECRET.items()}
        assert await opened_by(client, forged) == []
    assert len(SIGNED_WITH_THE_SECRET) > 40


def assert_closed(answer: httpx2.Response) -> None:
    """The same answer whatever was wrong."""
    problem = door.said(answer, 401)
    assert answer.headers["www-authenticate"] == "Bearer"
    assert problem["detail"].startswith("show a key (`revec keys create` makes one) or a token")
    assert problem.keys() == door.PROBLEM | {"code"}


SIGNED_WITH_A_PRIVATE_KEY: dict[str, Callable[[], str]] = {
    "an HMAC with the public key": lambda: by_hand(
        {"alg": "HS256", "kid": "rsa"}, claims(), forging.public_pem()
    ),
    "an HMAC with the key as published": lambda: by_hand(
        {"alg": "HS256", "kid": "rsa"}, claims(), json.dumps(forging.key_set()["keys"][0]).encode()
    ),
    "an HMAC with a published secret": lambda: by_hand({"alg": "HS256", "kid": "secret"}, claims()),
    "no algorithm": lambda: by_hand({"alg": "none", "kid": "rsa"}, claims(), None),
    "no key named": lambda: by_rsa(kid=GONE),
    "an unknown key": lambda: by_rsa(kid="rsa-2"),
    "a key's name that is none": lambda: by_hand({"alg": "RS256", "kid": 7}, claims()),
    "a file for a key": lambda: by_rsa(kid="../../../dev/null"),
    "a statement for a key": lambda: by_rsa(kid="x' OR '1'='1"),
    "another key under this name": lambda: by_rsa(forging.OTHER_RSA),
    "a key for encryption": lambda: by_rsa(forging.OTHER_RSA, kid="for encryption"),
    "an algorithm that is not the key's": lambda: by_rsa(algorithm="RS512"),
    "another padding": lambda: by_rsa(algorithm="PS256"),
    "another kind of key": lambda: by_rsa(kid="elliptic"),
    "a key that it brings along": lambda: by_rsa(
        forging.OTHER_RSA,
        jwk=jwt.algorithms.RSAAlgorithm.to_jwk(forging.OTHER_RSA.public_key(), as_dict=True),
    ),
    "an address of keys that it brings along": lambda: by_rsa(forging.OTHER_RSA, jku="https://evil.example"),
}


async def test_a_token_forged_for_public_keys_opens_nothing(app: App, loopback: Loopback) -> None:
    """The key decides the algorithm; the token has no say."""
    async with door.door(app, tokens=by_public_keys()) as client:
        forged = {name: make() for name, make in SIGNED_WITH_A_PRIVATE_KEY.items()}
        assert await opened_by(client, forged) == []


KEYS: dict[str, Callable[[str], str]] = {
    "cut short": lambda key: key[:-1],
    "one letter too many": lambda key: f"{key}A",
    "one letter changed": lambda key: key[:-1] + ("A" if key[-1] != "A" else "B"),
    "in capitals": lambda key: key.upper(),
    "its beginning": lambda key: key[:14],
    "the mark alone": lambda key: key[:6],
    "its hash": lambda key: f"revec_{key[6:14]}_{sha256(key.encode()).hexdigest()[:43]}",
    "another one's beginning": lambda key: f"revec_00000000_{key[15:]}",
    "a statement": lambda _: "revec_'or'1'='1",
    "unknown": lambda _: f"revec_{'0' * 8}_{'A' * 43}",
    "very long": lambda key: key + "A" * 9_000,
}


async def test_a_key_that_is_almost_one_opens_nothing(app: App, loopback: Loopback) -> None:
    """The whole key or nothing."""
    key = await door.made_key(app)
    async with door.door(app, tokens=by_secret()) as client:
        assert await opened_by(client, {name: change(key) for name, change in KEYS.items()}) == []


async def test_a_key_shown_in_another_way_opens_nothing(app: App, loopback: Loopback) -> None:
    """One header, once, as a bearer: not in the address, where logs keep it; and nothing odd."""
    await door.two_tenants(app)
    key = await door.made_key(app)
    good = ("authorization", f"Bearer {key}")
    odd: list[list[tuple[str, str]]] = [
        [],
        [("authorization", "")],
        [("authorization", "Bearer")],
        [("authorization", "Bearer ")],
        [("authorization", key)],
        [("authorization", f"Basic {key}")],
        [("authorization", f"Bearer {key} {key}")],
        [("authorization", f"Bearer {key},Bearer {key}")],
        [("x-api-key", key)],
        [("cookie", f"authorization=Bearer {key}")],
        [good, good],
        [good, ("authorization", "Bearer nonsense")],
    ]
    async with door.door(app) as client:
        path = "/v1/collections/c/search?q=x"
        for headers in odd:
            assert_closed(await client.get(path, headers=headers))
        strange = [(b"authorization", f"Bearer {key}é".encode()), (b"authorization", b"Bearer \xff\xfe")]
        for header in strange:
            assert_closed(await client.get(path, headers=[header]))
        assert_closed(await client.get(f"{path}&key={key}"))
        assert door.tenants(await client.get(path, headers=[good])) == {"acme"}


async def test_a_good_token_opens_what_it_says(app: App, loopback: Loopback) -> None:
    """The control: what the forged ones differ from. A clock may be a little late."""
    await door.two_tenants(app)
    late = {"exp": int(time.time()) - 5, "iat": int(time.time()) + 5}
    async with door.door(app, tokens=by_secret()) as client:
        for good in (token(), token(**late), token(aud=["x", forging.AUDIENCE]), token(role="viewer")):
            assert door.tenants(await ask(client, showing(good))) == {"acme"}
        everyone = showing(token(tenant="*", role="operator"))
        assert door.tenants(await ask(client, everyone)) == set(door.TENANTS)
        assert door.tenants(await ask(client, everyone, tenant="globex")) == {"globex"}
        assert (await client.get("/v1/collections", headers=everyone)).status_code == 200
        door.said(await client.get("/v1/collections", headers=showing(token())), 403)


async def test_each_kind_of_public_key_is_taken(app: App, loopback: Loopback) -> None:
    """The control of the others: RSA, elliptic, Edwards."""
    await door.two_tenants(app)
    async with door.door(app, tokens=by_public_keys()) as client:
        for key, algorithm, kid in (
            (forging.RSA, "RS256", "rsa"),
            (forging.ELLIPTIC, "ES256", "elliptic"),
            (forging.EDWARDS, "EdDSA", "edwards"),
        ):
            good = jwt.encode(claims(), key, algorithm, headers={"kid": kid})
            assert door.tenants(await ask(client, showing(good))) == {"acme"}


async def test_a_claim_may_have_another_name(app: App, loopback: Loopback) -> None:
    """As the issuer has it; the usual name then says nothing."""
    await door.two_tenants(app)
    named = by_secret(jwt_tenant_claim="https://acme.example/org", jwt_role_claim="revec_role")
    async with door.door(app, tokens=named) as client:
        good = token(**{"https://acme.example/org": "globex", "role": "admin"})
        assert door.tenants(await ask(client, showing(good))) == {"globex"}
        door.said(await client.get("/v1/collections", headers=showing(good)), 403)
        assert_closed(await ask(client, showing(token())))


async def test_a_revoked_key_opens_nothing_from_then_on(app: App, loopback: Loopback) -> None:
    """Not after a cache has aged: in the next request."""
    await door.two_tenants(app)
    key = await door.made_key(app)
    async with door.door(app) as client:
        assert door.tenants(await ask(client, showing(key))) == {"acme"}
        async with app.database.transaction() as conn:
            await keys.revoke(conn, key[:14], by="a test")
        assert_closed(await ask(client, showing(key)))


async def test_an_expired_key_opens_nothing(app: App, loopback: Loopback) -> None:
    """By the database's clock."""
    await door.two_tenants(app)
    key = await door.made_key(app, lasts=timedelta(days=90))
    async with door.door(app) as client:
        assert door.tenants(await ask(client, showing(key))) == {"acme"}
        async with app.database.transaction() as conn:
            await conn.execute("UPDATE revec.api_key SET expires_at = now() - interval '1 second'")
        assert_closed(await ask(client, showing(key)))


async def test_only_a_hash_of_a_key_is_kept(app: App, loopback: Loopback) -> None:
    """Who reads the table has no key; who reads the log has its beginning."""
    key = await door.made_key(app, Role.ADMIN)
    async with app.database.transaction() as conn:
        (row,) = await (await conn.execute("SELECT api_key::text AS it, hash FROM revec.api_key")).fetchall()
    assert key[15:] not in row.it
    assert key[:14] in row.it
    assert row.hash == sha256(key.encode()).digest()
    assert len({await door.made_key(app) for _ in range(5)}) == 5


async def test_public_keys_are_read_again(tmp_path: Path) -> None:
    """A new key is found at once, a withdrawn one is good no longer than five minutes, strangers cost nothing."""
    now, reads = 0.0, 0
    published = forging.key_set()
    fails = False

    async def load() -> object:
        nonlocal reads
        reads += 1
        if fails:
            raise OSError("unreachable")
        return published

    async def good(kid: str) -> bool:
        try:
            await ring.key({"kid": kid})
        except NotIdentified:
            return False
        return True

    ring = PublicKeys(load, ["RS256"], clock=lambda: now)
    assert await good("rsa")
    assert (await good("rsa"), reads) == (True, 1)
    for _ in range(50):
        assert not await good("nobody's")
    assert reads == 1
    published = {"keys": [{**published["keys"][0], "kid": "rsa-2"}]}
    now = 20.0
    assert (await good("rsa-2"), reads) == (True, 2)
    assert not await good("rsa")
    fails, now = True, 400.0
    assert (await good("rsa-2"), reads) == (True, 3)
    now = 4_000.0
    with pytest.raises(Unavailable, match="cannot be read"):
        await ring.key({"kid": "rsa-2"})
    fails, now = False, 4_020.0
    assert await good("rsa-2")


async def test_public_keys_at_an_address(app: App, loopback: Loopback) -> None:
    """On this machine, or by https; while they cannot be read, nobody is told that its token is bad."""
    await door.two_tenants(app)
    answers = [b"HTTP/1.1 302 Found\r\nLocation: /x\r\n", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 500 No\r\n"]
    body = json.dumps(forging.key_set()).encode()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(body)
        writer.write(answers.pop(0) + head + body)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as issuer:
        port = issuer.sockets[0].getsockname()[1]
        made = by_secret(jwt_secret=None, jwt_jwks=f"http://127.0.0.1:{port}/keys")
        made._keyring._clock = clock = Clock()  # type: ignore[attr-defined]
        async with door.door(app, tokens=made) as client:
            good = showing(by_rsa())
            assert "cannot be read" in door.said(await ask(client, good), 503)["detail"]
            clock.now = 20.0
            assert door.tenants(await ask(client, good)) == {"acme"}
            clock.now = 1_000.0  # the issuer fails, and what is known is good still
            assert door.tenants(await ask(client, good)) == {"acme"}
    assert answers == []


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_public_keys_in_a_file_that_is_not_there(app: App, loopback: Loopback, tmp_path: Path) -> None:
    """503, and on: nobody is let in, nobody is told that its token is bad."""
    missing = by_secret(jwt_secret=None, jwt_jwks=str(tmp_path / "none.json"))
    async with door.door(app, tokens=missing) as client:
        assert "cannot be read" in door.said(await ask(client, showing(by_rsa())), 503)["detail"]
        assert_closed(await ask(client, showing("nonsense")))


REFUSED = [
    ({"jwt_secret": "short"}, "less than 32 bytes"),
    ({"jwt_issuer": None}, "REVEC_JWT_ISSUER and REVEC_JWT_AUDIENCE"),
    ({"jwt_audience": None}, "REVEC_JWT_ISSUER and REVEC_JWT_AUDIENCE"),
    ({"jwt_jwks": "https://issuer.example/keys"}, "a secret or a public key"),
    ({"jwt_algorithms": ["none"]}, "REVEC_JWT_ALGORITHMS names none"),
    ({"jwt_algorithms": ["RS256"]}, "REVEC_JWT_ALGORITHMS names RS256"),
    ({"jwt_secret": None, "jwt_jwks": "http://issuer.example/keys"}, "use https"),
    ({"jwt_secret": None, "jwt_jwks": "file:///etc/keys"}, "use https"),
    (
        {"jwt_secret": None, "jwt_jwks": "k.json", "jwt_algorithms": ["HS256"]},
        "REVEC_JWT_ALGORITHMS names HS256",
    ),
]


@pytest.mark.parametrize(("changes", "words"), REFUSED)
def test_half_a_setting_is_refused(changes: dict[str, object], words: str) -> None:
    """Before anybody is let in by it."""
    with pytest.raises(BadInput, match=words):
        by_secret(**changes)


def test_the_environment_says_whose_tokens_are_good(monkeypatch: pytest.MonkeyPatch) -> None:
    """Algorithms as a JSON list, the secret without its newline."""
    monkeypatch.setenv("REVEC_JWT_SECRET", forging.SECRET)
    monkeypatch.setenv("REVEC_JWT_ISSUER", forging.ISSUER)
    monkeypatch.setenv("REVEC_JWT_AUDIENCE", forging.AUDIENCE)
    monkeypatch.setenv("REVEC_JWT_ALGORITHMS", '["HS512"]')
    made = tokens(read())
    assert made
    assert made._keyring.algorithms == ["HS512"]  # type: ignore[attr-defined]


def test_a_secret_is_shown_nowhere(tmp_path: Path) -> None:
    """Nor is it said which file was wrong in it."""
    made = by_secret()
    assert forging.SECRET not in repr(made._keyring) + repr(made.__dict__)
    (tmp_path / "s").write_text(forging.SECRET + "\n")
    assert by_secret(jwt_secret=None, jwt_secret_file=tmp_path / "s")._keyring.secret == forging.SECRET
    assert forging.SECRET not in repr(Settings(jwt_secret=forging.SECRET))  # type: ignore[arg-type]
    assert tokens(Settings()) is None
