"""Whose sessions: by the blind index of a person's number, for searches with a reason."""

from __future__ import annotations

import sqlalchemy as sql
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "session_parties",
        sql.Column("session", sql.String(64), primary_key=True),
        sql.Column("party", sql.String(64), primary_key=True),
    )
    op.create_index("ix_session_parties_party", "session_parties", ["party"])
