"""The first tables: sessions, interactions, events, recordings, and how far the outboxes have been read."""

from __future__ import annotations

import sqlalchemy as sql
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "sessions",
        sql.Column("id", sql.String(64), primary_key=True),
        sql.Column("tenant", sql.String(64), nullable=False),
        sql.Column("unique_name", sql.String(255)),
        sql.Column("status", sql.String(16), nullable=False),
        sql.Column("created_at", sql.Double, nullable=False),
        sql.Column("expires_at", sql.Double, nullable=False),
        sql.Column("seq", sql.BigInteger, nullable=False),
        sql.Column("body", sql.Text, nullable=False),
    )
    op.create_index("ix_sessions_tenant_created_at_id", "sessions", ["tenant", "created_at", "id"])
    op.create_index("ix_sessions_tenant_unique_name_created_at", "sessions", ["tenant", "unique_name", "created_at"])
    op.create_table(
        "session_numbers",
        sql.Column("session", sql.String(64), primary_key=True),
        sql.Column("number", sql.String(16), primary_key=True),
    )
    op.create_index("ix_session_numbers_number", "session_numbers", ["number"])
    op.create_table(
        "interactions",
        sql.Column("id", sql.String(64), primary_key=True),
        sql.Column("tenant", sql.String(64), nullable=False),
        sql.Column("session", sql.String(64)),
        sql.Column("started_at", sql.Double),
        sql.Column("body", sql.Text, nullable=False),
    )
    op.create_index("ix_interactions_session_started_at", "interactions", ["session", "started_at"])
    op.create_table(
        "events",
        sql.Column(
            "position",
            sql.BigInteger().with_variant(sql.Integer, "sqlite"),
            primary_key=True,
            autoincrement=True,
        ),
        sql.Column("id", sql.String(64), nullable=False),
        sql.Column("tenant", sql.String(64), nullable=False),
        sql.Column("session", sql.String(64)),
        sql.Column("seq", sql.BigInteger, nullable=False),
        sql.Column("type", sql.String(64), nullable=False),
        sql.Column("occurred_at", sql.Double, nullable=False),
        sql.Column("body", sql.Text, nullable=False),
        sql.UniqueConstraint("id", name="uq_events_id"),
    )
    op.create_index("ix_events_session_seq", "events", ["session", "seq"])
    op.create_index("ix_events_tenant_position", "events", ["tenant", "position"])
    op.create_table(
        "loose_counts",
        sql.Column("tenant", sql.String(64), primary_key=True),
        sql.Column("seq", sql.BigInteger, nullable=False),
    )
    op.create_table(
        "outbox_positions",
        sql.Column("stream", sql.String(64), primary_key=True),
        sql.Column("entry", sql.String(64), nullable=False),
    )
    _recordings()


def _recordings() -> None:
    op.create_table(
        "recordings",
        sql.Column("id", sql.String(80), primary_key=True),
        sql.Column("tenant", sql.String(64), nullable=False),
        sql.Column("session", sql.String(64), nullable=False),
        sql.Column("interaction", sql.String(64), nullable=False),
        sql.Column("unique_name", sql.String(255)),
        sql.Column("status", sql.String(16), nullable=False),
        sql.Column("started_at", sql.Double, nullable=False),
        sql.Column("ended_at", sql.Double),
        sql.Column("key", sql.String(255)),
        sql.Column("told", sql.Boolean, nullable=False),
        sql.Column("body", sql.Text, nullable=False),
    )
    op.create_index("ix_recordings_tenant_started_at_id", "recordings", ["tenant", "started_at", "id"])
    op.create_index(
        "ix_recordings_tenant_unique_name_started_at", "recordings", ["tenant", "unique_name", "started_at"]
    )
    op.create_index("ix_recordings_session_started_at", "recordings", ["session", "started_at"])
    op.create_index("ix_recordings_interaction", "recordings", ["interaction"])
    op.create_index("ix_recordings_told_ended_at", "recordings", ["told", "ended_at"])
    op.create_table(
        "recording_keys",
        sql.Column("tenant", sql.String(64), primary_key=True),
        sql.Column("word", sql.String(80), primary_key=True),
        sql.Column("started_at", sql.Double, primary_key=True),
        sql.Column("recording", sql.String(80), primary_key=True),
    )
