"""What can go wrong, grouped by what the caller does about it.

WorkerError                      the base; its exit_code is the process's
├── UsageError              2    the command line asked for something that cannot be
├── ConfigError             3    a key or a value; nothing was started
├── UpstreamError           4    the proxy; carries the endpoint and, when there was one, the status
│   ├── UpstreamUnreachable      no connection: the next pass may succeed
│   │   └── UpstreamUntrusted    a certificate is not trusted: nothing was asked
│   ├── UpstreamRefused          key missing or wrong: stop at once, five tries ban the address
│   ├── UpstreamBanned           this address is banned; says for how long
│   ├── UpstreamOff              management API not there: switched off, Home mode, or another base path
│   ├── UpstreamUnsupported      a version that offers usage by neither path
│   ├── UpstreamAnswerError      an answer that is not what the endpoint promises
│   └── PossibleLossError        a pop whose answer never arrived whole
├── DatabaseError           5    unreachable, or not as it should be
│   ├── TransientDatabaseError   a deadlock or a lock timeout: the same transaction may succeed when run again
│   ├── DatabaseAwayError        no connection
│   ├── DatabaseUnusableError    it is there and does not work: read-only, full, shut to us
│   │   ├── DatabaseEncodingError it cannot hold every text
│   │   └── BatchRefusedError    it takes nothing of a batch, for a reason that lies in no record
│   ├── NewerSchemaError         a schema that this program does not know
│   └── NoSchemaError            there are no tables of ours yet
├── DatasetError            1    price lists that were asked for cannot be had
├── RefusedError            1    PostgreSQL does not take a value
├── JournalError            1    the folder that keeps payloads cannot be written
├── InternalError           1    an error that this list does not know: a defect of the worker
├── VerifyError             7    rollups and records disagree
└── BusyError              75    another worker holds this upstream
"""

from __future__ import annotations


class WorkerError(Exception):
    """A failure with a sentence for a person, or several: what was wrong, where, and what to do."""

    exit_code = 1

    def __str__(self) -> str:
        """Return its sentences, each in a line of its own."""
        return "\n".join(self.sentences)

    @property
    def sentences(self) -> tuple[str, ...]:
        """Its sentences, which may hold foreign words: whoever shows them makes each safe."""
        return tuple(map(str, self.args))


class UsageError(WorkerError):
    """The command line asked for something that cannot be done."""

    exit_code = 2


class ConfigError(WorkerError):
    """A configuration key, variable or file is wrong."""

    exit_code = 3


class UpstreamError(WorkerError):
    """The proxy did not do what was asked; `endpoint` and `status` say where."""

    exit_code = 4

    def __init__(self, text: str, *, endpoint: str, status: int | None = None) -> None:
        at = f"{endpoint} answered {status}" if status is not None else endpoint
        super().__init__(f"{at}: {text}")
        self.endpoint = endpoint
        self.status = status


class UpstreamUnreachable(UpstreamError):
    """No connection, or a server error that may pass."""


class UpstreamUntrusted(UpstreamUnreachable):
    """The proxy's certificate is not trusted, or ours is not taken: the key did not go out, or nobody read it."""


class UpstreamRefused(UpstreamError):
    """The management key is missing or wrong. Five tries ban the address: not to be tried for `retry_after_s`."""

    def __init__(self, text: str, *, endpoint: str, status: int | None = None, retry_after_s: float = 1800.0) -> None:
        super().__init__(text, endpoint=endpoint, status=status)
        self.retry_after_s = retry_after_s


class UpstreamBanned(UpstreamError):
    """The proxy has banned this address; `retry_after_s` seconds remain."""

    def __init__(self, text: str, *, endpoint: str, status: int, retry_after_s: float) -> None:
        super().__init__(text, endpoint=endpoint, status=status)
        self.retry_after_s = retry_after_s


class UpstreamOff(UpstreamError):
    """The management API is not served here."""


class UpstreamUnsupported(UpstreamError):
    """This proxy offers usage neither as a snapshot nor over the HTTP queue."""


class UpstreamAnswerError(UpstreamError):
    """The answer is not what this endpoint promises."""


class PossibleLossError(UpstreamError):
    """A pop was sent and its answer did not arrive whole; what did is kept."""


class DatabaseError(WorkerError):
    """PostgreSQL cannot be reached, or holds a schema this program does not know."""

    exit_code = 5


class TransientDatabaseError(DatabaseError):
    """PostgreSQL gave this transaction up in favour of another; it may be run again."""


class DatabaseAwayError(DatabaseError):
    """PostgreSQL cannot be reached, or a connection was lost."""


class DatabaseUnusableError(DatabaseError):
    """PostgreSQL is there and does not do what it should; the text says what to do."""


class DatabaseEncodingError(DatabaseUnusableError):
    """The database is not one of UTF-8, so that there are texts it cannot hold."""

    remedy = (
        "make another one with CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0, and name it in database.url "
        "(WORKER_DATABASE_URL)"
    )

    def __init__(self, encoding: str) -> None:
        """Say it of a database of this encoding, as PostgreSQL names it."""
        self.what = f"the database's encoding is {encoding}, which cannot hold every text"
        super().__init__(f"{self.what}: {self.remedy}")


class BatchRefusedError(DatabaseUnusableError):
    """PostgreSQL takes nothing of a batch, and no record is at fault: the batch is kept where it came from."""


class NewerSchemaError(DatabaseError):
    """The schema is newer than this program, which leaves it alone."""


class NoSchemaError(DatabaseError):
    """The database has none of the tables that were asked for."""


class DatasetError(WorkerError):
    """Price lists that were asked for cannot be had."""


class JournalError(WorkerError):
    """The journal folder cannot be used."""


class RefusedError(WorkerError):
    """PostgreSQL does not take a value: trying again does not help, whatever else it comes with."""


class InternalError(WorkerError):
    """Something that nobody foresaw: a defect of the worker, with its traceback in the log."""


class VerifyError(WorkerError):
    """Rollups and records disagree."""

    exit_code = 7


class BusyError(WorkerError):
    """Another worker holds this upstream."""

    exit_code = 75
