"""The configuration: every name it goes by, what wins, and that what is wrong is named and no secret shown."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.config import Config, OwnPrice, Upstream, default_data_dir, load, masked
from worker.errors import ConfigError

EXAMPLE = Path(__file__).parents[1] / "config.example.toml"
SECRET = "EXAMPLE-hidden-1234"
BASE = {"WORKER_UPSTREAM_URL": "http://127.0.0.1:8317", "WORKER_UPSTREAM_KEY": SECRET}
NESTED_BASE = {"WORKER__UPSTREAM__0__URL": "http://127.0.0.1:8317", "WORKER__UPSTREAM__0__KEY": SECRET}


@pytest.fixture(autouse=True)
def _nowhere(tmp_path, monkeypatch):
    """No test finds the ./config.toml or the WORKER_ variables of whoever runs it."""
    monkeypatch.chdir(tmp_path)
    for variable in [name for name in os.environ if name.startswith("WORKER_")]:
        monkeypatch.delenv(variable)


def write(name, text):
    path = Path(name).absolute()
    path.write_text(text, encoding="utf-8")
    return path


def toml(text):
    return load(write("worker.toml", text), {})


def plain(config, *keys):
    """The value at a key path, secrets in clear."""
    value = config
    for key in keys:
        value = value[key] if isinstance(key, int) else getattr(value, key)
    return value.get_secret_value() if hasattr(value, "get_secret_value") else value


def refusal(environ=None, file=None):
    with pytest.raises(ConfigError) as refused:
        load(file, environ or {})
    assert SECRET not in str(refused.value)
    assert SECRET not in repr(refused.value.__cause__)
    return str(refused.value)


# -- environment variables -----------------------------------------------------------------------------------------

SHORT = [
    ("WORKER_DATABASE_URL", "postgres://u@db.example.net/usage", ("database", "url"), None),
    ("WORKER_UPSTREAM_URL", "https://cpa.example.net", ("upstream", 0, "url"), None),
    ("WORKER_UPSTREAM_KEY", "another-key", ("upstream", 0, "key"), None),
    ("WORKER_UPSTREAM_NAME", "berlin", ("upstream", 0, "name"), None),
    ("WORKER_UPSTREAM_MODE", "snapshot", ("upstream", 0, "mode"), None),
    ("WORKER_TIMEZONE", "Asia/Shanghai", ("rollup", "timezone"), None),
    ("WORKER_DATA_DIR", "/srv/worker", ("data_dir",), Path("/srv/worker")),
    ("WORKER_PEPPER", "a-pepper", ("security", "pepper"), None),
    ("WORKER_LOG_LEVEL", "debug", ("log", "level"), None),
    ("WORKER_LOG_FORMAT", "json", ("log", "format"), None),
]
NESTED = [
    *((f"WORKER__{'__'.join(str(k) for k in keys).upper()}", told, keys, meant) for _, told, keys, meant in SHORT),
    ("WORKER__UPSTREAM__0__TIMEOUT_S", "2.5", ("upstream", 0, "timeout_s"), 2.5),
    ("WORKER__UPSTREAM__0__QUEUE_COUNT", "500", ("upstream", 0, "queue_count"), 500),
    ("WORKER__UPSTREAM__0__MAX_BODY_BYTES", "1000000", ("upstream", 0, "max_body_bytes"), 1_000_000),
    ("WORKER__JOURNAL__MAX_BYTES", "5000000", ("journal", "max_bytes"), 5_000_000),
]


@pytest.mark.parametrize(("variable", "told", "keys", "meant"), SHORT + NESTED, ids=[v for v, *_ in SHORT + NESTED])
def test_a_variable_sets_its_key(variable, told, keys, meant):
    base = NESTED_BASE if variable.startswith("WORKER__") else BASE
    default = load(None, base)
    config = load(None, base | {variable: told})
    assert plain(config, *keys) == (meant or told)
    assert plain(default, *keys) != (meant or told)


SECRETS = [
    ("WORKER_DATABASE_URL_FILE", f"postgres://u:{SECRET}@h/d", ("database", "url")),
    ("WORKER_UPSTREAM_KEY_FILE", SECRET, ("upstream", 0, "key")),
    ("WORKER_PEPPER_FILE", SECRET, ("security", "pepper")),
    ("WORKER__DATABASE__URL_FILE", f"postgres://u:{SECRET}@h/d", ("database", "url")),
    ("WORKER__UPSTREAM__0__KEY_FILE", SECRET, ("upstream", 0, "key")),
    ("WORKER__SECURITY__PEPPER_FILE", SECRET, ("security", "pepper")),
]
URL_ONLY = {"WORKER_UPSTREAM_URL": "http://127.0.0.1:8317"}


@pytest.mark.parametrize(("variable", "content", "keys"), SECRETS, ids=[v for v, *_ in SECRETS])
@pytest.mark.parametrize("around", ["{}", "{}\n", "  {}\r\n"], ids=["bare", "line", "blanks"])
def test_a_secret_may_stand_in_a_file(variable, content, keys, around):
    base = URL_ONLY if "KEY" in variable else BASE
    path = write("secret", around.format(content))
    assert plain(load(None, base | {variable: str(path)}), *keys) == content


@pytest.mark.parametrize("variable", [v for v, *_ in SECRETS])
def test_a_secret_file_that_cannot_be_read_is_named(variable):
    base = URL_ONLY if "KEY" in variable else BASE
    assert refusal(base | {variable: "/nowhere/secret"}).startswith(f"{variable} names /nowhere/secret, which cannot")
    Path("binary").write_bytes(b"\xff\xfe")
    assert f"{variable} names binary, which cannot be read" in refusal(base | {variable: "binary"})


@pytest.mark.parametrize(("short", "told", "keys", "_"), SHORT, ids=[v for v, *_ in SHORT])
def test_a_key_given_by_two_variables_is_refused(short, told, keys, _):
    nested = f"WORKER__{'__'.join(str(k) for k in keys).upper()}"
    assert refusal({short: told, nested: told}) == f"both {short} and {nested} are set: keep one of them"


@pytest.mark.parametrize("name", ["WORKER_DATABASE_URL", "WORKER_UPSTREAM_KEY", "WORKER_PEPPER"])
def test_a_secret_given_twice_is_refused(name):
    path = write("secret", SECRET)
    text = refusal(URL_ONLY | {name: "postgres://h/d", f"{name}_FILE": str(path)})
    assert text == f"both {name} and {name}_FILE are set: keep one of them"


@pytest.mark.parametrize("name", ["WORKER_UPSTREAM_URL_FILE", "WORKER_TIMEZONE_FILE", "WORKER_LOG_LEVEL_FILE"])
def test_what_is_no_secret_has_no_file_form(name):
    assert name in refusal(BASE | {name: str(write("x", "UTC"))})


def test_several_upstreams_can_be_given_by_variables_alone():
    environ = {
        f"WORKER__UPSTREAM__{i}__{key}": value
        for i in range(12)
        for key, value in (("NAME", f"proxy-{i}"), ("URL", f"http://10.0.0.{i}"), ("KEY", f"key-{i}"))
    }
    assert [(u.name, u.url, u.key.get_secret_value()) for u in load(None, environ).upstream] == [
        (f"proxy-{i}", f"http://10.0.0.{i}", f"key-{i}") for i in range(12)
    ]


def test_upstreams_must_be_counted_without_a_gap():
    text = refusal(BASE | {"WORKER__UPSTREAM__2__URL": "http://h"})
    assert text == "the variable WORKER__UPSTREAM__2__URL must count tables from 0 without a gap"


def test_an_empty_variable_counts_as_not_set():
    empty = dict.fromkeys([v for v, *_ in SHORT + NESTED if v not in BASE] + ["WORKER_CONFIG", "WORKER_NO_KEY"], "")
    assert load(None, BASE | empty) == load(None, BASE)


def test_variables_that_are_not_ours_are_none_of_our_business():
    others = {"PATH": "/bin", "WORKERS": "4", "worker_timezone": "Mars", "MY_WORKER_KEY": "x"}
    beside_a_service_called_worker = {
        "WORKER_SERVICE_HOST": "10.0.0.1", "WORKER_SERVICE_PORT": "80", "WORKER_SERVICE_PORT_HTTP": "80",
        "WORKER_PORT": "tcp://10.0.0.1:80", "WORKER_PORT_80_TCP": "tcp://10.0.0.1:80",
        "WORKER_PORT_80_TCP_PROTO": "tcp", "WORKER_PORT_80_TCP_ADDR": "10.0.0.1",
    }  # fmt: skip
    others |= beside_a_service_called_worker
    assert load(None, BASE | others) == load(None, BASE)


def test_without_an_environment_the_processs_own_is_read(monkeypatch):
    monkeypatch.setenv("WORKER_TIMEZONE", "Europe/Berlin")
    assert load().rollup.timezone == "Europe/Berlin"


# -- files ---------------------------------------------------------------------------------------------------------

FULL = f"""
data_dir = "/srv/worker"

[[upstream]]
name = "one"
url = "http://127.0.0.1:8317/"
key = "{SECRET}"
mode = "queue"
timeout_s = 5
queue_count = 10
max_body_bytes = 65536

[[upstream]]
name = "two"
url = "https://cpa.example.net/v0/management"
key = "{SECRET}-2"

[database]
url = "postgresql://u:{SECRET}@db.example.net/usage"

[rollup]
timezone = "Asia/Shanghai"

[journal]
max_bytes = 1048576

[security]
pepper = "{SECRET}"

[log]
level = "warning"
format = "json"
"""


def test_a_file_sets_every_key():
    config = toml(FULL)
    assert config.data_dir == Path("/srv/worker")
    one, two = config.upstream
    assert (one.name, one.url, plain(one, "key"), one.mode) == ("one", "http://127.0.0.1:8317", SECRET, "queue")
    assert (one.timeout_s, one.queue_count, one.max_body_bytes) == (5.0, 10, 65536)
    assert (two.name, two.url, plain(two, "key")) == ("two", "https://cpa.example.net/v0/management", f"{SECRET}-2")
    assert (two.mode, two.timeout_s, two.queue_count, two.max_body_bytes) == ("auto", 60.0, 1000, 2 << 30)
    assert plain(config, "database", "url") == f"postgresql://u:{SECRET}@db.example.net/usage"
    assert (config.rollup.timezone, config.journal.max_bytes) == ("Asia/Shanghai", 1 << 20)
    assert (plain(config, "security", "pepper"), config.log.level, config.log.format) == (SECRET, "warning", "json")


def test_without_anything_the_defaults_stand():
    config = load(None, {})
    assert config.upstream == ()
    assert plain(config, "database", "url") == plain(config, "security", "pepper") == ""
    assert (config.rollup.timezone, config.journal.max_bytes) == ("UTC", 1 << 30)
    assert (config.log.level, config.log.format) == ("info", "auto")
    assert config.data_dir == default_data_dir()


def test_a_variable_wins_over_the_file_and_leaves_the_rest():
    path = write("worker.toml", FULL)
    config = load(
        path,
        {
            "WORKER_UPSTREAM_NAME": "first",
            "WORKER__UPSTREAM__1__MODE": "snapshot",
            "WORKER_TIMEZONE": "UTC",
            "WORKER__LOG__LEVEL": "error",
        },
    )
    assert [(u.name, u.mode) for u in config.upstream] == [("first", "queue"), ("two", "snapshot")]
    assert (config.rollup.timezone, config.log.level, config.log.format) == ("UTC", "error", "json")
    assert plain(config, "upstream", 0, "key") == SECRET


def test_a_variable_may_add_an_upstream_to_those_of_the_file():
    more = {"WORKER__UPSTREAM__2__URL": "http://h", "WORKER__UPSTREAM__2__KEY": "k", "WORKER__UPSTREAM__2__NAME": "3"}
    assert [u.name for u in load(write("worker.toml", FULL), more).upstream] == ["one", "two", "3"]


def test_the_file_is_the_one_given_then_the_variables_then_the_one_at_hand():
    given, named = write("given.toml", '[rollup]\ntimezone = "Asia/Tokyo"'), write("named.toml", "[log]\nlevel='error'")
    write("config.toml", '[rollup]\ntimezone = "Asia/Seoul"')
    variable = {"WORKER_CONFIG": str(named)}
    assert load(given, variable).rollup.timezone == "Asia/Tokyo"
    assert load(given, variable).log.level == "info"
    assert load(None, variable).log.level == "error"
    assert load(None, variable).rollup.timezone == "UTC"
    assert load(None, {}).rollup.timezone == "Asia/Seoul"
    Path("config.toml").unlink()
    assert load(None, {}).rollup.timezone == "UTC"


@pytest.mark.parametrize("missing", ["nowhere.toml", "folder"])
def test_a_file_that_was_named_must_be_there(missing):
    Path("folder").mkdir()
    assert refusal(file=Path(missing)) == f"the configuration file {missing} does not exist"
    assert refusal({"WORKER_CONFIG": missing}) == f"the configuration file {missing} does not exist"


@pytest.mark.parametrize("content", [b"[log\n", b"level = info", b"\xff\xfe", b"a = 1\na = 2"])
def test_a_file_that_is_no_toml_is_named(content):
    Path("broken.toml").write_bytes(content)
    assert "broken.toml is not valid TOML: " in refusal(file=Path("broken.toml"))


def test_files_are_read_as_utf8_whatever_the_locale():
    path, pepper = write("worker.toml", 'data_dir = "/srv/wörker-研究"'), write("pepper", "pfeffer-ß")
    code = (
        "from worker.config import load; c = load(); print(ascii([str(c.data_dir), c.security.pepper._secret_value]))"
    )
    old = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    environ = os.environ | {"WORKER_CONFIG": str(path), "WORKER_PEPPER_FILE": str(pepper)} | old
    ran = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=False)
    assert ran.stdout.strip() == ascii(["/srv/wörker-研究", "pfeffer-ß"]), ran.stderr[-500:]


def test_the_example_stands_at_the_defaults():
    assert load(EXAMPLE, BASE) == load(None, BASE)


def test_the_example_names_every_key_there_is():
    text = EXAMPLE.read_text(encoding="utf-8").replace("#[[", "[[")
    lines = [
        line[1:] if line[:1] == "#" and line[1:2].isalpha() and " = " in line else line for line in text.split("\n")
    ]
    shown = tomllib.loads("\n".join(lines))
    assert shown.keys() == Config.model_fields.keys()
    assert shown["upstream"][0].keys() == Upstream.model_fields.keys()
    assert shown["prices"]["own"][0].keys() == OwnPrice.model_fields.keys()
    for name, field in Config.model_fields.items():
        if name not in ("data_dir", "upstream"):
            assert shown[name].keys() == field.annotation.model_fields.keys()


# -- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("colour = 1", "colour"),
        ("[logs]\nlevel = 'info'", "logs"),
        ("[log]\nlevels = 'info'", "log.levels"),
        ("[database]\npassword = 'x'", "database.password"),
        ("[[upstream]]\nurl='http://h'\nkey='k'\nretries=3", "upstream.0.retries"),
        ("_env_file = 'x'", "_env_file"),
        ("_case_sensitive = true", "_case_sensitive"),
    ],
)
def test_an_unknown_key_of_the_file_is_refused_by_name(text, key):
    path = write("worker.toml", text)
    assert refusal(file=path) == f"{path}: {key}: is not a known key"


@pytest.mark.parametrize(
    ("variable", "key"),
    [
        ("WORKER_TIMEZON", None),
        ("WORKER_UPSTREAM_TOKEN", None),
        ("WORKER_", None),
        ("WORKER_FILE", None),
        ("WORKER__COLOUR", "colour"),
        ("WORKER__LOG__COLOUR", "log.colour"),
        ("WORKER__UPSTREAM__0__RETRIES", "upstream.0.retries"),
        ("WORKER___CASE_SENSITIVE", "_case_sensitive"),
    ],
)
def test_an_unknown_variable_is_refused_by_name(variable, key):
    text = refusal(BASE | {variable: SECRET})
    if key:
        assert text == f"{variable}: {key}: is not a known key"
    else:
        assert text == f"the variable {variable} is not one of ours: see config.example.toml for all keys"


@pytest.mark.parametrize(
    "variable",
    [
        "WORKER__UPSTREAM",
        "WORKER__UPSTREAM__0",
        "WORKER__UPSTREAM__ONE__URL",
        "WORKER__LOG",
        "WORKER__LOG__LEVEL__DEEPER",
        "WORKER__LOG__0__LEVEL",
        "WORKER__ROLLUP__TIMEZONE__0__X",
    ],
)
def test_a_variable_that_names_no_value_is_refused_by_name(variable):
    assert variable in refusal({variable: SECRET})


BAD = [
    ("WORKER_DATABASE_URL", f"mysql://u:{SECRET}@h/d", "database.url: must begin with postgres://"),
    ("WORKER_UPSTREAM_URL", "127.0.0.1:8317", "upstream.0.url: must be an http:// or https:// URL with a host"),
    ("WORKER_UPSTREAM_URL", "ftp://h", "upstream.0.url: must be an http:// or https:// URL with a host"),
    ("WORKER_UPSTREAM_URL", "http://", "upstream.0.url: must be an http:// or https:// URL with a host"),
    ("WORKER_UPSTREAM_URL", f"http://u:{SECRET}@h", "upstream.0.url: must not hold a user, a password or a query"),
    ("WORKER_UPSTREAM_URL", f"http://{SECRET}@h", "upstream.0.url: must not hold a user, a password or a query"),
    ("WORKER_UPSTREAM_URL", f"http://h/?key={SECRET}", "upstream.0.url: must not hold a user, a password or a query"),
    ("WORKER_UPSTREAM_URL", "http://[::1", "upstream.0.url: "),
    ("WORKER_UPSTREAM_URL", "http://h:port", "upstream.0.url: "),
    ("WORKER_UPSTREAM_URL", "http://h:99999", "upstream.0.url: "),
    ("WORKER_UPSTREAM_KEY", f"$2a$10${SECRET}", "upstream.0.key: is the bcrypt hash that the proxy stores"),
    ("WORKER_UPSTREAM_KEY", f"$2b$12${SECRET}", "upstream.0.key: is the bcrypt hash that the proxy stores"),
    ("WORKER_UPSTREAM_KEY", f"$2y$10${SECRET}", "upstream.0.key: is the bcrypt hash that the proxy stores"),
    ("WORKER_UPSTREAM_KEY", f"schlüssel-{SECRET}", "upstream.0.key: "),
    ("WORKER_UPSTREAM_KEY", f"two\nlines-{SECRET}", "upstream.0.key: "),
    ("WORKER_UPSTREAM_NAME", "-x", "upstream.0.name: must be 1 to 63 letters"),
    ("WORKER_UPSTREAM_NAME", "../x", "upstream.0.name: must be 1 to 63 letters"),
    ("WORKER_UPSTREAM_NAME", "a b", "upstream.0.name: must be 1 to 63 letters"),
    ("WORKER_UPSTREAM_NAME", "x\n", "upstream.0.name: must be 1 to 63 letters"),
    ("WORKER_UPSTREAM_NAME", "x" * 64, "upstream.0.name: must be 1 to 63 letters"),
    ("WORKER_UPSTREAM_MODE", "push", "upstream.0.mode: Input should be 'auto', 'queue', 'snapshot' or 'home'"),
    ("WORKER_TIMEZONE", "Mars/Phobos", "rollup.timezone: 'Mars/Phobos' is not an IANA time zone"),
    ("WORKER_TIMEZONE", "../../etc/passwd", "rollup.timezone: '../../etc/passwd' is not an IANA time zone"),
    ("WORKER_TIMEZONE", "UTC+8", "rollup.timezone: 'UTC+8' is not an IANA time zone"),
    ("WORKER_LOG_LEVEL", "INFO", "log.level: Input should be "),
    ("WORKER_LOG_FORMAT", "xml", "log.format: Input should be "),
    ("WORKER__UPSTREAM__0__TIMEOUT_S", "0", "upstream.0.timeout_s: Input should be greater than 0"),
    ("WORKER__UPSTREAM__0__TIMEOUT_S", "3601", "upstream.0.timeout_s: Input should be less than or equal to 3600"),
    ("WORKER__UPSTREAM__0__TIMEOUT_S", "nan", "upstream.0.timeout_s: "),
    ("WORKER__UPSTREAM__0__TIMEOUT_S", "soon", "upstream.0.timeout_s: Input should be a valid number"),
    ("WORKER__UPSTREAM__0__QUEUE_COUNT", "0", "upstream.0.queue_count: Input should be greater than or equal to 1"),
    ("WORKER__UPSTREAM__0__QUEUE_COUNT", "100001", "upstream.0.queue_count: Input should be less than or equal to"),
    ("WORKER__UPSTREAM__0__QUEUE_COUNT", "1.5", "upstream.0.queue_count: Input should be a valid integer"),
    ("WORKER__UPSTREAM__0__MAX_BODY_BYTES", "1", "upstream.0.max_body_bytes: Input should be greater than"),
    ("WORKER__JOURNAL__MAX_BYTES", "1", "journal.max_bytes: Input should be greater than or equal to 1048576"),
]


@pytest.mark.parametrize(("variable", "value", "problem"), BAD, ids=[f"{v}={x[:20]!r}" for v, x, _ in BAD])
def test_a_bad_value_is_refused_naming_variable_and_key(variable, value, problem):
    base = NESTED_BASE if variable.startswith("WORKER__") else BASE
    assert refusal(base | {variable: value}).startswith(f"{variable}: {problem}")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[[upstream]]\nurl='http://h'\nkey='$2a$10$EXAMPLE-hidden-1234'", "upstream.0.key: is the bcrypt hash"),
        ("[[upstream]]\nurl='http://h'\nkey=''", "upstream.0.key: is empty"),
        ("[[upstream]]\nurl='http://h'", "upstream.0.key: is missing"),
        ("[[upstream]]\nkey='EXAMPLE-hidden-1234'", "upstream.0.url: is missing"),
        (
            "[upstream]\nurl='http://h'\nkey='EXAMPLE-hidden-1234'",
            "upstream: there may be several of it: write [[upstream]]",
        ),
        ("[prices.own]\nmodel='m'", "prices.own: there may be several of it: write [[prices.own]]"),
        ("[[database]]\nurl='postgresql://u:EXAMPLE-hidden-1234@h/d'", "database: must be one table: write [database]"),
        ("[[prices]]\ndataset=false", "prices: must be one table: write [prices]"),
        ("data_dir='~nobody-here/x'", "data_dir: begins with ~"),
        ("[rollup]\ntimezone='Mars'", "rollup.timezone: 'Mars' is not"),
        ("[rollup]\ntimezone=''", "rollup.timezone: '' is not an IANA time zone"),
        ("[journal]\nmax_bytes='much'", "journal.max_bytes: Input should be a valid integer"),
        ("[database]\nurl='EXAMPLE-hidden-1234'", "database.url: must begin with postgres://"),
        ("log = 'info'", "log: "),
        ("data_dir = 7", "data_dir: "),
    ],
)
def test_a_bad_value_is_refused_naming_file_and_key(text, problem):
    path = write("worker.toml", text)
    assert refusal(file=path).startswith(f"{path}: {problem}")


def test_everything_that_is_wrong_is_told_at_once():
    path = write("worker.toml", "colour = 1\n[log]\nlevel = 'loud'")
    lines = refusal({"WORKER_TIMEZONE": "Mars", "WORKER__LOG__FORMAT": "xml"}, path).splitlines()
    assert len(lines) == 4
    assert sorted(line.split(": ")[0] for line in lines) == sorted(
        [str(path)] * 2 + ["WORKER_TIMEZONE", "WORKER__LOG__FORMAT"]
    )


def test_two_upstreams_of_one_name_are_refused():
    path = write("worker.toml", FULL.replace('"two"', '"one"'))
    assert refusal(file=path) == f"{path}: upstream: two upstreams are called 'one': give each its own name"


def test_two_upstreams_that_both_leave_their_name_out_are_refused():
    more = {"WORKER__UPSTREAM__1__URL": "http://h", "WORKER__UPSTREAM__1__KEY": "k"}
    assert "two upstreams are called 'default'" in refusal(BASE | more)


@pytest.mark.parametrize("around", ["\n", " ", "\r\n", "\t"])
def test_a_key_with_a_line_break_after_it_is_read_without_as_from_a_file(around):
    config = load(None, BASE | {"WORKER_UPSTREAM_KEY": SECRET + around})
    assert plain(config, "upstream", 0, "key") == SECRET


# -- values --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url", ["postgres://u:p@h:5432/d", "postgresql://h/d?sslmode=require", "postgresql+psycopg://u@/d?host=/run/pg", ""]
)
def test_postgresql_has_three_spellings_and_none_is_the_embedded_one(url):
    assert plain(toml(f'[database]\nurl = "{url}"'), "database", "url") == url


@pytest.mark.parametrize(
    "url", ["postgresql+asyncpg://h/d", "postgres:h", "host=h dbname=d", "POSTGRES", "sqlite:///x.db", "//h/d"]
)
def test_another_database_is_refused(url):
    assert "database.url: must begin with postgres://, postgresql:// or" in refusal({"WORKER_DATABASE_URL": url})


@pytest.mark.parametrize(
    "url", ["http://h:8317", "http://h:8317/", "https://h/v0/management//", "http://[::1]:8317/x/"]
)
def test_a_base_url_ends_without_a_slash(url):
    assert load(None, BASE | {"WORKER_UPSTREAM_URL": url}).upstream[0].url == url.rstrip("/")


@pytest.mark.parametrize("name", ["a", "7", "Berlin-1.proxy_two", "x" * 63])
def test_a_name_may_hold_letters_digits_and_three_signs(name):
    assert load(None, BASE | {"WORKER_UPSTREAM_NAME": name}).upstream[0].name == name


def test_a_data_dir_is_absolute(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert load(None, {"WORKER_DATA_DIR": "here"}).data_dir == tmp_path / "here"
    assert load(None, {"WORKER_DATA_DIR": "~/state"}).data_dir == tmp_path / "home" / "state"


@pytest.mark.parametrize(
    ("uid", "state", "expected"),
    [
        (0, "/somewhere", "/var/lib/usage-worker"),
        (1000, "/somewhere", "/somewhere/usage-worker"),
        (1000, "", "/home/me/.local/state/usage-worker"),
    ],
)
def test_the_default_data_dir_is_the_users_or_roots(monkeypatch, uid, state, expected):
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    monkeypatch.setenv("XDG_STATE_HOME", state)
    monkeypatch.setenv("HOME", "/home/me")
    assert default_data_dir() == Path(expected)


def test_one_upstream_in_single_brackets_is_told_so_beside_variables(tmp_path):
    file = tmp_path / "config.toml"
    file.write_text("[upstream]\nname='a'", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"write \[\[upstream\]\]"):
        load(file, BASE)


def test_an_account_without_a_home_needs_a_data_dir(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 64321)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda uid: {}[uid])
    monkeypatch.setattr("os.getuid", lambda: 64321)
    with pytest.raises(ConfigError, match="WORKER_DATA_DIR"):
        load(None, {})
    assert load(None, {"WORKER_DATA_DIR": "/srv"}).data_dir == Path("/srv")


def test_a_configuration_cannot_be_changed():
    config = toml(FULL)
    for target, name in ((config, "data_dir"), (config.upstream[0], "key"), (config.log, "level")):
        with pytest.raises(ValueError, match="frozen"):
            setattr(target, name, "x")


def test_an_upstream_is_found_by_its_name():
    config = toml(FULL)
    assert config.find_upstream("two") is config.upstream[1]
    with pytest.raises(ConfigError, match=r"no upstream is called 'three' \(configured: one, two\)"):
        config.find_upstream("three")
    with pytest.raises(ConfigError, match=r"no upstream is called 'x' \(configured: none\)"):
        load(None, {}).find_upstream("x")


# -- secrets -------------------------------------------------------------------------------------------------------


def test_no_secret_is_shown():
    config = toml(FULL)
    for shown in (
        repr(config),
        str(config),
        repr(config.upstream),
        json.dumps(masked(config)),
        config.model_dump_json(),
    ):
        assert SECRET not in shown


def test_what_is_shown_is_masked_and_ready_for_json():
    shown = masked(toml(FULL))
    assert json.loads(json.dumps(shown)) == shown
    assert shown["database"]["url"] == "postgresql://u:***@db.example.net/usage"
    assert shown["security"]["pepper"] == "***"
    assert [u["key"] for u in shown["upstream"]] == ["***", "***"]
    assert shown["upstream"][0]["url"] == "http://127.0.0.1:8317"
    assert shown["data_dir"] == "/srv/worker"
    nothing = masked(load(None, {}))
    assert nothing["security"]["pepper"] == nothing["database"]["url"] == ""
    assert nothing["upstream"] == []


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"postgres://u:{SECRET}@h:5432/d", "postgres://u:***@h:5432/d"),
        (f"postgres://u:{SECRET}@h1:1,h2:2/d", "postgres://u:***@h1:1,h2:2/d"),
        (f"postgres://h/d?user=u&password={SECRET}", "postgres://h/d?***"),
        (f"postgres://h/d?sslpassword={SECRET}#{SECRET}", "postgres://h/d?***"),
        (f"postgres://u:{SECRET}#x:[y]@h/d", "postgres://u:***@h/d"),
        (f"postgres://u:{SECRET}@%2Frun%2Fpg/d", "postgres://u:***@%2Frun%2Fpg/d"),
        (f"postgres://:{SECRET}@h/d", "postgres://h/d"),
        (f"postgres://u:{SECRET}%40x@h/d", "postgres://u:***@h/d"),
        ("postgres://u@h/d", "postgres://u:***@h/d"),
        ("postgres:///d", "postgres:///d"),
    ],
)
def test_a_database_url_is_shown_without_password_and_query(url, shown):
    assert masked(load(None, {"WORKER_DATABASE_URL": url}))["database"]["url"] == shown


@pytest.mark.parametrize(
    "url",
    [
        f"postgres://u:{SECRET}/x@h/d",
        f"postgres://u:{SECRET}@x@h/d",
        f"postgres://u:x@{SECRET}@h/d",
        f"postgres://u:1234/{SECRET}@h/d",
        f"postgres://u:{SECRET}",
        f"postgres://h/d?password=x&{SECRET}=y",
        f"postgres://h/d?password=x&{SECRET}",
        f"postgres://u:{SECRET}?x@h/d",
        f"postgres://u:{SECRET}#x@h/d",
        f"postgres://u:x/{SECRET}@h/d",
        f"postgres://u:x?{SECRET}@h/d",
        f"postgres://[::1:{SECRET}@h/d",
    ],
)
def test_a_password_that_should_have_been_quoted_is_refused_or_still_not_shown(url):
    try:
        shown = masked(load(None, {"WORKER_DATABASE_URL": url}))
    except ConfigError as e:
        shown = {"refused": str(e)}
    assert SECRET not in json.dumps(shown)


@settings(derandomize=True, deadline=None, max_examples=100)
@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1), st.sampled_from(BAD))
def test_whatever_a_variable_holds_it_is_taken_or_refused_by_name(value, row):
    variable = row[0]
    base = NESTED_BASE if variable.startswith("WORKER__") else BASE
    try:
        load(None, base | {variable: value})
    except ConfigError as e:
        assert variable in str(e)  # noqa: PT017  # both ends are good ones
