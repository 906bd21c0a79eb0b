"""What each webhook endpoint has been sent, is owed, and will not get."""

from __future__ import annotations

import sqlalchemy as sql
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "webhook_cursors",
        sql.Column("endpoint", sql.String(64), primary_key=True),
        sql.Column("position", sql.BigInteger, nullable=False),
    )
    op.create_table(
        "webhook_deliveries",
        sql.Column("endpoint", sql.String(64), primary_key=True),
        sql.Column("event", sql.String(64), primary_key=True),
        sql.Column("position", sql.BigInteger, nullable=False),
        sql.Column("lane", sql.String(64), nullable=False),
        sql.Column("type", sql.String(64), nullable=False),
        sql.Column("state", sql.String(16), nullable=False),
        sql.Column("attempts", sql.Integer, nullable=False),
        sql.Column("first_at", sql.Double),
        sql.Column("last_at", sql.Double),
        sql.Column("next_at", sql.Double),
        sql.Column("status", sql.Integer),
        sql.Column("error", sql.String(32)),
        sql.Column("took", sql.Double),
    )
    columns = ["endpoint", "state", "position"]
    op.create_index("ix_webhook_deliveries_endpoint_state_position", "webhook_deliveries", columns)
    op.create_index("ix_webhook_deliveries_state_last_at", "webhook_deliveries", ["state", "last_at"])
