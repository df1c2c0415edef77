"""Prices and rate multipliers with dates; each record names the price it was charged by.

Revision ID: 0002
Revises: 0001
"""

from pathlib import Path

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

HERE = Path(__file__).parent


def upgrade() -> None:
    # The driver's own connection: several statements at once, and no reading of % as a parameter.
    connection = op.get_bind().connection.driver_connection
    for part in ("0002_prices.sql", "0001_roles.sql"):  # the roles once more: for what is new
        connection.execute((HERE / part).read_text())
