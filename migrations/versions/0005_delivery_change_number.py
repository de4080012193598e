"""An alert is known by the number of its change, since two of one incident may be alike.

Revision 0005, after 0004.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

OLD_KEY = "uq_delivery_change"
OLD_COLUMNS = ["run_id", "incident_number", "transition", "step", "severity", "channel"]
NEW_KEY = "uq_delivery_run_id_incident_number_change_number_channel"
NEW_COLUMNS = ["run_id", "incident_number", "change_number", "channel"]


def upgrade() -> None:
    with op.batch_alter_table("delivery") as delivery:
        delivery.add_column(sa.Column("change_number", sa.BigInteger(), nullable=True))
    # Incidents count their changes from 1 from now on: what is there has numbers of its own.
    op.execute("UPDATE delivery SET change_number = -delivery_id")
    with op.batch_alter_table("delivery") as delivery:
        delivery.alter_column("change_number", existing_type=sa.BigInteger(), nullable=False)
        delivery.drop_constraint(op.f(OLD_KEY), type_="unique")
        delivery.create_unique_constraint(op.f(NEW_KEY), NEW_COLUMNS)


def downgrade() -> None:
    # The old key holds one of those that are alike: the first one, as it would have kept it.
    alike = " AND ".join(f"earlier.{name} = delivery.{name}" for name in OLD_COLUMNS)
    op.execute(
        "DELETE FROM delivery WHERE EXISTS (SELECT 1 FROM delivery AS earlier "
        f"WHERE earlier.delivery_id < delivery.delivery_id AND {alike})"
    )
    with op.batch_alter_table("delivery") as delivery:
        delivery.drop_constraint(op.f(NEW_KEY), type_="unique")
        delivery.create_unique_constraint(op.f(OLD_KEY), OLD_COLUMNS)
        delivery.drop_column("change_number")
