"""The tables of recordings and of the keys they are sealed with, for SQLite and PostgreSQL."""

from __future__ import annotations

import sqlalchemy as sql

metadata = sql.MetaData(naming_convention={"ix": "ix_%(table_name)s_%(column_0_N_name)s"})

recordings = sql.Table(
    "recordings",
    metadata,
    sql.Column("id", sql.String(80), primary_key=True),
    sql.Column("tenant", sql.String(64), nullable=False),
    sql.Column("session", sql.String(64), nullable=False),
    sql.Column("interaction", sql.String(64), nullable=False),
    sql.Column("unique_name", sql.String(255)),
    sql.Column("status", sql.String(16), nullable=False),
    sql.Column("started_at", sql.Double, nullable=False),
    sql.Column("ended_at", sql.Double),
    sql.Column("key", sql.String(255)),
    sql.Column("told", sql.Boolean, nullable=False),  # the session's stream has this recording's last event
    sql.Column("body", sql.Text, nullable=False),
    sql.Column("retain_until", sql.Double),  # NULL while it is held, and where it is kept for good
    sql.Index(None, "retain_until"),
    sql.Index(None, "tenant", "started_at", "id"),
    sql.Index(None, "tenant", "unique_name", "started_at"),
    sql.Index(None, "session", "started_at"),
    sql.Index(None, "interaction"),
    sql.Index(None, "told", "ended_at"),
    sql.Index(None, "status", "key"),
)

# Found by: one row per virtual number, participant and person (blind index), so that either search reads one index.
recording_keys = sql.Table(
    "recording_keys",
    metadata,
    sql.Column("tenant", sql.String(64), primary_key=True),
    sql.Column("word", sql.String(80), primary_key=True),
    sql.Column("started_at", sql.Double, primary_key=True),
    sql.Column("recording", sql.String(80), primary_key=True),
)

# What opens a recording's file: its data key, sealed to its tenant. Erasing a recording is deleting this row.
data_keys = sql.Table(
    "data_keys",
    metadata,
    sql.Column("recording", sql.String(80), primary_key=True),
    sql.Column("key", sql.String(16), nullable=False),  # which pair of its tenant
    sql.Column("box", sql.LargeBinary, nullable=False),
)

# The pairs of tenants, newest number last; the private half as the key provider wrapped it.
tenant_keys = sql.Table(
    "tenant_keys",
    metadata,
    sql.Column("tenant", sql.String(64), primary_key=True),
    sql.Column("number", sql.Integer, primary_key=True),
    sql.Column("public", sql.LargeBinary, nullable=False),
    sql.Column("wrapped", sql.LargeBinary, nullable=False),
    sql.Column("made_at", sql.Double, nullable=False),
)
