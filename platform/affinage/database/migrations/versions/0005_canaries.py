"""Texts and their vectors that tell whether an embedder is still the one that made a generation."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "canary",
        sa.Column("generation_id", sa.String(), nullable=False),
        sa.Column("text", sa.String(), nullable=False),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["generation_id"], ["generation.generation_id"], name=op.f("fk_canary_generation_id_generation")),
        sa.PrimaryKeyConstraint("generation_id", "text", name=op.f("pk_canary")),
    )


def downgrade() -> None:
    op.drop_table("canary")
