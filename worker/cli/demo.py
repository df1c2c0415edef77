"""`worker demo`: everything real but the proxy, which is simulated on loopback."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from pydantic import SecretStr

from worker.cli import show
from worker.config import Config, Upstream
from worker.db import database
from worker.errors import VerifyError
from worker.loading.pass_result import PassResult
from worker.reports import report
from worker.rollups import verify
from worker.simulator.proxy import Simulator
from worker.simulator.traffic import Traffic
from worker.sync import run as sync

SEED = 20261121
FIRST_CALLS, MORE_CALLS = 2500, 500
KEY = "EXAMPLE-management-key"

ShowPasses = Callable[[list[PassResult]], None]
ShowFigures = Callable[[report.Figures], None]


def run(*, keep: bool, passed: ShowPasses, reported: ShowFigures) -> None:
    """Do two passes over a simulated proxy into a real PostgreSQL and show what came of it.

    Args:
        keep: leave the database and the files where they are, and say where.
        passed: prints passes.
        reported: prints figures.

    Raises:
        DatabaseError: there is no PostgreSQL to start.
        VerifyError: rollups and records disagree.
    """
    folder = Path(tempfile.mkdtemp(prefix="worker-demo-"))
    folder.chmod(0o711)  # as root, PostgreSQL runs as another account, which must pass through
    try:
        _demonstrate(folder, passed, reported)
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
    if keep:
        show.say(
            "", f"Everything is still in {folder}. Look at it again with",
            f"  WORKER_DATA_DIR={folder} worker report models",
        )  # fmt: skip


def _demonstrate(folder: Path, passed: ShowPasses, reported: ShowFigures) -> None:
    traffic = Traffic(SEED, start=datetime.now(UTC) - timedelta(days=3))
    with Simulator(generation="queue", key=KEY, traffic=traffic) as proxy:
        upstream = Upstream(name="demo", url=proxy.url, key=SecretStr(KEY))
        config = Config(data_dir=folder, upstream=(upstream,))
        show.say(f"A simulated CLIProxyAPI {proxy.version} listens on {proxy.url}; PostgreSQL starts in {folder}.")
        with database.open_engine(config, make=True) as engine:
            for calls in (FIRST_CALLS, MORE_CALLS):
                show.say("", f"{calls} requests go through the proxy, then `worker sync --once`:")
                proxy.push(traffic.generate(calls))
                passed([sync.sync_once(config, engine, upstream)])
            show.say("", "`worker report channels`:")
            reported(report.figures(engine, "channels"))
            with database.transaction(engine) as connection:
                if any(verify.differences(connection, ZoneInfo("UTC"), None, None)):
                    raise VerifyError("rollups and records disagree; please report this")
            show.say("", "`worker verify`: rollups and records agree.")
