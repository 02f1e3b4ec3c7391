"""Tables of the block storage service."""

from stackling.volume.state import attachment, message, qos, service, snapshot, transfer, volume, volume_type

__all__ = ["attachment", "message", "qos", "service", "snapshot", "transfer", "volume", "volume_type"]
