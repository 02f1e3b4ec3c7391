"""Tables of the image service."""

from stackling.image.state import build, cached, image, member, metadef, task

__all__ = ["build", "cached", "image", "member", "metadef", "task"]
