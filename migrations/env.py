"""Alembic's environment, run by ``gewe_cache.store.scripts`` on the connection it is given; no ini file."""

from alembic import context

from gewe_cache.store.scripts import environment_options

connection = context.config.attributes.get("connection")
if connection is None:
    msg = "run the migrations with gewe-cache db …; they take no other way to a database"
    raise RuntimeError(msg)

context.configure(connection=connection, **environment_options())
with context.begin_transaction():
    context.run_migrations()
