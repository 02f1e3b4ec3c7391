"""The verbs of placement; the only door for other services."""
