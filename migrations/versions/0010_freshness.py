"""Freshness that nothing from the future hides.

Revision ID: 0010
Revises: 0009
"""

from pathlib import Path

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

HERE = Path(__file__).parent


def upgrade() -> None:
    # The driver's own connection: several statements at once, and no reading of % as a parameter.
    connection = op.get_bind().connection.driver_connection
    connection.execute((HERE / "0010_freshness.sql").read_text())
