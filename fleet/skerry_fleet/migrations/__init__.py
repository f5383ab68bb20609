"""The steps from one version of the database to the next (alembic). They only go forward; see `upgrade.py`."""
