"""Arguments in, tables and exit codes out: the room that speaks to a person. Data on stdout, logs on stderr.

What a command needs is imported when it runs: `--help`, `--version` and a mistyped option are answered at once.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker import __version__
from worker.cli.complaint import complain
from worker.cli.manage import channels_app, keys_app
from worker.cli.options import Json, Since, Until, UpstreamName, day
from worker.cli.prices import prices_app, reprice
from worker.cli.quarantine import quarantine_app
from worker.cli.reports import report_command
from worker.cli.state import State, configured
from worker.db.head import HEAD
from worker.errors import BusyError, ConfigError, DatabaseAwayError, UsageError, VerifyError, WorkerError
from worker.safe_text import sentence, traceback_of

if TYPE_CHECKING:
    from worker.loading.pass_result import PassResult
    from worker.rollups.verify import Difference

DIFFERENCES_SHOWN = 50

app = typer.Typer(
    name="worker",
    help="Pulls CLIProxyAPI usage into PostgreSQL and keeps exact hourly and daily rollups by channel.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
config_app = typer.Typer(help="The effective configuration.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(config_app, name="config")
app.add_typer(quarantine_app, name="quarantine")
app.add_typer(channels_app, name="channels")
app.add_typer(keys_app, name="keys")
app.add_typer(prices_app, name="prices")
app.command("reprice")(reprice)
app.command("report")(report_command)


def main() -> None:
    """Run the command line; every error of ours becomes a sentence and its exit code."""
    stdout: object = sys.stdout
    if isinstance(stdout, TextIOWrapper):
        stdout.reconfigure(errors="backslashreplace")  # a name that the locale cannot write is no reason to fail
    try:
        code = app(standalone_mode=False)
    except WorkerError as e:
        complain(*e.sentences)
        code = e.exit_code
    except typer.TyperException as e:
        _refuse(e)
        code = e.exit_code
    except typer.Abort:
        complain("aborted")
        code = 1
    except Exception:  # noqa: BLE001  # what nobody foresaw is shown whole, and safely
        sys.stderr.write(f"worker: this should not happen, please report it:\n{traceback_of(*sys.exc_info())}\n")
        code = 1
    raise SystemExit(code)


def _refuse(error: typer.TyperException) -> None:
    """Say what is wrong with the command line, whose words may be anything."""
    context: typer.Context | None = getattr(error, "ctx", None)
    said = error.format_message()
    if context is not None and said == context.get_help():  # nothing was asked for
        sys.stderr.write(f"{said}\n")
        return
    if context is not None:
        sys.stderr.write(f"{context.get_usage()}\nTry '{context.command_path} --help' for help.\n\n")
        if getattr(error, "option_name", "") == "--config":
            program, _, command = context.command_path.partition(" ")
            said = f"--config stands before the command: {program} --config FILE {command} ..."
    sys.stderr.write(f"Error: {sentence(said)}\n")


def _version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"worker {__version__} (schema {HEAD})\n")
        raise typer.Exit


@app.callback()
def _options(
    file: Annotated[Path | None, typer.Option("--config", metavar="FILE", help="Configuration file (TOML).")] = None,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    del version
    State.file = file


# -- passes -----------------------------------------------------------------------------------------------------


@app.command("sync")
def sync_command(
    once: Annotated[bool, typer.Option("--once", help="One pass over every upstream, then exit.")] = False,
    upstream: UpstreamName = None,
    as_json: Json = False,
) -> None:
    """Pull usage from every proxy, resolve channels, load, roll up."""
    from worker.cli.passes import busy, exit_with, print_passes
    from worker.config import NO_UPSTREAM
    from worker.db import database
    from worker.memory import tune_gc
    from worker.stopping import on_signal
    from worker.sync import run as sync

    if not once:
        if upstream is not None or as_json:
            raise UsageError("without --once this is `worker run`, which takes no options")
        complain("without --once this is `worker run`: a service, until it is ended; --once does one pass")
        run_command()
        return
    tune_gc()
    settings = configured()
    upstreams = [settings.find_upstream(upstream)] if upstream else settings.upstream
    if not upstreams:
        raise ConfigError(NO_UPSTREAM)
    results: list[PassResult] = []
    stopping = threading.Event()
    with on_signal(stopping.set), database.open_engine(settings, make=True) as engine:
        for one in upstreams:
            if stopping.is_set():
                break
            try:
                results.append(sync.sync_once(settings, engine, one, stopping))
            except BusyError as e:
                results.append(busy(one.name, e))
    print_passes(results, as_json=as_json)
    exit_with(results)


@app.command("run")
def run_command() -> None:
    """Run as a service: passes on a schedule, probes and metrics over HTTP, until SIGTERM."""
    from worker.memory import tune_gc
    from worker.service.run import Service

    tune_gc()
    Service(configured).run()


@app.command("import")
def import_command(
    files: Annotated[
        list[Path],
        typer.Argument(help="Snapshots, exports, queue arrays, JSON lines, packed or not; `-` is the standard input."),
    ],
    upstream: Annotated[
        str | None, typer.Option("--upstream", metavar="NAME", help="The proxy that the files come from.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Load usage from files, through the same pipeline: what is there already stays as it is."""
    from worker.cli import show
    from worker.cli.passes import exit_with, print_passes
    from worker.db import database
    from worker.memory import tune_gc
    from worker.sync import importer as intake

    tune_gc()
    settings = configured()
    for file in files:
        if str(file) != "-" and (file.is_dir() or not file.exists()):
            raise UsageError(f"{file} is not a file")
    name = upstream or (settings.upstream[0].name if len(settings.upstream) == 1 else "default")
    bar, advance = show.progress(f"importing as {name}")
    with database.open_engine(settings) as engine, bar:
        result = intake.import_files(settings, engine, name, files, advance)
    print_passes([result], as_json=as_json)
    exit_with([result])


@app.command()
def migrate(
    check: Annotated[bool, typer.Option("--check", help="Only say whether the schema is at head; 5 if not.")] = False,
    unless_away: Annotated[
        bool, typer.Option("--unless-away", help="Leave it to the first pass while the database cannot be reached.")
    ] = False,
) -> None:
    """Bring the database's schema to this version's."""
    from worker.cli import show
    from worker.db import database, migrations

    try:
        with database.open_engine(configured()) as engine:
            if check:
                found = migrations.schema_version(engine)
                show.say(f"schema {found or 'not there'}, this program {HEAD}")
                raise typer.Exit(0 if found == HEAD else 5)
            changed = migrations.upgrade(engine)
    except DatabaseAwayError as e:
        if not unless_away:
            raise
        show.say(f"left to the first pass: {e}")
        return
    show.say(f"schema {HEAD}: {'migrated' if changed else 'nothing to do'}")


@app.command("resolve")
def resolve_command(
    everything: Annotated[bool, typer.Option("--all", help="Look at every record, not only unknown ones.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would move.")] = False,
    upstream: UpstreamName = None,
    as_json: Json = False,
) -> None:
    """Look again at records whose channel is unknown, correct them and the rollups with them. Pops nothing."""
    from worker.cli import show
    from worker.config import NO_UPSTREAM
    from worker.db import database
    from worker.memory import tune_gc
    from worker.sync import run as sync

    tune_gc()
    settings = configured()
    upstreams = [settings.find_upstream(upstream)] if upstream else settings.upstream
    if not upstreams:
        raise ConfigError(NO_UPSTREAM)
    with database.open_engine(settings) as engine:
        found = [sync.resolve_once(settings, engine, one, everything=everything, dry_run=dry_run) for one in upstreams]
    moves = [
        {"upstream": r.upstream, **move._asdict(), "records": n} for r in found for move, n in sorted(r.moves.items())
    ]
    looked_at, moved = sum(r.looked_at for r in found), sum(sum(r.moves.values()) for r in found)
    if as_json:
        show.json_document({"dry_run": dry_run, "looked_at": looked_at, "moves": moves})
        return
    if moves:
        show.table("Would move" if dry_run else "Moved", list(moves[0]), moves)
    show.say(f"looked at {looked_at} records, {moved} {'would move' if dry_run else 'moved'}")


@app.command("demo")
def demo_command(
    keep: Annotated[bool, typer.Option("--keep", help="Leave the demo's database and files where they are.")] = False,
) -> None:
    """Show it all: a simulated proxy on loopback, a real PostgreSQL, two passes, and the channel report."""
    from worker import log
    from worker.cli import demo
    from worker.cli.passes import print_passes
    from worker.cli.report_tables import print_figures

    log.setup("warning", "auto")
    demo.run(keep=keep, passed=print_passes, reported=print_figures)


# -- figures ----------------------------------------------------------------------------------------------------


@app.command()
def verify(since: Since = None, until: Until = None, as_json: Json = False) -> None:
    """Compare the rollups with the records behind them, sum by sum; exit 7 when they disagree."""
    from zoneinfo import ZoneInfo

    from worker.cli import show
    from worker.db import database, migrations
    from worker.memory import tune_gc
    from worker.reports import report
    from worker.rollups import verify
    from worker.storage.upstreams import records_complete_from

    tune_gc()
    first, last = day("--since", since), day("--until", until)
    with database.open_engine(configured()) as engine:
        migrations.schema_version(engine)  # of a newer one it knows too little to judge
        zone = ZoneInfo(report.timezone(engine))
        with database.transaction(engine) as connection:
            complete_from = records_complete_from(connection)
            found = list(verify.differences(connection, zone, first, last))
    if as_json:
        show.json_document({"complete_from": complete_from, "differences": [d._asdict() for d in found]})
    elif found:
        rows = [_difference(d) for d in found[:DIFFERENCES_SHOWN]]
        show.table("Rollups that differ from their records", list(rows[0]), rows)
    else:
        since_then = f" from {complete_from} on; records of the days before have been dropped" if complete_from else ""
        show.say(f"rollups and records agree{since_then}")
    if found:
        raise VerifyError(f"{len(found)} sums differ; `worker verify --json` lists every one")


@app.command()
def rebuild(
    since: Since = None,
    until: Until = None,
    timezone: Annotated[str | None, typer.Option(metavar="ZONE", help="Cut all days by this zone from now on.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")] = False,
    as_json: Json = False,
) -> None:
    """Sum the rollups anew from their records; days whose records are no longer complete stay as they are."""
    from zoneinfo import available_timezones

    from worker.cli import show
    from worker.corrections.rebuild import rebuild as rebuild_days
    from worker.db import database
    from worker.memory import tune_gc

    tune_gc()
    first, last = day("--since", since), day("--until", until)
    if timezone is not None and timezone not in available_timezones():
        raise UsageError(f"--timezone {timezone!r} is not an IANA time zone such as Europe/Berlin")
    with database.open_engine(configured()) as engine:
        done = rebuild_days(engine, since=first, until=last, timezone=timezone, dry_run=dry_run)
    if as_json:
        show.json_document({**done._asdict(), "differences": [d._asdict() for d in done.differences]})
        return
    verb = "would change" if dry_run else "changed"
    show.say(f"{len(done.days)} days in {done.timezone}: {len(done.differences)} sums {verb}")
    if done.skipped:
        show.say(f"left alone, their records are no longer complete: {done.skipped[0]} to {done.skipped[-1]}")


@app.command("maintain")
def maintain_command(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what a run would do.")] = False,
    as_json: Json = False,
) -> None:
    """Make the coming months' partitions, and drop some of what is older than its retention."""
    from worker.cli import show
    from worker.corrections import maintain
    from worker.db import database

    settings = configured()
    with database.open_engine(settings) as engine:
        done = maintain.maintain(engine, settings.retention, dry_run=dry_run)
    if as_json:
        show.json_document(done._asdict())
        return
    verb = "would be " if dry_run else ""
    for what, found in (("made", done.made), ("dropped", done.dropped)):
        show.say(f"months {verb}{what}: {', '.join(found) or 'none'}")
    for kind, n in done.deleted.items():
        left = f", {done.left[kind]} left for the next run" if done.left.get(kind) else ""
        show.say(f"{kind} {verb}deleted: {n}{left}")
    if done.left.get("months"):
        show.say(f"months left for the next run: {done.left['months']}")


@app.command("doctor")
def doctor_command(as_json: Json = False) -> None:
    """Say what keeps usage away, or soon may, and what to do about it. Pops nothing and writes nothing."""
    from worker import doctor
    from worker.cli import show

    settings = configured()
    findings = doctor.examine(settings, interval_s=settings.schedule.interval_s)
    if as_json:
        show.json_document(findings)
    else:
        amiss = [f for f in findings if f.level != "ok"]
        for finding in amiss:
            where = f" ({finding.upstream})" if finding.upstream else ""
            show.say(f"{finding.level}: {finding.check}{where}: {finding.what}", f"  {finding.remedy}")
        show.say(f"{len(findings) - len(amiss)} of {len(findings)} checks are well")
    raise typer.Exit(next((f.exit_code for f in findings if f.level == "error"), 0))


@app.command()
def status(
    max_age: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Exit 1 when the last success is older than this.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Say how current the usage is: last success, newest record, what waits in the journal, and who reads the queue."""
    from worker.cli import show
    from worker.db import database, lease, lock
    from worker.reports import report

    with database.open_engine(configured()) as engine:
        rows = report.freshness(engine)
        with database.transaction(engine) as connection:
            held = lease.holders(connection, [lock.consumer(row["upstream"]) for row in rows])
    for row in rows:
        holder = held.get(lock.consumer(row["upstream"]))
        row["served_by"] = f"{holder.host} (process {holder.pid})" if holder else None
        row["served_since"] = holder.since if holder else None
    if as_json:
        show.json_document(rows)
    elif rows:
        show.table("Freshness", list(rows[0]), rows)
    else:
        show.say("no pass yet")
    if max_age is not None:
        raise typer.Exit(_stale(rows, max_age))


# -- configuration ----------------------------------------------------------------------------------------------


@config_app.command("show")
def config_show() -> None:
    """Print the effective configuration, secrets masked."""
    from worker import config
    from worker.cli import show

    show.json_document(config.masked(configured()))


@config_app.command("check")
def config_check() -> None:
    """Read the configuration and the certificates that it names, and say whether they hold."""
    from worker.cli import show
    from worker.cliproxyapi.tls import trust
    from worker.config import NO_UPSTREAM

    settings = configured()
    if not settings.upstream:
        raise ConfigError(NO_UPSTREAM)
    for upstream in settings.upstream:
        trust(upstream)
    show.say(f"the configuration holds: {len(settings.upstream)} upstream(s), data in {settings.data_dir}")


# -- shared -----------------------------------------------------------------------------------------------------


def _difference(difference: Difference) -> dict[str, Any]:
    found = difference._asdict()
    return {**{k: v for k, v in found.items() if k != "dimension"}, **difference.dimension}


def _stale(rows: Sequence[dict[str, Any]], max_age: float) -> int:
    """Return 1 when an upstream's last success is missing or older than `max_age` seconds, or not yet to be.

    What a clock that was far ahead has noted says nothing.
    """
    from datetime import UTC, datetime

    from worker.storage import batches

    early_s = batches.FUTURE.total_seconds()
    at = datetime.now(UTC)
    ages = [(at - row["last_success_at"]).total_seconds() if row["last_success_at"] else None for row in rows]
    return int(not ages or any(age is None or not -early_s <= age <= max_age for age in ages))
