"""Alembic runs inside the transaction that `Database.migrate` opened: a migration is applied whole or not at all."""

from alembic import context

from affinage.database.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
context.run_migrations()
