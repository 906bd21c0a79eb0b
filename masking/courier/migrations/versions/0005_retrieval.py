"""Pages of months in one index: a session's tenant and time beside each word it is found by, recordings by month.

A page then reads one index in its own order, however many sessions a number or a person has had. On PostgreSQL the
recordings and their words are partitioned by the month their call began in (`masking.courier.months`): the rows that
are written and looked for lie together, and an index stays as small as its month.
"""

from __future__ import annotations

import sqlalchemy as sql
from alembic import op

from masking.courier import months

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _found_by("session_numbers", "number", sql.String(16), ())
    _found_by("session_parties", "party", sql.String(64), ("participant",))
    if op.get_bind().dialect.name == "postgresql":
        _by_month("recordings", "id, started_at")
        _by_month("recording_keys", "tenant, word, started_at, recording")


def _found_by(table: str, word: str, kind: sql.String, more: tuple[str, ...]) -> None:
    """Makes the table anew, with what its sessions tell. `more`: columns of the key that older rows leave empty."""
    op.drop_index(f"ix_{table}_{word}", table)
    op.rename_table(table, f"{table}_old")
    op.create_table(
        table,
        sql.Column("session", sql.String(64), nullable=False),
        *(sql.Column(name, sql.String(64), nullable=False) for name in more),
        sql.Column(word, kind, nullable=False),
        sql.Column("tenant", sql.String(64), nullable=False),
        sql.Column("created_at", sql.Double, nullable=False),
        sql.PrimaryKeyConstraint("session", *more, word, name=f"pk_{table}"),
    )
    empty = "".join("'', " for _ in more)
    op.execute(
        f"INSERT INTO {table} SELECT old.session, {empty}old.{word}, sessions.tenant, sessions.created_at"
        f" FROM {table}_old AS old JOIN sessions ON sessions.id = old.session"
    )
    op.drop_table(f"{table}_old")
    op.create_index(f"ix_{table}_tenant_{word}_created_at_session", table, ["tenant", word, "created_at", "session"])


def _by_month(table: str, key: str) -> None:
    """Moves the table's rows into partitions. A partitioned table's key holds what it is partitioned by."""
    connection = op.get_bind()
    indexes = connection.execute(
        sql.text(
            "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = current_schema() AND tablename = :table"
            " AND indexname NOT LIKE '%_pkey'"
        ),
        {"table": table},
    ).all()
    for name, _ in indexes:
        op.execute(f"DROP INDEX {name}")
    op.execute(f"ALTER TABLE {table} RENAME TO {table}_old")
    op.execute(f"CREATE TABLE {table} (LIKE {table}_old INCLUDING DEFAULTS) PARTITION BY RANGE (started_at)")
    op.execute(f"CREATE TABLE {table}_other PARTITION OF {table} DEFAULT")
    now, first = connection.execute(
        sql.text(f"SELECT extract(epoch FROM now())::float8, min(started_at) FROM {table}_old")
    ).one()
    for statement in months.statements(table, since=min(now, first or now), until=now):
        op.execute(statement)
    op.execute(f"INSERT INTO {table} SELECT * FROM {table}_old")
    op.execute(f"DROP TABLE {table}_old")
    op.execute(f"ALTER TABLE {table} ADD PRIMARY KEY ({key})")
    for _, definition in indexes:
        op.execute(definition)
