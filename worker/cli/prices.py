"""`worker prices` and `worker reprice`: what requests cost, and what they were charged."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from worker.cli import state
from worker.cli.options import OPTIONS, RATES, Json, Since, Until, UpstreamName, day
from worker.errors import UsageError

prices_app = typer.Typer(help="What requests cost.", no_args_is_help=True, rich_markup_mode=None)


def _rate(option: str, what: str) -> Any:
    return typer.Option(option, metavar="USD", help=f"US dollars per {what}.")


@prices_app.command("list")
def prices_list(
    model: Annotated[str | None, typer.Argument(metavar="[MODEL]", help="Only of this name; * is a wildcard.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every price, not only those in use today.")] = False,
    as_json: Json = False,
) -> None:
    """List the prices that hold today for the models seen so far, and every price of your own."""
    from worker.cli import show
    from worker.cli.price_entry import means, shown, told, zone
    from worker.clock import now
    from worker.db import database, migrations
    from worker.loading.prices import open_pricer
    from worker.storage import price_table

    settings = state.configured()
    with database.open_engine(settings) as engine:
        migrations.upgrade(engine)
        pricer = open_pricer(engine, settings.prices, zone(engine, settings))
        with database.transaction(engine) as connection:
            found = price_table.listed(connection) if everything else pricer.in_use(connection, now())
    chosen = [p for p in found if model is None or means(model, p)]
    if as_json:
        show.json_document([told(p) for p in chosen])
    elif chosen:
        rows = [shown(p) for p in chosen]
        show.table("Prices in US dollars per million tokens", [k for k in rows[0] if any(r[k] for r in rows)], rows)
    else:
        show.say("no price; `worker prices list --all` shows all there are")


@prices_app.command("set")
def prices_set(
    model: Annotated[str, typer.Argument(help="The model's name; * stands for any characters.")],
    input_usd: Annotated[str | None, _rate("--input", "million uncached input tokens")] = None,
    cache_read_usd: Annotated[str | None, _rate("--cache-read", "million input tokens read from a cache")] = None,
    cache_write_usd: Annotated[str | None, _rate("--cache-write", "million input tokens written to a cache")] = None,
    output_usd: Annotated[str | None, _rate("--output", "million output tokens, reasoning included")] = None,
    request_usd: Annotated[str | None, _rate("--request", "successful request")] = None,
    cache_write_1h_usd: Annotated[
        str | None, _rate("--cache-write-1h", "million input tokens written to a cache for an hour, where it differs")
    ] = None,
    provider: Annotated[str, typer.Option(help="Only for this provider id of the proxy.")] = "",
    channel: Annotated[str, typer.Option(help="Only for this channel: number, name or label.")] = "",
    service_tier: Annotated[
        str,
        typer.Option(
            help="For this service tier, instead of the standard one; * for every one without a price of its own."
        ),
    ] = "",
    above: Annotated[int, typer.Option(min=0, help="Only for requests with more input tokens than this.")] = 0,
    since: Since = None,
    until: Until = None,
    hours: Annotated[str, typer.Option(metavar="HH:MM-HH:MM", help="Only in these hours of the day, UTC.")] = "",
) -> None:
    """Enter a price of your own: it goes before those of the dataset, for requests that are loaded from now on."""
    from worker.cli import show
    from worker.cli.price_entry import advice, channel_of, own_price, rates_of, zone
    from worker.clock import now
    from worker.db import database, migrations
    from worker.storage import price_table

    given = (input_usd, cache_read_usd, cache_write_usd, output_usd, request_usd, cache_write_1h_usd)
    rates = dict(zip(RATES, given, strict=True))
    settings = state.configured()
    with database.open_engine(settings) as engine:
        migrations.upgrade(engine)
        with database.transaction(engine) as connection:
            own = own_price(
                model=model, provider=provider, channel=channel_of(connection, channel), service_tier=service_tier,
                above_input_tokens=above, valid_from=day("--since", since), valid_to=day("--until", until),
                hours=hours, **rates,
            )  # fmt: skip
            entered = price_table.add(connection, own, zone(engine, settings), now())
            fitting = price_table.seen(connection, entered)
    show.say(f"price {entered.price_id}: {', '.join(f'{OPTIONS[k]} {v}' for k, v in rates_of(entered).items())}")
    for line in advice(entered, fitting):
        show.say(line)


@prices_app.command("drop")
def prices_drop(price_id: Annotated[int, typer.Argument(metavar="ID", help="Number of a price of your own.")]) -> None:
    """Withdraw a price of your own. Records keep what they were charged by it."""
    from worker.cli import show
    from worker.clock import now
    from worker.db import database, migrations
    from worker.storage import price_table

    with migrations.open_engine_to_change(state.configured()) as engine, database.transaction(engine) as connection:
        if not price_table.drop(connection, price_id, now()):
            raise UsageError(
                f"no price {price_id} of yours is in force: `worker prices list` shows them; those of a configuration "
                "file go when they are taken out of it"
            )
    show.say(f"price {price_id} is withdrawn")


@prices_app.command("sync")
def prices_sync(
    download: Annotated[bool, typer.Option("--download", help="Fetch today's lists instead of those shipped.")] = False,
    as_json: Json = False,
) -> None:
    """Bring the dataset's prices up to date: what changed holds from now on, what was stays."""
    from worker.cli import show
    from worker.clock import now
    from worker.db import database, migrations
    from worker.loading.prices import sync_prices
    from worker.pricing import dataset

    settings = state.configured()
    with database.open_engine(settings) as engine:
        migrations.upgrade(engine)
        lists = dataset.downloaded(settings.prices.download_url, now()) if download else dataset.shipped()
        synced = sync_prices(engine, lists)
    if as_json:
        show.json_document(synced._asdict())
    else:
        show.say(
            f"{synced.dataset}: {synced.added} models added, {synced.changed} changed from now on, "
            f"{synced.unchanged} as they were"
        )


@prices_app.command("unpriced")
def prices_unpriced(
    since: Since = None,
    until: Until = None,
    upstream: UpstreamName = None,
    estimated: Annotated[
        bool, typer.Option("--estimated", help="Those whose cost is an estimate, and what they are charged as.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List the models that have requests without a cost, or with an estimate for one."""
    from worker.cli import show
    from worker.db import database
    from worker.reports import report

    first, last = day("--since", since), day("--until", until)
    listing = report.estimated if estimated else report.unpriced
    with database.open_engine(state.configured()) as engine:
        rows = listing(engine, since=first, until=last, upstream=upstream)
    if as_json:
        show.json_document(rows)
    elif not rows:
        show.say("no cost is an estimate" if estimated else "every request has a cost")
    elif estimated:
        advice = "to have them charged by your own word: `worker prices set MODEL ...`, then `worker reprice`"
        show.table("Requests whose cost is an estimate", list(rows[0]), rows, advice)
    else:
        show.table(
            "Requests without a cost", list(rows[0]), rows,
            "where nothing is unclassified: `worker prices set MODEL ...`, for a service tier with `--service-tier`, "
            "then `worker reprice --unpriced`",
        )  # fmt: skip


def reprice(
    since: Since = None,
    until: Until = None,
    model: Annotated[str | None, typer.Option(help="Only this model; * stands for any characters.")] = None,
    upstream: UpstreamName = None,
    unpriced: Annotated[bool, typer.Option("--unpriced", help="Only requests that have no cost yet.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")] = False,
    as_json: Json = False,
) -> None:
    """Charge records anew by the prices in force, and correct the rollups with them."""
    from worker.cli import show
    from worker.cli.price_entry import zone
    from worker.corrections.reprice import Selection, reprice
    from worker.db import database, migrations
    from worker.loading.prices import open_pricer

    selection = Selection(day("--since", since), day("--until", until), model, upstream, unpriced)
    settings = state.configured()
    bar, advance = show.progress("repricing")
    with database.open_engine(settings) as engine, bar:
        migrations.upgrade(engine)
        pricer = open_pricer(engine, settings.prices, zone(engine, settings))
        found = reprice(engine, pricer, selection, dry_run=dry_run, progress=advance)
    if as_json:
        show.json_document({"dry_run": dry_run, "models": found})
        return
    changed = [r for r in found if r.changed]
    if changed:
        names = ("model", "records", "changed", "unpriced_before", "unpriced_after", "cost_usd_before",
                 "cost_usd_after", "actual_cost_usd_before", "actual_cost_usd_after")  # fmt: skip
        rows = [{name: getattr(r, name) for name in names} for r in changed]
        show.table("Would change" if dry_run else "Changed", names, rows)
    verb = "would change" if dry_run else "changed"
    show.say(f"looked at {sum(r.records for r in found)} records, {sum(r.changed for r in changed)} {verb}")
