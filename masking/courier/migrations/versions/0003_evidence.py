"""The chain of evidence, and finding erased recordings whose file is still there."""

from __future__ import annotations

import sqlalchemy as sql
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "evidence",
        sql.Column("tenant", sql.String(64), primary_key=True),
        sql.Column("seq", sql.BigInteger, primary_key=True),
        sql.Column("event", sql.String(64), nullable=False),
        sql.Column("hash", sql.String(64), nullable=False),
        sql.UniqueConstraint("event", name="uq_evidence_event"),
    )
    op.create_index("ix_recordings_status_key", "recordings", ["status", "key"])
