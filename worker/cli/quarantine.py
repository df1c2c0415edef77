"""`worker quarantine`: records that could not be read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.options import Json
from worker.cli.state import configured
from worker.errors import UsageError

if TYPE_CHECKING:
    from worker.storage.quarantine import Quarantined

quarantine_app = typer.Typer(help="Records that could not be read.", no_args_is_help=True, rich_markup_mode=None)


@quarantine_app.command("list")
def quarantine_list(
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 100, as_json: Json = False
) -> None:
    """List records that could not be read, with the reason."""
    from worker.cli import show

    rows = [{k: v for k, v in q._asdict().items() if k != "payload"} for q in _quarantined(limit=limit)]
    if as_json:
        show.json_document(rows)
    elif rows:
        show.table("Quarantine", list(rows[0]), rows)
    else:
        show.say("the quarantine is empty")


@quarantine_app.command("show")
def quarantine_show(number: Annotated[int, typer.Argument(metavar="ID")]) -> None:
    """Print one record as it came, its secrets replaced."""
    from worker.cli import show

    found = _quarantined(limit=1, ids=[number])
    if not found:
        raise UsageError(f"no record {number} is in quarantine")
    show.json_document(found[0]._asdict())


@quarantine_app.command("retry")
def quarantine_retry(
    numbers: Annotated[
        list[int] | None, typer.Argument(metavar="[ID]...", help="Which ones; all when none is named.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Read records again and load those that can be read now, rollups and all. Exit 6 if some still cannot."""
    from worker.cli.passes import exit_with, print_passes
    from worker.db import database
    from worker.memory import tune_gc
    from worker.sync import importer as intake

    tune_gc()
    settings = configured()
    with database.open_engine(settings) as engine:
        results = intake.retry_quarantined(settings, engine, numbers or [])
    print_passes(results, as_json=as_json)
    exit_with(results)


@quarantine_app.command("drop")
def quarantine_drop(numbers: Annotated[list[int], typer.Argument(metavar="ID...")]) -> None:
    """Forget records in quarantine for good."""
    from worker.cli import show
    from worker.db import database, migrations
    from worker.storage import quarantine

    with migrations.open_engine_to_change(configured()) as engine, database.transaction(engine) as connection:
        dropped = quarantine.drop_quarantined(connection, numbers)
    show.say(f"dropped {dropped}")


def _quarantined(*, limit: int, ids: list[int] | None = None) -> list[Quarantined]:
    from worker.db import database
    from worker.storage import quarantine

    with database.open_engine(configured()) as engine, database.transaction(engine) as connection:
        return quarantine.quarantined(connection, limit=limit, ids=ids)
