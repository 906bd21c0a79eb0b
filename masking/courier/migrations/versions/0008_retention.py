"""Until when recordings are kept, for the sweeper to find."""

from __future__ import annotations

import sqlalchemy as sql
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("recordings", sql.Column("retain_until", sql.Double))
    op.create_index("ix_recordings_retain_until", "recordings", ["retain_until"])
