"""The lives of images."""

from stackling.image.steps import cached, image, task

MACHINES = (image.machine, task.machine, cached.machine, cached.looks)
