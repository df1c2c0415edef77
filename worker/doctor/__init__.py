"""Why there is no data: one small check for each cause that has ever been reported, and what to do about it.

Reads only. The queue is never asked, transactions are read-only, and a proxy that has refused the key is left alone.
What cannot be looked at, since something before it failed, is left out and not called well.

`folder` looks at the configuration and the data folder, `books` at the database, `proxy` at one proxy, and `consumer`
at whether what it served arrived.
"""

from __future__ import annotations

import threading

from worker.config import Config
from worker.doctor import books, folder, proxy
from worker.doctor.finding import Finding

__all__ = ["Finding", "examine"]


def examine(config: Config, *, interval_s: float, stopping: threading.Event | None = None) -> list[Finding]:
    """Look at everything that usage needs on its way from a proxy into the database.

    Args:
        config: what is configured.
        interval_s: the seconds from one pass to the next, against which the proxy's retention is held.
        stopping: once it is set, no question to a proxy is asked again.

    Returns:
        One finding for each check that could be made, in the order in which to put them right.
    """
    data_dir = folder.data_dir(config)
    findings = [data_dir, *folder.others(config, data_dir), *folder.configured(config)]
    found, known = books.examine(config, interval_s)
    findings += found
    if data_dir.level == "ok":  # else a refusal could not be remembered, and five who ask again are banned
        for upstream in config.upstream:
            book = known.get(upstream.name, books.Book()) if known is not None else None
            findings += proxy.examine(config, upstream, book, interval_s, stopping)
    return findings
