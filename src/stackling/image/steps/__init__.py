"""The lives of images."""

from stackling.image.steps import build, build_schedule, cached, image, task

MACHINES = (
    image.machine,
    task.machine,
    cached.machine,
    cached.looks,
    build.machine,
    build_schedule.machine,
)
