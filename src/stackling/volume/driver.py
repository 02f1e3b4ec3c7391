"""The protocol of a volume backend, and the plain values that cross it.

Any call may be repeated and none relies on an earlier one. A call that may take minutes (copying an image or a
volume) returns False while the work goes on at the backend; the caller asks again with the same arguments.
"""

from __future__ import annotations

from typing import Literal, Protocol

from msgspec import Struct

from stackling.image.cache import ImageRef

Format = Literal["raw", "qcow2"]
EXPORT_FORMATS = ("qcow2", "raw", "vdi", "vhd", "vhdx", "vmdk")


class BackendUnavailable(Exception):
    """The backend cannot do it now; the same call may succeed later."""


class VolumeBusy(BackendUnavailable):
    """Somebody uses the volume in a way that forbids this now."""


class VolumeFailed(Exception):
    """The backend will never do this as asked; the sentence says why and what to do."""


class Blank(Struct, frozen=True, tag="blank"):
    """A new volume full of zeros."""


class FromImage(Struct, frozen=True, tag="image"):
    """A new volume with an image's content; at least `image.virtual_size` bytes large."""

    image: ImageRef


class FromSnapshot(Struct, frozen=True, tag="snapshot"):
    """A new volume with a snapshot's content. The snapshot may be removed afterwards."""

    snapshot_id: str


class FromVolume(Struct, frozen=True, tag="volume"):
    """A new volume with another volume's content, independent of it afterwards."""

    volume_id: str


Source = Blank | FromImage | FromSnapshot | FromVolume


class VolumeSpec(Struct, frozen=True, kw_only=True):
    """A volume as wanted. `size_gib` is what the guest sees, in GiB."""

    id: str
    size_gib: int
    format: Format = "qcow2"
    source: Source = Blank()


class Connection(Struct, frozen=True, kw_only=True):
    """How a hypervisor opens a volume; goes into a domain's disks as it is.

    `kind` "file": `path` is an absolute path on the host. `kind` "none": a fake host's disk, never opened.
    """

    kind: Literal["file", "none"] = "file"
    path: str = ""
    format: Format = "qcow2"


class ObservedVolume(Struct, frozen=True, kw_only=True):
    """What a backend holds under a volume's id."""

    size_gib: int
    format: Format
    used_bytes: int


class BackendInfo(Struct, frozen=True, kw_only=True):
    """A backend's capacity in GiB, and what it can do."""

    name: str
    total_gib: int
    free_gib: int
    features: frozenset[str] = frozenset()


class Backend(Protocol):
    """One place where volumes are kept."""

    def info(self) -> BackendInfo:
        """Capacity and abilities now."""

    def ensure(self, volume: VolumeSpec) -> bool:
        """The volume exists as described: True. False: its content is being copied; ask again.

        Existing and at least as large: nothing happens, whatever its source was. VolumeFailed: the source is
        missing, or larger than the volume. BackendUnavailable: not now.
        """

    def observe(self, id: str) -> ObservedVolume | None:
        """What is under this id; None when there is none."""

    def remove(self, id: str) -> None:
        """The volume is gone. Already gone: nothing happens. VolumeBusy: a guest has it open."""

    def extend(self, id: str, size_gib: int) -> None:
        """The volume is at least `size_gib` GiB large, also while a guest uses it. It never shrinks."""

    def ensure_snapshot(self, id: str, volume_id: str) -> bool:
        """A snapshot of the volume exists: True. False: it is being copied; ask again.

        The content is the volume's at some moment between the first call and the first True. A volume in use is
        copied at one point in time, as after a power cut.
        """

    def observe_snapshot(self, id: str) -> ObservedVolume | None:
        """What is under this snapshot id; None when there is none."""

    def remove_snapshot(self, id: str) -> None:
        """The snapshot is gone. Already gone: nothing happens. Volumes made from it stay whole."""

    def reformat(self, id: str, image_format: Format) -> bool:
        """The volume, which nobody has open, is of that format: True. False: it is being copied; ask again.

        VolumeBusy: a guest has it open.
        """

    def export(self, id: str, image_id: str, image_format: str) -> bool:
        """A copy of the volume in that format is an export of this host: True. False: it is being copied; ask again.

        Of a volume in use it is one point in time, as after a power cut. VolumeFailed: no such volume or format.
        """

    def connection(self, id: str) -> Connection:
        """How a hypervisor opens the volume. VolumeFailed: there is none."""


class LiveDisks(Protocol):
    """What a backend needs of the hypervisor that has its volumes open; `compute.driver.Hypervisor` has it."""

    def holder(self, volume_id: str) -> str | None:
        """The id of the running domain that has the volume open on this host."""

    def resize_disk(self, id: str, volume_id: str, size_gib: int) -> None:
        """The open volume is `size_gib` GiB large, and the guest knows."""

    def copy_disk(self, id: str, volume_id: str, path: str) -> bool:
        """A copy of the open volume is complete in the qcow2 file `path`: True. False: ask again."""
