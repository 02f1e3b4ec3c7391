"""The lives of images."""

from stackling.image.steps import image

MACHINES = (image.machine,)
