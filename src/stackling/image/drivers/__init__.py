"""Builders: the real one, and a fake."""
