"""How templates are read and what they may call: everything is escaped, and what is not there is an error."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from revec.model import duration
from revec.web.console.again import word
from revec.web.console.assets import address

KILO = 1024.0
CODE = re.compile(r"`([^`]+)`")
NOTHING = "-"


def number(value: float | None, places: int = 0) -> str:
    """With thousands apart; a dash where nobody knows."""
    return NOTHING if value is None else f"{value:,.{places}f}"


def figure(value: float | None) -> str:
    """Of whatever size: four digits that count."""
    return NOTHING if value is None else f"{value:,.4g}"


def percent(share: float | None, places: int = 0) -> str:
    return NOTHING if share is None else f"{100 * share:.{places}f}%"


def money(dollars: float | Decimal | None) -> str:
    """US dollars: four places below one, where a backfill's first documents are."""
    if dollars is None:
        return NOTHING
    return f"${dollars:,.4f}" if 0 < dollars < 1 else f"${dollars:,.2f}"


def sized(value: float | None) -> str:
    """Bytes, by powers of 1024."""
    if value is None:
        return NOTHING
    for unit in ("B", "kB", "MB", "GB"):
        if abs(value) < KILO:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 10 else f"{value:.1f} {unit}"  # noqa: PLR2004
        value /= KILO
    return f"{value:.1f} TB"


def lasting(seconds: float | None) -> str:
    """How long; a dash where nobody knows."""
    return NOTHING if seconds is None else duration.told(seconds)


def moment(at: datetime | None) -> str:
    """When; the browser shows it in its own time (console.js), the title in UTC."""
    return NOTHING if at is None else _time(at, "moment", f"{at.astimezone(UTC):%Y-%m-%d %H:%M}")


def ago(at: datetime | float | None) -> str:
    """How long since: of a moment, or of so many seconds."""
    if at is None:
        return NOTHING
    if not isinstance(at, datetime):
        return f"{lasting(at)} ago"
    since = (datetime.now(UTC) - at).total_seconds()
    return _time(at, "ago", "now" if since < 1 else f"{lasting(since)} ago")


def _time(at: datetime, kind: str, said: str) -> str:
    there = at.astimezone(UTC)
    return Markup('<time class="{}" datetime="{}" title="{}">{}</time>').format(
        kind, there.isoformat(timespec="seconds"), f"{there:%Y-%m-%d %H:%M:%S} UTC", said
    )


def begun(sentence: str) -> str:
    """With a capital letter, whoever wrote it for the end of another sentence."""
    return sentence[:1].upper() + sentence[1:]


def coded(sentence: Any) -> str:
    """A sentence of ours, with what stands in backticks as code."""
    return Markup(CODE.sub(r"<code>\1</code>", str(escape(sentence))))  # noqa: S704 - escaped above


def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("revec.web.console"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        number=number,
        figure=figure,
        percent=percent,
        money=money,
        bytes=sized,
        lasting=lasting,
        moment=moment,
        ago=ago,
        begun=begun,
        coded=coded,
        word=word,
    )
    made.globals["static"] = address
    return made


ENVIRONMENT = _environment()


def rendered(template: str, **facts: Any) -> str:
    return ENVIRONMENT.get_template(template).render(**facts)
