"""Service tiers as asked for and as billed, estimated costs, cancelled requests, finer latency classes.

Revision ID: 0009
Revises: 0008
"""

from pathlib import Path

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

HERE = Path(__file__).parent


def upgrade() -> None:
    # The driver's own connection: several statements at once, and no reading of % as a parameter.
    connection = op.get_bind().connection.driver_connection
    connection.execute((HERE / "0009_money.sql").read_text())
