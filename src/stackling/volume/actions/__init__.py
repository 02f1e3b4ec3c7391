"""What can be done with volumes; the only door for other services."""
