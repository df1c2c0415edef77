"""How much of CLIProxyAPIHome has been loaded, and what a cache write costs that is kept for an hour.

Revision ID: 0014
Revises: 0013
"""

from pathlib import Path

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

HERE = Path(__file__).parent


def upgrade() -> None:
    # The driver's own connection: several statements at once, and no reading of % as a parameter.
    connection = op.get_bind().connection.driver_connection
    connection.execute((HERE / "0014_home.sql").read_text())
    connection.execute((HERE / "0014_cache_write_1h.sql").read_text())
