"""The lives of volumes and snapshots."""

from stackling.volume.steps import snapshot, volume

MACHINES = (volume.machine, snapshot.machine)
