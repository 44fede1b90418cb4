"""Where a client begins: which way a target is reached."""

from __future__ import annotations

from revec.client.client import Client
from revec.client.shapes import Way, Whose
from revec.model.errors import BadInput, MissingExtra

OURS = ("http", "https")
DATABASES = ("postgresql", "postgres")


def connect(
    target: str | None = None, *, key: str | None = None, tenant: Whose = None, in_clear: bool = False
) -> Client:
    """A client of the Revec at `target`: `async with revec.connect(…) as client`, or `with ….sync()`.

    Args:
        target: `https://search.example` or `http://…`: a `revec serve`. `postgresql://…`: in this process,
            on that database. None: in this process, as the settings say (REVEC_DSN, else the embedded
            server).
        key: an API key or token, for a server.
        tenant: whose documents; then nobody else's can be asked for. None: each call may say. In process
            the default tenant's where it does not, over HTTP what the key reaches.
        in_clear: a key may go to another machine by http.

    Raises:
        BadInput: a target or key that cannot be one.
        MissingExtra: the way needs a package.
    """
    return Client(_way(target, key, in_clear=in_clear), tenant=tenant)


def _way(target: str | None, key: str | None, *, in_clear: bool) -> Way:
    scheme, found, _ = (target or "").partition("://")
    if found and scheme.lower() in OURS:
        return _remote(target or "", key, in_clear=in_clear)
    if key is not None:
        raise BadInput("a key is for a server, https://…: a database is reached by the login of its DSN")
    if target is None or scheme in DATABASES or (not found and "=" in target):
        return _inside(target)
    raise BadInput(
        "a target is postgresql://…, https://… or http://…; without one the settings say which database"
    )


def _remote(url: str, key: str | None, *, in_clear: bool) -> Way:
    try:
        from revec.client.remote import Remote
    except ModuleNotFoundError as error:
        raise MissingExtra("a client over HTTP", "client") from error
    return Remote(url, key, in_clear=in_clear)


def _inside(dsn: str | None) -> Way:
    from revec import settings
    from revec.client.inside import Inside

    def read() -> settings.Settings:
        said = settings.read()
        return said if dsn is None else said.model_copy(update={"dsn": dsn})

    return Inside(read)
