"""The commands that ask again what a page asked: to be copied into a shell, whatever the words are.

A key is never in them: `$REVEC_KEY` stands for it.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from revec.web.bodies import Question

KEY = "$REVEC_KEY"


def curl(base: str, collection: str, question: Question) -> str:
    """By HTTP; `base`: the server's address, with a slash at its end."""
    asked = question.model_dump(mode="json", exclude_defaults=True)
    address = f"{base}v1/collections/{quote(collection, safe='')}/search"
    return " ".join(
        ["curl -sS", f'-H "Authorization: Bearer {KEY}"', "--json", word(json.dumps(asked)), word(address)]
    )


def search(collection: str, question: Question, *, tenant: str | None) -> str:
    """By the CLI, which asks the index that serves; `tenant` None: of all."""
    options: Mapping[str, Any] = {
        "k": question.k,
        "mode": question.mode,
        "tenant": tenant,
        "filter": question.filter,
    }
    said = [f"--{name}={word(str(value))}" for name, value in options.items() if value is not None]
    everybody = ["--all-tenants"] if tenant is None else []
    return " ".join(
        ["revec search", *said, *everybody, "--explain", "--", word(collection), word(question.q)]
    )


def word(text: str) -> str:
    """One word of a shell; what a terminal would obey, or nobody would see, is written as its number."""
    if text.isprintable():
        return shlex.quote(text)
    return f"$'{''.join(map(_character, text))}'"


def _character(one: str) -> str:
    if one in {"'", "\\"}:
        return f"\\{one}"
    if one.isprintable():
        return one
    return f"\\U{ord(one):08x}" if ord(one) > 0xFFFF else f"\\u{ord(one):04x}"  # noqa: PLR2004
