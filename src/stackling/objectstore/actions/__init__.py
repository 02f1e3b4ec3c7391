"""What accounts, containers and objects can be asked to do."""
