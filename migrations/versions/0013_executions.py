"""What v8 tells of an attempt: its execution id, session, response model, and how long caches are kept.

Revision ID: 0013
Revises: 0012
"""

from pathlib import Path

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

HERE = Path(__file__).parent


def upgrade() -> None:
    # The driver's own connection: several statements at once, and no reading of % as a parameter.
    connection = op.get_bind().connection.driver_connection
    connection.execute((HERE / "0013_executions.sql").read_text())
