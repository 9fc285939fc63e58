"""Shapes of a base's weights, so that adapters are checked where the weights are not."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("base", schema=None) as batch_op:
        batch_op.add_column(sa.Column("shapes", sa.JSON(none_as_null=True), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("base", schema=None) as batch_op:
        batch_op.drop_column("shapes")
