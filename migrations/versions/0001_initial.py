"""The first schema: records, rollups, what they refer to, and the views of usage_api.

Revision ID: 0001
"""

from pathlib import Path

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

HERE = Path(__file__).parent


def upgrade() -> None:
    # The driver's own connection: several statements at once, and no reading of % as a parameter.
    connection = op.get_bind().connection.driver_connection
    for part in ("0001_initial.sql", "0001_comments.sql", "0001_roles.sql"):
        connection.execute((HERE / part).read_text())
