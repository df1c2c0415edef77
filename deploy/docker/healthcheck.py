"""HEALTHCHECK of the image: asks /livez of `worker run`. A container that does one pass has none, and is well."""

import argparse
import sys
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from worker.config import load

SERVICE = ("run", "sync")
EVERYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # it listens there; it is asked here


def main(command_line: Path = Path("/proc/1/cmdline")) -> int:
    """Return 0 when the container's own process is well, else 1."""
    words = command_line.read_bytes().decode(errors="replace").split("\0")
    if not set(words).intersection(SERVICE) or "--once" in words:
        return 0
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config", type=Path)
    http = load(parser.parse_known_args(words)[0].config).http
    if not http.port:
        return 0
    try:
        connection = HTTPConnection(EVERYWHERE.get(http.host, http.host), http.port, timeout=5)
        connection.request("GET", "/livez")
        return int(connection.getresponse().status != 200)  # noqa: PLR2004  # OK
    except (OSError, HTTPException):
        return 1


if __name__ == "__main__":
    sys.exit(main())
