"""What belongs to a database and not to one worker: the time zone of the days, the pepper of the digests."""

from __future__ import annotations

import secrets
from hashlib import sha256

from worker.db.database import Connection
from worker.errors import ConfigError

SELECT_SETTING = "SELECT value FROM usage.setting WHERE key = %s"
UPDATE_SETTING = """
INSERT INTO usage.setting (key, value) VALUES (%s, %s) ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value
"""
INSERT_SETTING = "INSERT INTO usage.setting (key, value) VALUES (%s, %s) ON CONFLICT (key) DO NOTHING"


def rollup_timezone(connection: Connection, configured: str) -> str:
    """Return the zone whose days the rollups hold; the first worker's configuration decides it.

    Raises:
        ConfigError: the rollups were built for another zone than the configured one.
    """
    connection.execute(INSERT_SETTING, ["timezone", configured])
    stored = setting(connection, "timezone")
    if stored != configured:
        raise ConfigError(
            f"rollup.timezone is {configured!r}, but the days in this database are those of {stored!r}. "
            f"Set it back, or rebuild the days with `worker rebuild --timezone {configured}`."
        )
    return configured


def setting(connection: Connection, key: str) -> str | None:
    """Return what the database holds under `key`; None where nothing does."""
    row = connection.execute(SELECT_SETTING, [key]).fetchone()
    return str(row[0]) if row else None


def change_setting(connection: Connection, key: str, value: str) -> None:
    """Make `value` what the database holds under `key`."""
    connection.execute(UPDATE_SETTING, [key, value])


def pepper(connection: Connection, configured: str) -> bytes:
    """Return the secret under which keys are digested: the configured one, else one the database keeps.

    It must be the same for ever and for every worker: the identity of each record hangs on it.

    Raises:
        ConfigError: the configured pepper is not the one this database was begun with.
    """
    mine = f"configured:{_proof(configured)}" if configured else f"stored:{secrets.token_hex(32)}"
    connection.execute(INSERT_SETTING, ["pepper", mine])
    return fitting_pepper(setting(connection, "pepper") or "", configured)


def fitting_pepper(kept: str, configured: str) -> bytes:
    """Return the secret that `kept`, the database's setting, and the configured pepper come to.

    Raises:
        ConfigError: the configured pepper is not the one this database was begun with.
    """
    kind, _, value = kept.partition(":")
    if kind == "stored" and not configured:
        return bytes.fromhex(value)
    if kind == "configured" and configured and value == _proof(configured):
        return configured.encode()
    wanted = "the pepper that was configured when it was begun" if kind == "configured" else "no pepper of its own"
    raise ConfigError(f"security.pepper (WORKER_PEPPER) does not fit: this database goes with {wanted}")


def _proof(configured: str) -> str:
    return sha256(b"pepper check:" + configured.encode()).hexdigest()
