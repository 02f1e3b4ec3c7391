"""Alembic: one history for the one database. A migration runs while the previous release is still serving."""
