"""Object storage: accounts, containers and objects (Swift's API v1)."""
