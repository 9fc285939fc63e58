"""Sources that were said to have changed, and keys that may say nothing else."""

import sqlalchemy as sa
from alembic import op

from affinage.database.tables.base import Instant

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "source_hint",
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("after_fence", sa.BigInteger(), nullable=False),
        sa.Column("asked_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("source", name=op.f("pk_source_hint")),
    )
    with op.batch_alter_table("api_key", schema=None) as batch_op:
        batch_op.add_column(sa.Column("scope", sa.String(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("api_key", schema=None) as batch_op:
        batch_op.drop_column("scope")
    op.drop_table("source_hint")
