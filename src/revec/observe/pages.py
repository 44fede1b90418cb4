"""A page that needs nothing but itself: no script, nothing from elsewhere; what it shows is text in it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse;width:100%;margin:.5rem 0 2rem}td,th{border:1px solid #ccc;padding:.3rem "
    ".5rem;text-align:left;vertical-align:top}th{background:#f3f3f3}code{white-space:pre-wrap;font-size:12px}"
)


def page(title: str, *parts: str) -> str:
    """The whole page; `parts` are of the functions below, or HTML already."""
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{text(title)}</title>'
        f"<style>{STYLE}</style><body><h1>{text(title)}</h1>{''.join(parts)}</body></html>\n"
    )


def paragraph(words: str) -> str:
    return f"<p>{text(words)}</p>"


def table(title: str, heads: Sequence[str], rows: Iterable[Iterable[Any]]) -> str:
    """A heading and a table; a cell that is a list or an object is shown as JSON."""
    head = "".join(f"<th>{text(each)}</th>" for each in heads)
    body = "".join(f"<tr>{''.join(f'<td>{_cell(each)}</td>' for each in row)}</tr>" for row in rows)
    return f"<h2>{text(title)}</h2><table><tr>{head}</tr>{body}</table>"


def code(value: Any) -> str:
    """Words of a machine, with their line breaks."""
    return f"<code>{text(value)}</code>"


def text(value: Any) -> str:
    return escape(str(value))


def _cell(value: Any) -> str:
    if isinstance(value, (dict, list)):
        return code(json.dumps(value, default=str, ensure_ascii=False, indent=1))
    return text(value)
