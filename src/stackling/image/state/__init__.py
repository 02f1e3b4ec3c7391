"""Tables of the image service."""

from stackling.image.state import build, image, member, metadef, task

__all__ = ["build", "image", "member", "metadef", "task"]
