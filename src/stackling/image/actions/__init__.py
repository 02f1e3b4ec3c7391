"""What can be done with images; the only door for other services."""
