"""Tables of the image service."""

from stackling.image.state import image, member

__all__ = ["image", "member"]
