"""The severity of an alert in its key, so that a graver one at the same step is another alert.

Revision 0004, after 0003.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

OLD_KEY = "uq_delivery_run_id_incident_number_transition_step_channel"
NEW_KEY = "uq_delivery_change"


def upgrade() -> None:
    severity = sa.Column("severity", sa.String(length=16), nullable=False, server_default="warning")
    with op.batch_alter_table("delivery") as delivery:
        delivery.add_column(severity)
        delivery.drop_constraint(op.f(OLD_KEY), type_="unique")
        delivery.create_unique_constraint(
            op.f(NEW_KEY),
            ["run_id", "incident_number", "transition", "step", "severity", "channel"],
        )
    with op.batch_alter_table("delivery") as delivery:
        delivery.alter_column("severity", server_default=None)


def downgrade() -> None:
    # The old key holds one of them: the first one, as it would have kept it.
    op.execute(
        "DELETE FROM delivery WHERE EXISTS (SELECT 1 FROM delivery AS earlier "
        "WHERE earlier.delivery_id < delivery.delivery_id AND earlier.run_id = delivery.run_id "
        "AND earlier.incident_number = delivery.incident_number "
        "AND earlier.transition = delivery.transition AND earlier.step = delivery.step "
        "AND earlier.channel = delivery.channel)"
    )
    with op.batch_alter_table("delivery") as delivery:
        delivery.drop_constraint(op.f(NEW_KEY), type_="unique")
        delivery.create_unique_constraint(
            op.f(OLD_KEY), ["run_id", "incident_number", "transition", "step", "channel"]
        )
        delivery.drop_column("severity")
