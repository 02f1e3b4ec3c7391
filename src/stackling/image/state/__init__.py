"""Tables of the image service."""

from stackling.image.state import cached, image, member, metadef, task

__all__ = ["cached", "image", "member", "metadef", "task"]
