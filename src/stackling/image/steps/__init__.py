"""The lives of images."""

from stackling.image.steps import build, build_schedule, image, task

MACHINES = (image.machine, task.machine, build.machine, build_schedule.machine)
