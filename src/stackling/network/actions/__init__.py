"""The verbs of the network service: the only door for other services."""
