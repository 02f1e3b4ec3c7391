"""The verbs of compute; the only door for other services."""
