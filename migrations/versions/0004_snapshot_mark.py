"""How far each list of a snapshot has been read, so that only what was added is read the next time.

Revision ID: 0004
Revises: 0003
"""

from pathlib import Path

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

HERE = Path(__file__).parent


def upgrade() -> None:
    # The driver's own connection: several statements at once, and no reading of % as a parameter.
    connection = op.get_bind().connection.driver_connection
    connection.execute((HERE / "0004_snapshot_mark.sql").read_text())
