"""Tables of placement: providers with inventories, traits and aggregates; consumers with allocations."""

from stackling.placement.state import allocation, inventory, provider, vocabulary

__all__ = ["allocation", "inventory", "provider", "vocabulary"]
