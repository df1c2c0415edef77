"""What PostgreSQL says is wrong, as an error of ours: by its code, never by its words, which may be in any language."""

from __future__ import annotations

from typing import NoReturn

import psycopg
from psycopg import errors
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from worker.errors import (
    DatabaseAwayError,
    DatabaseUnusableError,
    NoSchemaError,
    RefusedError,
    TransientDatabaseError,
    WorkerError,
)

DRIVER_ERRORS = (SQLAlchemyError, psycopg.Error, UnicodeEncodeError)
"""All that comes out of the driver; a text that is none is found out while it is sent."""

TRANSIENT = (errors.SerializationFailure, errors.DeadlockDetected, errors.LockNotAvailable)

# What says that a value is one that PostgreSQL cannot hold. Not all of class 22 is: a wrong number of fields in COPY,
# an exhausted sequence and a bad parameter of a setting are faults of a program or of the server.
OF_A_VALUE = (
    errors.StringDataRightTruncation,
    errors.NumericValueOutOfRange,
    errors.InvalidDatetimeFormat,
    errors.DatetimeFieldOverflow,
    errors.CharacterNotInRepertoire,
    errors.UntranslatableCharacter,
    errors.InvalidTextRepresentation,
    errors.NotNullViolation,
    errors.CheckViolation,
    errors.ProgramLimitExceeded,
)
MISSING = (errors.UndefinedTable, errors.UndefinedFunction, errors.InvalidSchemaName)
AWAY = (
    errors.AdminShutdown,
    errors.CrashShutdown,
    errors.CannotConnectNow,
    errors.IdleSessionTimeout,
    errors.IdleInTransactionSessionTimeout,
    errors.TooManyConnections,
)
RIGHTS = (
    "The worker needs the rights of usage_writer, a migration those of the schema's owner; reports need usage_reader."
)
READ_ONLY = (
    "it takes no writes. It is a standby, or was set to read-only: point database.url at the primary, or find out why "
    "it was set so: a full disk, for example"
)
REMEDIES = {
    errors.ReadOnlySqlTransaction: f"{READ_ONLY[0].upper()}{READ_ONLY[1:]}",
    errors.DiskFull: "Make room on the database server's disk.",
    errors.OutOfMemory: "Give the database server more memory, or less to do at once.",
    errors.QueryCanceled: "It took too long, or somebody ended it: look in pg_stat_activity for what the server is "
    "busy with.",
    errors.SequenceGeneratorLimitExceeded: "Its numbers have run out: make the sequence and its column bigint.",
    errors.InsufficientPrivilege: RIGHTS,
}
ELSE = "Look into the server's log; if it is well, update the worker, or report this as a fault of it."


def raise_ours(error: BaseException) -> NoReturn:
    """Raise the error of ours that `error`, one of DRIVER_ERRORS, comes to.

    Raises:
        DatabaseError: the connection, the server or the program is at fault.
        RefusedError: a value is.
    """
    raise _ours(error) from error


def _ours(error: BaseException) -> WorkerError:
    cause = error.orig if isinstance(error, DBAPIError) else error
    said = line(cause)
    if _is_of_a_value(cause):
        return RefusedError(f"PostgreSQL refuses it: {_primary(cause) or said}")
    if isinstance(cause, TRANSIENT):
        return TransientDatabaseError(f"PostgreSQL: {said}")
    if isinstance(cause, MISSING):
        return NoSchemaError("this database has no usage tables, or old ones: run `worker migrate`")
    if isinstance(cause, AWAY) or _is_of_the_connection(cause):
        return DatabaseAwayError(f"PostgreSQL: {said}")
    remedy = next((text for kind, text in REMEDIES.items() if isinstance(cause, kind)), ELSE)
    said = said if said.endswith((".", "!", "?")) else f"{said}."
    return DatabaseUnusableError(f"PostgreSQL: {said} {remedy}")


def _primary(cause: BaseException | None) -> str:
    return line(cause.diag.message_primary or "") if isinstance(cause, psycopg.Error) else ""


def _is_of_a_value(cause: BaseException | None) -> bool:
    if isinstance(cause, UnicodeEncodeError):
        return True
    if not isinstance(cause, psycopg.Error):
        return False
    if cause.sqlstate is None:  # the driver itself could not write it down
        return isinstance(cause, psycopg.DataError)
    if isinstance(cause, errors.CheckViolation):  # without a name it is a partition that is missing
        return cause.diag.constraint_name is not None
    return isinstance(cause, OF_A_VALUE)


def _is_of_the_connection(cause: BaseException | None) -> bool:
    """Say whether there is no connection: what the driver says without a code, and the codes of class 08."""
    if not isinstance(cause, psycopg.Error):
        return False
    if cause.sqlstate is None:
        return isinstance(cause, (psycopg.OperationalError, psycopg.InterfaceError))
    return cause.sqlstate.startswith("08")


def line(said: object) -> str:
    """Return what somebody says, such as an error, in one line and without control characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(said)).split())
