"""Numbers that do not run out.

Revision ID: 0011
Revises: 0010
"""

from pathlib import Path

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

HERE = Path(__file__).parent


def upgrade() -> None:
    # The driver's own connection: several statements at once, and no reading of % as a parameter.
    connection = op.get_bind().connection.driver_connection
    connection.execute((HERE / "0011_numbers.sql").read_text())
