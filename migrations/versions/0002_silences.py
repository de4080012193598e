"""Silences, and the changes of incidents that they withhold.

Revision 0002, after 0001.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# SQLite counts a key up by itself only when it is an INTEGER.
KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "silence",
        sa.Column("silence_id", KEY, autoincrement=True, nullable=False),
        sa.Column("project", sa.String(length=128), nullable=True),
        sa.Column("run", sa.String(length=256), nullable=True),
        sa.Column("kind", sa.String(length=64), nullable=True),
        sa.Column("module_group", sa.String(length=600), nullable=True),
        sa.Column("starts_at", sa.Double(), nullable=False),
        sa.Column("ends_at", sa.Double(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("created_by", sa.String(length=128), nullable=False),
        sa.Column("reason", sa.String(length=500), nullable=False),
        sa.PrimaryKeyConstraint("silence_id", name=op.f("pk_silence")),
    )
    op.create_index("ix_silence_ends_at", "silence", ["ends_at"])
    op.create_table(
        "withheld",
        sa.Column("run_id", sa.String(length=128), nullable=False),
        sa.Column("incident_number", sa.Integer(), nullable=False),
        sa.Column("transitions", sa.JSON(), nullable=False),
        sa.Column("since", sa.Double(), nullable=False),
        sa.Column("look_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["run.run_id"], name=op.f("fk_withheld_run_id_run"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", "incident_number", name=op.f("pk_withheld")),
    )
    op.create_index("ix_withheld_look_at", "withheld", ["look_at"])


def downgrade() -> None:
    op.drop_index("ix_withheld_look_at", table_name="withheld")
    op.drop_table("withheld")
    op.drop_index("ix_silence_ends_at", table_name="silence")
    op.drop_table("silence")
