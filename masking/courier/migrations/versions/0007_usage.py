"""What tenants use, day by day, and which recordings are counted among what is stored."""

from __future__ import annotations

import sqlalchemy as sql
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

ADDED_UP = (
    "sessions", "calls", "call_ms", "billed_seconds", "recordings", "recorded_ms",
    "stored_bytes", "stored_byte_seconds", "numbers",
)  # fmt: skip


def upgrade() -> None:
    op.create_table(
        "usage",
        sql.Column("tenant", sql.String(64), primary_key=True),
        sql.Column("day", sql.Integer, primary_key=True, autoincrement=False),
        sql.Column("service", sql.String(255), primary_key=True),
        *(sql.Column(name, sql.BigInteger, nullable=False, server_default="0") for name in ADDED_UP),
    )
    op.create_table(
        "usage_stored",
        sql.Column("recording", sql.String(80), primary_key=True),
        sql.Column("tenant", sql.String(64), nullable=False),
        sql.Column("service", sql.String(255), nullable=False),
        sql.Column("bytes", sql.BigInteger, nullable=False),
        sql.Column("since", sql.BigInteger, nullable=False),
        sql.Column("until", sql.BigInteger),
    )
