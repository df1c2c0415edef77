"""Alembic's environment: one connection handed in by worker.db.database, one transaction, under a lock."""

from alembic import context
from sqlalchemy import text

connection = context.config.attributes["connection"]
connection.execute(text("CREATE SCHEMA IF NOT EXISTS usage"))
context.configure(
    connection=connection,
    target_metadata=None,
    version_table="schema_version",
    version_table_schema="usage",
    transaction_per_migration=False,
)
with context.begin_transaction():
    context.run_migrations()
