"""Tables of object storage."""

from stackling.objectstore.state import account, container, object

__all__ = ["account", "container", "object"]
