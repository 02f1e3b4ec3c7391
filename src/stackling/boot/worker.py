"""The worker: threads that run due jobs."""

from stackling.base import jobs
from stackling.base.cloud import Cloud
from stackling.boot import assembly


def run(cloud: Cloud) -> jobs.Worker:
    """Start the threads; returns at once."""
    worker = jobs.Worker(cloud, assembly.machines(), threads=cloud.config.worker.threads)
    worker.run()
    return worker
