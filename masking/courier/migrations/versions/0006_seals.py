"""Recordings are sealed: their data keys, and the key pairs of tenants."""

from __future__ import annotations

import sqlalchemy as sql
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "data_keys",
        sql.Column("recording", sql.String(80), primary_key=True),
        sql.Column("key", sql.String(16), nullable=False),
        sql.Column("box", sql.LargeBinary, nullable=False),
    )
    op.create_table(
        "tenant_keys",
        sql.Column("tenant", sql.String(64), primary_key=True),
        sql.Column("number", sql.Integer, primary_key=True),
        sql.Column("public", sql.LargeBinary, nullable=False),
        sql.Column("wrapped", sql.LargeBinary, nullable=False),
        sql.Column("made_at", sql.Double, nullable=False),
    )
