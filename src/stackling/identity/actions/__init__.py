"""What identity does: the only door for other services."""
