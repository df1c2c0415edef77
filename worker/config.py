"""One frozen configuration, read once: TOML, then the environment over it; anything unknown or bad is refused."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import date, time
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Self, cast
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from worker import conninfo
from worker.errors import ConfigError

PREFIX = "WORKER_"
NESTED = "WORKER__"

# The short names of the contract, and the TOML key each of them sets.
SHORT_NAMES = {
    "WORKER_DATABASE_URL": ("database", "url"),
    "WORKER_UPSTREAM_URL": ("upstream", 0, "url"),
    "WORKER_UPSTREAM_KEY": ("upstream", 0, "key"),
    "WORKER_UPSTREAM_NAME": ("upstream", 0, "name"),
    "WORKER_UPSTREAM_MODE": ("upstream", 0, "mode"),
    "WORKER_TIMEZONE": ("rollup", "timezone"),
    "WORKER_DATA_DIR": ("data_dir",),
    "WORKER_PEPPER": ("security", "pepper"),
    "WORKER_HTTP_PORT": ("http", "port"),
    "WORKER_LOG_LEVEL": ("log", "level"),
    "WORKER_LOG_FORMAT": ("log", "format"),
}
SECRET_NAMES = {"WORKER_DATABASE_URL", "WORKER_UPSTREAM_KEY", "WORKER_PEPPER"}
SEVERAL = ("upstream", "prices.own")
"""The tables that there may be several of."""

NOT_OURS = re.compile(r"WORKER_CONFIG|WORKER_(?:SERVICE|PORT)(?:_[A-Z0-9_]+)?")
"""WORKER_CONFIG is read beforehand; the others Kubernetes sets beside a Service called `worker`."""

NO_UPSTREAM = "no upstream is configured: set WORKER_UPSTREAM_URL and WORKER_UPSTREAM_KEY"
HEADER_TEXT = re.compile(r"[\x21-\x7e]+(?: [\x21-\x7e]+)*")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
HOURS = r"^(?:(?:[01]\d|2[0-3]):[0-5]\d-(?:[01]\d|2[0-3]):[0-5]\d)?$"
CLOCK = r"^(?:(?:[01]\d|2[0-3]):[0-5]\d)?$"
FILE_KEYS = ("ca_file", "client_cert_file", "client_key_file")
"""Keys of an upstream that name a file themselves."""

MONTH_DAYS = 31
RATE_MAX_USD = 1_000_000
"""The highest price there is, per million tokens or per request; a higher one has lost its decimal point."""


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (KeyError, ValueError, OSError) as e:
        raise ValueError(f"{value!r} is not an IANA time zone such as Europe/Berlin or UTC") from e
    return value


def _base_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an http:// or https:// URL with a host")
    _ = parts.port  # raises where it is no number, or none of a port
    if parts.username or parts.password or parts.query:
        raise ValueError("must not hold a user, a password or a query; the key belongs in `key`")
    return value.rstrip("/")


def _upstream_name(value: str) -> str:
    if not NAME.fullmatch(value):
        raise ValueError("must be 1 to 63 letters, digits, '.', '_' or '-', and begin with a letter or digit")
    return value


class Section(BaseModel):
    """A table of the configuration file."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Upstream(Section):
    """One proxy whose usage is pulled."""

    name: Annotated[str, AfterValidator(_upstream_name)] = "default"
    url: Annotated[str, AfterValidator(_base_url)]
    key: SecretStr
    mode: Literal["auto", "queue", "snapshot", "home"] = "auto"
    timeout_s: Annotated[float, Field(gt=0, le=3600)] = 60.0
    queue_count: Annotated[int, Field(ge=1, le=100_000)] = 1000
    max_body_bytes: Annotated[int, Field(ge=1 << 16)] = 2 << 30
    ca_file: str = ""
    client_cert_file: str = ""
    client_key_file: str = ""

    @field_validator("key")
    @classmethod
    def _plain_key(cls, key: SecretStr) -> SecretStr:
        text = key.get_secret_value().strip()
        if not text:
            raise ValueError("is empty: it must be the proxy's management key")
        if not HEADER_TEXT.fullmatch(text):
            raise ValueError("holds characters that no HTTP header can carry")
        if text.startswith(("$2a$", "$2b$", "$2y$")):
            raise ValueError("is the bcrypt hash that the proxy stores; give the plain management key")
        return SecretStr(text)

    @model_validator(mode="after")
    def _over_tls(self) -> Self:
        files = [name for name in FILE_KEYS if getattr(self, name)]
        if files and not self.url.lower().startswith("https:"):
            raise ValueError(f"{files[0]} is for an https:// URL, and this one has no certificates")
        if self.client_key_file and not self.client_cert_file:
            raise ValueError("client_key_file is the key of a client_cert_file, and there is none")
        return self


class Database(Section):
    """Where PostgreSQL is. Without a URL the worker runs an embedded one in its data folder."""

    url: SecretStr = SecretStr("")

    @field_validator("url")
    @classmethod
    def _postgres(cls, url: SecretStr) -> SecretStr:
        if url.get_secret_value():
            conninfo.checked(url.get_secret_value())
        return url


class Rollup(Section):
    """How days are cut."""

    timezone: Annotated[str, AfterValidator(_zone)] = "UTC"


class Schedule(Section):
    """How often `worker run` does what."""

    interval_s: Annotated[float, Field(ge=1, le=86_400)] = 15.0
    jitter_s: Annotated[float, Field(ge=0, le=3600)] = 2.0
    directory_s: Annotated[float, Field(ge=1, le=86_400)] = 300.0
    backoff_max_s: Annotated[float, Field(ge=1, le=3600)] = 60.0
    maintain_s: Annotated[float, Field(ge=1, le=86_400)] = 3600.0
    verify_at: Annotated[str, Field(pattern=CLOCK)] = "03:20"


class Http(Section):
    """Where `worker run` answers probes and Prometheus. Port 0: nowhere."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 9469


class Channels(Section):
    """How records find their channel, beyond index and key."""

    match_account: bool = False


Rate = Annotated[Decimal, Field(ge=0, le=RATE_MAX_USD, decimal_places=6)]


class OwnPrice(Section):
    """A price of the operator's own; it goes before those of the dataset.

    An empty provider or channel fits all; an empty service tier is the standard one, `*` every one without a price of
    its own. Days are those of the rollup time zone, hours are UTC. A rate that is left out is not known: requests with
    such tokens have no cost.
    """

    model: Annotated[str, Field(min_length=1, max_length=150)]
    provider: str = ""
    channel: str = ""
    service_tier: str = ""
    above_input_tokens: Annotated[int, Field(ge=0, le=10**9)] = 0
    valid_from: date | None = None
    valid_to: date | None = None
    hours: Annotated[str, Field(pattern=HOURS)] = ""
    input_usd_per_mtok: Rate | None = None
    cache_read_usd_per_mtok: Rate | None = None
    cache_write_usd_per_mtok: Rate | None = None
    cache_write_1h_usd_per_mtok: Rate | None = None
    output_usd_per_mtok: Rate | None = None
    request_usd: Annotated[Decimal, Field(ge=0, le=RATE_MAX_USD, decimal_places=12)] | None = None

    @model_validator(mode="after")
    def _holds_sometimes(self) -> Self:
        if self.valid_from and self.valid_to and self.valid_from >= self.valid_to:
            raise ValueError("valid_to must be a day after valid_from: the first on which it no longer holds")
        hours = self.span_of_hours()
        if hours and hours[0] == hours[1]:
            raise ValueError("hours must begin and end at different times")
        return self

    def span_of_hours(self) -> tuple[time, time] | None:
        """Return begin and end of the hours of the day in which it holds; None when it holds in all."""
        begins, _, ends = self.hours.partition("-")
        return (time.fromisoformat(begins), time.fromisoformat(ends)) if self.hours else None


class Prices(Section):
    """What requests cost: an operator's own prices, then those that ship with the program."""

    dataset: bool = True
    download_url: str = ""
    download_s: Annotated[float, Field(ge=0, le=31_536_000)] = 0.0
    own: tuple[OwnPrice, ...] = ()


class Journal(Section):
    """The payloads on disk that no transaction has committed yet."""

    max_bytes: Annotated[int, Field(ge=1 << 20)] = 1 << 30


def _whole_months(days: int) -> int:
    if 0 < days < MONTH_DAYS:
        raise ValueError(f"must be 0 (for ever) or at least {MONTH_DAYS}: records are dropped by whole months")
    return days


class Retention(Section):
    """For how many days what is kept; 0 is for ever. Rollups always stay."""

    records_days: Annotated[int, Field(ge=0, le=36_500), AfterValidator(_whole_months)] = 0
    quarantine_days: Annotated[int, Field(ge=0, le=36_500)] = 0
    runs_days: Annotated[int, Field(ge=0, le=36_500)] = 90


class Security(Section):
    """The secret under which keys are digested. Empty: the database keeps one that it made itself."""

    pepper: SecretStr = SecretStr("")


class Log(Section):
    """What is logged to stderr, and how."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "console", "json"] = "auto"


def default_data_dir() -> Path:
    """Return the data folder that is used when none is configured."""
    if os.geteuid() == 0:
        return Path("/var/lib/usage-worker")
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    try:
        return Path(state).expanduser() / "usage-worker"
    except RuntimeError as e:
        raise ConfigError("data_dir: this account has no home folder: set data_dir (WORKER_DATA_DIR)") from e


class Config(BaseSettings):
    """The whole configuration. Every key stands in config.example.toml with its default and unit."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True)

    data_dir: Path = Field(default_factory=default_data_dir)
    upstream: tuple[Upstream, ...] = ()
    database: Database = Database()
    rollup: Rollup = Rollup()
    schedule: Schedule = Schedule()
    http: Http = Http()
    channels: Channels = Channels()
    prices: Prices = Prices()
    journal: Journal = Journal()
    retention: Retention = Retention()
    security: Security = Security()
    log: Log = Log()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take values from `load` alone: it reads file and environment and can name what is wrong in either."""
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)

    @field_validator("data_dir")
    @classmethod
    def _absolute(cls, path: Path) -> Path:
        try:
            return path.expanduser().absolute()
        except RuntimeError as e:  # ~ or ~name, and there is no such folder
            raise ValueError("begins with ~, and there is no such home folder: write it out") from e

    @field_validator("upstream")
    @classmethod
    def _names_differ(cls, upstreams: tuple[Upstream, ...]) -> tuple[Upstream, ...]:
        names = [u.name for u in upstreams]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two upstreams are called {name!r}: give each its own name")
        return upstreams

    def find_upstream(self, name: str) -> Upstream:
        """Return the upstream called `name`, or raise ConfigError naming the ones there are."""
        for upstream in self.upstream:
            if upstream.name == name:
                return upstream
        known = ", ".join(u.name for u in self.upstream) or "none"
        raise ConfigError(f"no upstream is called {name!r} (configured: {known})")


def load(file: Path | None = None, environ: Mapping[str, str] | None = None) -> Config:
    """Read the configuration.

    Args:
        file: the file given on the command line; it must exist. Without it $WORKER_CONFIG, else ./config.toml
            where there is one.
        environ: the environment; the process's own by default.

    Raises:
        ConfigError: a file is missing or is no TOML, a key is unknown, a value is bad. The text names the key and
            the file or variable it came from.
    """
    env = os.environ if environ is None else environ
    path = _config_file(file, env)
    tree = _read_toml(path) if path else {}
    for name in SEVERAL:
        _require_several(tree, name, path)
    origin: dict[tuple[str | int, ...], str] = {}
    if hidden := [key for key in tree if key.startswith("_")]:
        raise ConfigError(f"{path}: {hidden[0]}: is not a known key")
    for variable, keys, value in sorted(_from_environment(env), key=_in_order):
        if keys in origin:
            raise ConfigError(f"both {origin[keys]} and {variable} are set: keep one of them")
        if str(keys[0]).startswith("_"):
            raise ConfigError(f"{variable}: {keys[0]}: is not a known key")
        _set(tree, keys, value, variable)
        origin[keys] = variable
    try:
        return Config(**tree)
    except ValidationError as e:
        raise ConfigError(*_explain(e, origin, path)) from None


def masked(config: Config) -> dict[str, Any]:
    """Return the effective configuration with every secret masked, ready for JSON."""
    shown: dict[str, Any] = config.model_dump(mode="json")
    shown["database"]["url"] = conninfo.mask(config.database.url.get_secret_value())
    shown["security"]["pepper"] = "***" if config.security.pepper.get_secret_value() else ""
    for upstream in shown["upstream"]:
        upstream["key"] = "***"
    return shown


def _config_file(file: Path | None, env: Mapping[str, str]) -> Path | None:
    if file is None and env.get("WORKER_CONFIG"):
        file = Path(env["WORKER_CONFIG"])
    if file is None:
        implied = Path("config.toml")
        with suppress(PermissionError):  # in a folder that is shut to us, as after `sudo -u`, there is none for us
            return implied if implied.is_file() else None
        return None
    with suppress(OSError):  # reading it says why
        if not file.is_file():
            raise ConfigError(f"the configuration file {file} does not exist")
    return file


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise ConfigError(f"{path} is not valid TOML: {e}") from e
    except OSError as e:
        raise ConfigError(f"{path} cannot be read: {e.strerror}") from e


def _require_several(tree: Mapping[str, Any], name: str, path: Path | None) -> None:
    """Refuse a table in single brackets where there may be several."""
    found: Any = tree
    for key in name.split("."):
        found = cast("dict[str, Any]", found).get(key) if isinstance(found, dict) else None
    if isinstance(found, dict):
        raise ConfigError(f"{path}: {name}: there may be several of it: write [[{name}]], in double brackets")


def _from_environment(env: Mapping[str, str]) -> Iterator[tuple[str, tuple[str | int, ...], Any]]:
    """Yield (variable, key path, value) for every variable of ours; an empty value counts as not set."""
    for variable in sorted(env):
        if not variable.startswith(PREFIX) or NOT_OURS.fullmatch(variable) or not env[variable]:
            continue
        name, value = variable, env[variable]
        if name.endswith("_FILE") and name.removesuffix("_FILE") in SECRET_NAMES:
            name, value = name.removesuffix("_FILE"), _read_secret(variable, value)
        if name in SHORT_NAMES:
            yield variable, SHORT_NAMES[name], value
        elif name.startswith(NESTED):
            keys = tuple(int(k) if k.isdigit() else k for k in name.removeprefix(NESTED).lower().split("__"))
            if isinstance(keys[-1], str) and keys[-1].endswith("_file") and keys[-1] not in FILE_KEYS:
                keys, value = (*keys[:-1], keys[-1].removesuffix("_file")), _read_secret(variable, value)
            yield variable, keys, value
        else:
            raise ConfigError(f"the variable {variable} is not one of ours: see config.example.toml for all keys")


def _in_order(found: tuple[str, tuple[str | int, ...], Any]) -> list[tuple[bool, int, str]]:
    """Order variables so that tables are counted 0, 1, … 10."""
    return [(isinstance(k, str), k if isinstance(k, int) else 0, str(k)) for k in found[1]]


def _read_secret(variable: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(f"{variable} names {path}, which cannot be read: {e}") from e


def _set(tree: dict[str, Any], keys: tuple[str | int, ...], value: str, variable: str) -> None:
    """Put `value` at the key path; the number in it counts the tables of `upstream` from 0."""
    here, path = tree, list(keys)
    while len(path) > 1:
        key = str(path.pop(0))
        if path and isinstance(path[0], int):
            here = _table(here.setdefault(key, []), path.pop(0), variable)
        else:
            here = _as_table(here.setdefault(key, {}), variable)
    if not path or isinstance(path[0], int):
        raise ConfigError(f"the variable {variable} must name a key of a table, such as {NESTED}UPSTREAM__0__URL")
    here[path[0]] = value


def _table(tables: Any, index: str | int, variable: str) -> dict[str, Any]:
    count = len(tables) if hasattr(tables, "append") else -1
    if not isinstance(index, int) or index > count:
        raise ConfigError(f"the variable {variable} must count tables from 0 without a gap")
    if index == count:
        tables.append({})
    return _as_table(tables[index], variable)


def _as_table(value: Any, variable: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"the variable {variable} names a key below one that is no table")
    return cast("dict[str, Any]", value)


def _explain(error: ValidationError, origin: dict[tuple[str | int, ...], str], path: Path | None) -> Iterator[str]:
    for problem in error.errors(include_url=False, include_input=False, include_context=False):
        keys = tuple(problem["loc"])
        name = ".".join(str(k) for k in keys)
        text = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            text = "is not a known key"
        elif problem["type"] == "missing":
            text = "is missing"
        elif problem["type"] == "model_type":
            text = f"must be one table: write [{name}], in single brackets"
        near = (v for k, v in origin.items() if k[: len(keys)] == keys or keys[: len(k)] == k)
        yield f"{origin.get(keys) or path or next(near, 'configuration')}: {name}: {text}"
