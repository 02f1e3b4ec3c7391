"""Tables of the image service."""

from stackling.image.state import image, member, metadef, task

__all__ = ["image", "member", "metadef", "task"]
