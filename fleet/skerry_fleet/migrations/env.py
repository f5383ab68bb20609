"""Run by alembic for every command: on the connection that it was given, or as SQL text for one kind of database."""

from __future__ import annotations

from alembic import context

_given = context.config.attributes
if context.is_offline_mode():
    context.configure(dialect_name=_given["dialect"], literal_binds=True)
else:
    # All steps in the transaction of the caller, who holds the lock: they are made together or not at all.
    context.configure(connection=_given["connection"], transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
