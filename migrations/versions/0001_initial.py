"""Every table of the first version.

Revision 0001, the first.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# SQLite counts a key up by itself only when it is an INTEGER.
KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

# Already compressed, or read whole: pglz would cost time on every write and save nothing.
EXTERNAL_BLOBS = (
    ("frame_batch", "data"),
    ("run_head", "stats"),
    ("block", "frames"),
    ("chunk", "data"),
    ("table_rows", "data"),
    ("attachment", "data"),
    ("baseline_snapshot", "data"),
    ("detector_state", "state"),
)


def upgrade() -> None:
    op.create_table(
        "audit",
        sa.Column("audit_id", KEY, autoincrement=True, nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("actor", sa.String(length=128), nullable=False),
        sa.Column("action", sa.String(length=64), nullable=False),
        sa.Column("target", sa.String(length=256), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("audit_id", name=op.f("pk_audit")),
    )
    op.create_table(
        "run",
        sa.Column("run_id", sa.String(length=128), nullable=False),
        sa.Column("name", sa.String(length=256), nullable=False),
        sa.Column("project", sa.String(length=128), server_default="default", nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("heard_at", sa.Double(), nullable=False),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.Column("info", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_run")),
    )
    op.create_index("ix_run_heard_at", "run", ["heard_at"], unique=False)
    op.create_table(
        "series_schema",
        sa.Column("hash", sa.String(length=32), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_series_schema")),
    )
    op.create_table(
        "token",
        sa.Column("token_id", KEY, autoincrement=True, nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("last_used_at", sa.Double(), nullable=True),
        sa.Column("revoked_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("token_id", name=op.f("pk_token")),
        sa.UniqueConstraint("hash", name=op.f("uq_token_hash")),
    )
    op.create_table(
        "attachment",
        sa.Column("attachment_id", KEY, autoincrement=True, nullable=False),
        sa.Column("run_id", sa.String(length=128), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.BigInteger(), nullable=False),
        sa.Column("first_step", sa.BigInteger(), nullable=True),
        sa.Column("last_step", sa.BigInteger(), nullable=True),
        sa.Column("received_at", sa.Double(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["run.run_id"], name=op.f("fk_attachment_run_id_run"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("attachment_id", name=op.f("pk_attachment")),
    )
    op.create_table(
        "attempt",
        sa.Column("run_id", sa.String(length=128), nullable=False),
        sa.Column("attempt", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("first_step", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["run_id"], ["run.run_id"], name=op.f("fk_attempt_run_id_run"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", "attempt", name=op.f("pk_attempt")),
    )
    op.create_table(
        "baseline_snapshot",
        sa.Column("run_id", sa.String(length=128), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("ord", sa.BigInteger(), nullable=False),
        sa.Column("schema_hash", sa.String(length=32), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"],
            ["run.run_id"],
            name=op.f("fk_baseline_snapshot_run_id_run"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("run_id", "rank", "ord", name=op.f("pk_baseline_snapshot")),
    )
    op.create_table(
        "block",
        sa.Column("run_id", sa.String(length=128), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("tier", sa.Integer(), nullable=False),
        sa.Column("block", sa.BigInteger(), nullable=False),
        sa.Column("ord0", sa.BigInteger(), nullable=False),
        sa.Column("num_columns", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.BigInteger(), nullable=False),
        sa.Column("schema_hash", sa.String(length=32), nullable=True),
        sa.Column("codec", sa.String(length=16), nullable=False),
        sa.Column("frames", sa.LargeBinary(), nullable=False),
        sa.Column("num_bytes", sa.BigInteger(), nullable=False),
        sa.Column("received_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["run.run_id"], name=op.f("fk_block_run_id_run"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", "rank", "tier", "block", name=op.f("pk_block")),
    )
    op.create_index("ix_block_tier_received_at", "block", ["tier", "received_at"], unique=False)
    op.create_table(
        "chunk",
        sa.Column("run_id", sa.String(length=128), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("tier", sa.Integer(), nullable=False),
        sa.Column("statistic", sa.String(length=32), nullable=False),
        sa.Column("agg", sa.String(length=8), nullable=False),
        sa.Column("block", sa.BigInteger(), nullable=False),
        sa.Column("tile", sa.Integer(), nullable=False),
        sa.Column("codec", sa.String(length=16), nullable=False),
        sa.Column("crc", sa.BigInteger(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["run.run_id"], name=op.f("fk_chunk_run_id_run"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint(
            "run_id", "rank", "tier", "statistic", "agg", "block", "tile", name=op.f("pk_chunk")
        ),
    )
    op.create_table(
        "delivery",
        sa.Column("delivery_id", KEY, autoincrement=True, nullable=False),
        sa.Column("run_id", sa.String(length=128), nullable=False),
        sa.Column("incident_number", sa.Integer(), nullable=False),
        sa.Column("transition", sa.String(length=16), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("channel", sa.String(length=64), nullable=False),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_attempt_at", sa.Double(), nullable=False),
        sa.Column("claimed_by", sa.String(length=64), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("delivered_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["run_id"], ["run.run_id"], name=op.f("fk_delivery_run_id_run"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("delivery_id", name=op.f("pk_delivery")),
        sa.UniqueConstraint(
            "run_id",
            "incident_number",
            "transition",
            "step",
            "channel",
            name=op.f("uq_delivery_run_id_incident_number_transition_step_channel"),
        ),
    )
    op.create_index(
        "ix_delivery_status_next_attempt_at",
        "delivery",
        ["status", "next_attempt_at"],
        unique=False,
    )
    op.create_table(
        "detector_state",
        sa.Column("run_id", sa.String(length=128), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("next_ord", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"],
            ["run.run_id"],
            name=op.f("fk_detector_state_run_id_run"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("run_id", "rank", name=op.f("pk_detector_state")),
    )
    op.create_table(
        "event",
        sa.Column("event_id", KEY, autoincrement=True, nullable=False),
        sa.Column("run_id", sa.String(length=128), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=True),
        sa.Column("wall_time", sa.Double(), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["run.run_id"], name=op.f("fk_event_run_id_run"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("event_id", name=op.f("pk_event")),
    )
    op.create_index("ix_event_run_id_event_id", "event", ["run_id", "event_id"], unique=False)
    op.create_table(
        "finding",
        sa.Column("finding_id", KEY, autoincrement=True, nullable=False),
        sa.Column("run_id", sa.String(length=128), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("incident_number", sa.Integer(), nullable=True),
        sa.Column("ord", sa.BigInteger(), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("detector", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("severity", sa.String(length=16), nullable=False),
        sa.Column("series", sa.String(length=600), nullable=True),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["run.run_id"], name=op.f("fk_finding_run_id_run"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("finding_id", name=op.f("pk_finding")),
    )
    op.create_index("ix_finding_run_id_step", "finding", ["run_id", "step"], unique=False)
    op.create_table(
        "frame_batch",
        sa.Column("run_id", sa.String(length=128), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("ord0", sa.BigInteger(), nullable=False),
        sa.Column("num_frames", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("schema_hash", sa.String(length=32), nullable=True),
        sa.Column("received_at", sa.Double(), nullable=False),
        sa.Column("codec", sa.String(length=16), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["run.run_id"], name=op.f("fk_frame_batch_run_id_run"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["schema_hash"],
            ["series_schema.hash"],
            name=op.f("fk_frame_batch_schema_hash_series_schema"),
        ),
        sa.PrimaryKeyConstraint("run_id", "rank", "ord0", name=op.f("pk_frame_batch")),
    )
    op.create_table(
        "incident",
        sa.Column("incident_id", KEY, autoincrement=True, nullable=False),
        sa.Column("run_id", sa.String(length=128), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("severity", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("onset_step", sa.BigInteger(), nullable=False),
        sa.Column("loss_step", sa.BigInteger(), nullable=True),
        sa.Column("sentence", sa.Text(), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("acknowledged", sa.Boolean(), nullable=False),
        sa.Column("opened_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["run.run_id"], name=op.f("fk_incident_run_id_run"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("incident_id", name=op.f("pk_incident")),
        sa.UniqueConstraint("run_id", "number", name=op.f("uq_incident_run_id_number")),
    )
    op.create_table(
        "received",
        sa.Column("run_id", sa.String(length=128), nullable=False),
        sa.Column("attempt", sa.BigInteger(), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("ord0", sa.BigInteger(), nullable=True),
        sa.Column("num_frames", sa.Integer(), nullable=False),
        sa.Column("crc32", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["run.run_id"], name=op.f("fk_received_run_id_run"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", "attempt", "rank", "seq", name=op.f("pk_received")),
    )
    op.create_table(
        "run_head",
        sa.Column("run_id", sa.String(length=128), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("next_ord", sa.BigInteger(), nullable=False),
        sa.Column("compacted_ord", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("attempt", sa.BigInteger(), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=True),
        sa.Column("wall_time", sa.Double(), nullable=True),
        sa.Column("schema_hash", sa.String(length=32), nullable=True),
        sa.Column("host", sa.String(length=256), nullable=False),
        sa.Column("device", sa.String(length=256), nullable=False),
        sa.Column("scalars", sa.JSON(), nullable=False),
        sa.Column("counters", sa.JSON(), nullable=False),
        sa.Column("stats", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(
            ["run_id"], ["run.run_id"], name=op.f("fk_run_head_run_id_run"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", "rank", name=op.f("pk_run_head")),
    )
    op.create_table(
        "run_lease",
        sa.Column("run_id", sa.String(length=128), nullable=False),
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["run.run_id"], name=op.f("fk_run_lease_run_id_run"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_run_lease")),
    )
    op.create_table(
        "table_rows",
        sa.Column("run_id", sa.String(length=128), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("ord", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("codec", sa.String(length=16), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["run.run_id"], name=op.f("fk_table_rows_run_id_run"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", "rank", "ord", "name", name=op.f("pk_table_rows")),
    )
    if op.get_bind().dialect.name == "postgresql":
        for table, column in EXTERNAL_BLOBS:
            op.execute(f"ALTER TABLE {table} ALTER COLUMN {column} SET STORAGE EXTERNAL")


def downgrade() -> None:
    op.drop_table("table_rows")
    op.drop_table("run_lease")
    op.drop_table("run_head")
    op.drop_table("received")
    op.drop_table("incident")
    op.drop_table("frame_batch")
    op.drop_index("ix_finding_run_id_step", table_name="finding")
    op.drop_table("finding")
    op.drop_index("ix_event_run_id_event_id", table_name="event")
    op.drop_table("event")
    op.drop_table("detector_state")
    op.drop_index("ix_delivery_status_next_attempt_at", table_name="delivery")
    op.drop_table("delivery")
    op.drop_table("chunk")
    op.drop_index("ix_block_tier_received_at", table_name="block")
    op.drop_table("block")
    op.drop_table("baseline_snapshot")
    op.drop_table("attempt")
    op.drop_table("attachment")
    op.drop_table("token")
    op.drop_table("series_schema")
    op.drop_index("ix_run_heard_at", table_name="run")
    op.drop_table("run")
    op.drop_table("audit")
