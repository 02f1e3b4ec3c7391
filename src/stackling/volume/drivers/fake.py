"""A volume backend without disks: the real one's semantics, in memory, with knobs for trouble."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from stackling.image.export import FakeExports
from stackling.volume.driver import (
    BackendInfo,
    BackendUnavailable,
    Connection,
    Format,
    FromImage,
    FromSnapshot,
    FromVolume,
    ObservedVolume,
    VolumeBusy,
    VolumeFailed,
    VolumeSpec,
)

GIB = 1 << 30


class FakeBackend:
    """One fake backend.

    Knobs: `down`, `total_gib`, `lose_reply`, `fail_next`, `slow_copy` (that many calls find a copy unfinished),
    `busy` (ids of volumes that a guest holds open). `volumes` and `snapshots` are what is there: sizes in GiB.
    """

    def __init__(
        self, name: str = "fake", total_gib: int = 10_000, exports: FakeExports | None = None
    ) -> None:
        self.name = name
        self.total_gib = total_gib
        self.down = False
        self.slow_copy = 0
        self.busy: set[str] = set()
        self.volumes: dict[str, VolumeSpec] = {}
        self.sizes: dict[str, int] = {}
        self.snapshots: dict[str, int] = {}
        self.calls: list[str] = []
        self.exports = exports or FakeExports()
        self._lose = 0
        self._failures: dict[str, list[Exception]] = {}
        self._lock = threading.RLock()

    def lose_reply(self, times: int = 1) -> None:
        """The next calls that change something do it, and then their reply is lost."""
        self._lose += times

    def fail_next(self, method: str, reason: str, error: type[Exception] = VolumeFailed) -> None:
        """The next call of `method` raises `error(reason)` and does nothing."""
        self._failures.setdefault(method, []).append(error(reason))

    def info(self) -> BackendInfo:
        with self._call("info", changes=False):
            used = sum(self.sizes.values()) + sum(self.snapshots.values())
            return BackendInfo(
                name=self.name,
                total_gib=self.total_gib,
                free_gib=self.total_gib - used,
                features=frozenset({"multiattach"}),
            )

    def ensure(self, volume: VolumeSpec) -> bool:
        with self._call("ensure"):
            if volume.id in self.volumes:
                return True
            need = self._source_gib(volume)
            if need > volume.size_gib:
                raise VolumeFailed(
                    f"A volume of {volume.size_gib} GiB is too small for its source: {need} GiB"
                )
            if need and self._copying():
                return False
            self.volumes[volume.id] = volume
            self.sizes[volume.id] = volume.size_gib
            return True

    def observe(self, id: str) -> ObservedVolume | None:
        with self._call("observe", changes=False):
            if id not in self.volumes:
                return None
            return ObservedVolume(size_gib=self.sizes[id], format=self.volumes[id].format, used_bytes=0)

    def remove(self, id: str) -> None:
        with self._call("remove"):
            if id in self.busy:
                raise VolumeBusy(f"Volume {id} is open in a guest")
            self.volumes.pop(id, None)
            self.sizes.pop(id, None)

    def extend(self, id: str, size_gib: int) -> None:
        with self._call("extend"):
            self._known(id)
            self.sizes[id] = max(self.sizes[id], size_gib)

    def ensure_snapshot(self, id: str, volume_id: str) -> bool:
        with self._call("ensure_snapshot"):
            if id in self.snapshots:
                return True
            self._known(volume_id)
            if self._copying():
                return False
            self.snapshots[id] = self.sizes[volume_id]
            return True

    def observe_snapshot(self, id: str) -> ObservedVolume | None:
        with self._call("observe_snapshot", changes=False):
            if id not in self.snapshots:
                return None
            return ObservedVolume(size_gib=self.snapshots[id], format="qcow2", used_bytes=0)

    def remove_snapshot(self, id: str) -> None:
        with self._call("remove_snapshot"):
            self.snapshots.pop(id, None)

    def reformat(self, id: str, image_format: Format) -> bool:
        with self._call("reformat"):
            self._known(id)
            if id in self.busy:
                raise VolumeBusy(f"Volume {id} is open in a guest")
            if self._copying():
                return False
            self.volumes[id] = msgspec.structs.replace(self.volumes[id], format=image_format)
            return True

    def export(self, id: str, image_id: str, image_format: str) -> bool:
        with self._call("export"):
            self._known(id)
            if self._copying():
                return False
            self.exports.make(image_id, image_format)
            return True

    def connection(self, id: str) -> Connection:
        with self._call("connection", changes=False):
            self._known(id)
            return Connection(kind="none", path=id, format=self.volumes[id].format)

    @contextmanager
    def _call(self, method: str, changes: bool = True) -> Iterator[None]:
        """Every call goes through here, so that each knob works on each method."""
        with self._lock:
            self.calls.append(method)
            if self.down:
                raise BackendUnavailable(f"Volume backend {self.name} does not answer")
            if waiting := self._failures.get(method):
                raise waiting.pop(0)
            yield
            if changes and self._lose > 0:
                self._lose -= 1
                raise BackendUnavailable(f"The reply of volume backend {self.name} was lost")

    def _source_gib(self, volume: VolumeSpec) -> int:
        match volume.source:
            case FromImage(image=image):
                return -(-image.virtual_size // GIB)
            case FromSnapshot(snapshot_id=snapshot_id):
                if snapshot_id not in self.snapshots:
                    raise VolumeFailed(f"Snapshot {snapshot_id} does not exist on {self.name}")
                return self.snapshots[snapshot_id]
            case FromVolume(volume_id=volume_id):
                self._known(volume_id)
                return self.sizes[volume_id]
        return 0

    def _known(self, id: str) -> None:
        if id not in self.volumes:
            raise VolumeFailed(f"Volume {id} does not exist on {self.name}")

    def _copying(self) -> bool:
        if self.slow_copy > 0:
            self.slow_copy -= 1
            return True
        return False
