"""Tokens, good ones and others, made by hand: a library would refuse to make most of these."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

ISSUER, AUDIENCE = "https://issuer.example", "revec"
SECRET = "a secret of more than sixty-four bytes, so that every hash would take it"
GONE = object()  # a claim that is left out

RSA = rsa.generate_private_key(65537, 2048)
OTHER_RSA = rsa.generate_private_key(65537, 2048)
ELLIPTIC = ec.generate_private_key(ec.SECP256R1())
EDWARDS = ed25519.Ed25519PrivateKey.generate()


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    good = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "ann",
        "iat": now,
        "exp": now + 300,
        "tenant": "acme",
    }
    return {name: value for name, value in (good | changes).items() if value is not GONE}


def token(secret: str = SECRET, algorithm: str = "HS256", **changes: Any) -> str:
    return jwt.encode(claims(**changes), secret, algorithm)


def part(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def by_hand(header: dict[str, Any], payload: Any, secret: bytes | None = SECRET.encode()) -> str:
    """Any header over any payload, under an honest HMAC-SHA256; None: under no signature."""
    signed = f"{part(header)}.{part(payload)}"
    if secret is None:
        return f"{signed}."
    return f"{signed}.{part(hmac.new(secret, signed.encode(), hashlib.sha256).digest())}"


def by_rsa(key: rsa.RSAPrivateKey = RSA, algorithm: str = "RS256", **headers: Any) -> str:
    said = {"kid": "rsa"} | headers
    return jwt.encode(
        claims(), key, algorithm, headers={name: value for name, value in said.items() if value is not GONE}
    )


def public_pem(key: rsa.RSAPrivateKey = RSA) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def key_set() -> dict[str, Any]:
    """What an issuer publishes: one key of each kind, and one that is for something else."""
    kinds = {
        "rsa": jwt.algorithms.RSAAlgorithm.to_jwk(RSA.public_key(), as_dict=True),
        "elliptic": jwt.algorithms.ECAlgorithm.to_jwk(ELLIPTIC.public_key(), as_dict=True),
        "edwards": jwt.algorithms.OKPAlgorithm.to_jwk(EDWARDS.public_key(), as_dict=True),
        "secret": {"kty": "oct", "k": part(SECRET.encode())},
        "for encryption": jwt.algorithms.RSAAlgorithm.to_jwk(OTHER_RSA.public_key(), as_dict=True)
        | {"use": "enc"},
    }
    return {"keys": [{**value, "kid": name} for name, value in kinds.items()]}
