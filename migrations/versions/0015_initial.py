"""The schema of the first release. Numbers below are of versions before it, from which no way leads here.

Revision ID: 0015
Revises:
"""

from pathlib import Path

from alembic import op

revision = "0015"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    # The driver's own connection: several statements at once, and no reading of % as a parameter.
    connection = op.get_bind().connection.driver_connection
    connection.execute(Path(__file__).with_suffix(".sql").read_text())
