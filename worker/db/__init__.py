"""The engine, locks, migrations, settings and the embedded server."""
