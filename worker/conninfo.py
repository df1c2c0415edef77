"""Where PostgreSQL is, as libpq reads it: a URL with one host or several, a socket's folder, a service, parameters.

Neither an error nor what is shown holds a part of a password, not even of one that was written wrongly: so whatever
is not plain to read is refused, and what libpq says of it is not repeated.
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

from psycopg import Error, pq

SCHEMES = ("postgres", "postgresql", "postgresql+psycopg")
MUST_BEGIN = "must begin with postgres://, postgresql:// or postgresql+psycopg://"
QUOTING = (
    "write postgresql://USER:PASSWORD@HOST:PORT/NAME, and in the password %40 for @, %3A for :, %2F for /, %3F for ?, "
    "%23 for #, %25 for %"
)
UNREADABLE = f"cannot be understood: {QUOTING}"
SECRETS = {"password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key"}
PORT_MAX = 65_535
SHOWN = re.compile(r"[^\x00-\x20@?#\\\"'<>]*")


def checked(url: str) -> dict[str, str]:
    """Return what libpq reads in `url`, by the names of its parameters.

    Raises:
        ValueError: it cannot be read, or what it says may be meant otherwise; no part of the URL is in the text but
            the name of a parameter.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in SCHEMES:
        raise ValueError(MUST_BEGIN)
    if not url.isprintable():
        raise ValueError(f"holds characters that cannot be written: {QUOTING}")
    _, *after = re.split(r"[/?]", rest, maxsplit=1)
    if rest.count("@") > 1 or any("@" in part for part in after):
        raise ValueError(UNREADABLE)
    _require_known(rest.partition("?")[2])
    read = _parsed(f"postgresql://{rest}")
    _require_ports(read.get("port", ""))
    return read


def spelled(url: str) -> str:
    """Return `url` in the spelling libpq takes, whichever of the three was given."""
    return f"postgresql://{url.partition('://')[2]}"


def mask(url: str) -> str:
    """Show a database URL without password and parameters; one that is not plain to read is not shown at all."""
    if not url:
        return ""
    scheme, _, rest = url.partition("://")
    try:
        read = checked(url)
    except ValueError:
        return f"{scheme}://***" if scheme in SCHEMES else "***"
    place, query, _ = rest.partition("?")
    hosts_and_name = place.rpartition("@")[2]
    if not SHOWN.fullmatch(hosts_and_name):
        return f"{scheme}://***"
    user = quote(read.get("user", ""), safe="") if "@" in place else ""
    return f"{scheme}://{f'{user}:***@' if user else ''}{hosts_and_name}{'?***' if query else ''}"


def _parsed(url: str) -> dict[str, str]:
    try:
        options = pq.Conninfo.parse(url.encode())
    except (Error, UnicodeEncodeError):  # what it says may quote a part of the password
        raise ValueError(UNREADABLE) from None
    return {o.keyword.decode(): o.val.decode() for o in options if o.val is not None}


def _require_known(query: str) -> None:
    """Refuse parameters that libpq does not know, such as those of other drivers, by their names."""
    known = {option.keyword.decode() for option in pq.Conninfo.get_defaults()} | {"ssl"}
    names = [unquote(part.partition("=")[0]) for part in query.split("&") if part]
    for name in names:
        if name not in known:  # after a password it may be the rest of one
            named = "a parameter" if SECRETS.intersection(names) else f"the parameter {name!r}"
            raise ValueError(f"has {named} that libpq does not know: leave it out")


def _require_ports(ports: str) -> None:
    for port in filter(None, ports.split(",")):
        if not port.isdecimal() or not 0 < int(port) <= PORT_MAX:
            raise ValueError(f"has a port that is no number from 1 to {PORT_MAX}; or {QUOTING}")
