"""The lives of images."""

from stackling.image.steps import image, task

MACHINES = (image.machine, task.machine)
