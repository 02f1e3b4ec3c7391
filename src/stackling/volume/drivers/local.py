"""Volumes as files in a directory of this host: qcow2 or raw, each whole in itself, without backing chains.

    <directory>/<volume id>.qcow2|.raw       the volume
    <directory>/snapshots/<snapshot id>.qcow2   a full, sparse copy
    *.part                                   work that did not finish; made anew by the next call

A file appears under its name by a rename, so what has a name is complete. While a guest has a volume open, only
its QEMU may grow or copy it, so such calls go to the hypervisor (`LiveDisks`).
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stackling.base.background import Background
from stackling.image import qemu_img
from stackling.image.cache import ImageCache, ImageDamaged
from stackling.image.export import ExportedFiles
from stackling.volume.driver import (
    EXPORT_FORMATS,
    BackendInfo,
    BackendUnavailable,
    Blank,
    Connection,
    Format,
    FromImage,
    FromSnapshot,
    FromVolume,
    LiveDisks,
    ObservedVolume,
    VolumeBusy,
    VolumeFailed,
    VolumeSpec,
)

GIB = 1 << 30
FORMATS: tuple[Format, ...] = ("qcow2", "raw")


class LocalBackend:
    """See `volume.driver.Backend`. `live` is the hypervisor of the same host, None where no guests run."""

    def __init__(
        self,
        directory: Path,
        images: ImageCache,
        live: LiveDisks | None = None,
        name: str = "local",
        exports: ExportedFiles | None = None,
    ) -> None:
        self._directory = directory
        self._exports = exports or ExportedFiles(directory / "exports")
        self._images = images
        self._live = live
        self._name = name
        self._copies = Background("volume")

    def info(self) -> BackendInfo:
        with self._doing():
            self._make(self._directory)
            disk = os.statvfs(self._directory)
        return BackendInfo(
            name=self._name,
            total_gib=disk.f_blocks * disk.f_frsize // GIB,
            free_gib=disk.f_bavail * disk.f_frsize // GIB,
            features=frozenset({"extend_online", "snapshot_online", "raw", "qcow2", "multiattach"}),
        )

    def ensure(self, volume: VolumeSpec) -> bool:
        with self._doing():
            if self._file(volume.id) is not None:
                return True
            self._make(self._directory)
            if isinstance(volume.source, Blank):
                self._create(volume, None)
                return True
            origin = self._origin(volume)
            if origin is None:
                return False
            return self._copies.run(volume.id, lambda: self._create(volume, origin))

    def observe(self, id: str) -> ObservedVolume | None:
        with self._doing():
            return self._observed(self._file(id))

    def remove(self, id: str) -> None:
        with self._doing():
            if self._holder(id) is not None:
                raise VolumeBusy(f"Volume {id} is open in a running server; detach it first")
            if id in self._copies.running():
                raise VolumeBusy(f"Volume {id} is still being written")
            for image_format in FORMATS:
                file = self._path(id, image_format)
                file.unlink(missing_ok=True)
                _part(file).unlink(missing_ok=True)

    def extend(self, id: str, size_gib: int) -> None:
        with self._doing():
            file, image_format = self._known(id)
            if qemu_img.info(file, image_format).virtual_size >= size_gib * GIB:
                return
            holder = self._holder(id)
            if holder is not None and self._live is not None:
                self._live.resize_disk(holder, id, size_gib)
            else:
                qemu_img.resize(file, image_format, size_gib * GIB)

    def ensure_snapshot(self, id: str, volume_id: str) -> bool:
        with self._doing():
            target = self._snapshot(id)
            if target.exists() and id not in self._copies.running():
                return True
            file, image_format = self._known(volume_id)
            self._make(target.parent)
            holder = self._holder(volume_id)
            if holder is not None and self._live is not None:
                return self._live.copy_disk(holder, volume_id, str(target))
            return self._copies.run(id, lambda: _copy(file, image_format, target, "qcow2"))

    def observe_snapshot(self, id: str) -> ObservedVolume | None:
        with self._doing():
            file = self._snapshot(id)
            return self._observed((file, "qcow2") if file.exists() else None)

    def remove_snapshot(self, id: str) -> None:
        with self._doing():
            if id in self._copies.running():
                raise VolumeBusy(f"Snapshot {id} is still being written")
            file = self._snapshot(id)
            file.unlink(missing_ok=True)
            _part(file).unlink(missing_ok=True)

    def reformat(self, id: str, image_format: Format) -> bool:
        with self._doing():
            if self._holder(id) is not None:
                raise VolumeBusy(f"Volume {id} is open in a running server; detach it first")
            file, now = self._known(id)
            target = self._path(id, image_format)
            if now != image_format and not self._copies.run(
                id, lambda: _copy(file, now, target, image_format)
            ):
                return False
            for other in FORMATS:  # the copy is whole, so what it was made from may go
                if other != image_format:
                    self._path(id, other).unlink(missing_ok=True)
            return True

    def export(self, id: str, image_id: str, image_format: str) -> bool:
        with self._doing():
            target, part = self._exports.path(_uuid(image_id)), self._exports.part(image_id)
            if target.exists() and image_id not in self._copies.running():
                return True
            if image_format not in EXPORT_FORMATS:
                raise VolumeFailed(f"A volume can't be copied as {image_format[:32]!r}")
            origin = self._frozen(image_id, id)
            if origin is None:
                return False

            def copy() -> None:
                _copy(*origin, target, image_format, part)
                self._source_copy(image_id).unlink(missing_ok=True)

            return self._copies.run(image_id, copy)

    def connection(self, id: str) -> Connection:
        with self._doing():
            file, image_format = self._known(id)
        return Connection(kind="file", path=str(file.absolute()), format=image_format)

    @contextmanager
    def _doing(self) -> Iterator[None]:
        try:
            yield
        except qemu_img.FileLocked as error:
            raise VolumeBusy(str(error)) from error
        except (qemu_img.QemuImgFailed, ImageDamaged) as error:
            raise VolumeFailed(str(error)) from error
        except OSError as error:
            raise BackendUnavailable(f"Volume backend {self._name}: {error}") from error

    def _origin(self, volume: VolumeSpec) -> tuple[Path, Format] | None:
        """The file to copy from; None while an image is being fetched."""
        match volume.source:
            case FromImage(image=image):
                if not self._images.ensure(image):
                    return None
                return self._images.file(image.id), image.format
            case FromSnapshot(snapshot_id=snapshot_id):
                if not self._snapshot(snapshot_id).exists():
                    raise VolumeFailed(f"Snapshot {snapshot_id} does not exist on {self._name}")
                return self._snapshot(snapshot_id), "qcow2"
            case FromVolume(volume_id=volume_id):
                return self._frozen(volume.id, volume_id)
        raise VolumeFailed(f"{self._name} does not know how to make a volume from {volume.source!r}")

    def _frozen(self, id: str, volume_id: str) -> tuple[Path, Format] | None:
        """The file of a volume to copy; of one that a guest has open, a copy that QEMU made."""
        file, image_format = self._known(volume_id)
        holder = self._holder(volume_id)
        if holder is None or self._live is None:
            return file, image_format
        copy = self._source_copy(id)
        return (copy, "qcow2") if self._live.copy_disk(holder, volume_id, str(copy)) else None

    def _create(self, volume: VolumeSpec, origin: tuple[Path, Format] | None) -> None:
        file = self._path(volume.id, volume.format)
        if file.exists():
            return
        size = volume.size_gib * GIB
        with _written(file) as part:
            if origin is None:
                qemu_img.create(part, volume.format, size)
            else:
                if not origin[0].exists():
                    raise BackendUnavailable(
                        f"The source of volume {volume.id} just went away; it is looked for again"
                    )
                need = qemu_img.info(*origin).virtual_size
                if need > size:
                    raise VolumeFailed(
                        f"A volume of {volume.size_gib} GiB is too small for its source of {-(-need // GIB)} GiB"
                    )
                qemu_img.convert(*origin, part, volume.format)
                if need < size:
                    qemu_img.resize(part, volume.format, size)
        self._source_copy(volume.id).unlink(missing_ok=True)

    def _source_copy(self, id: str) -> Path:
        return self._directory / f"{_uuid(id)}.source.part"

    def _observed(self, found: tuple[Path, Format] | None) -> ObservedVolume | None:
        if found is None:
            return None
        seen = qemu_img.info(*found)
        return ObservedVolume(size_gib=seen.virtual_size // GIB, format=found[1], used_bytes=seen.used)

    def _known(self, id: str) -> tuple[Path, Format]:
        found = self._file(id)
        if found is None:
            raise VolumeFailed(f"Volume {id} does not exist on {self._name}")
        return found

    def _file(self, id: str) -> tuple[Path, Format] | None:
        for image_format in FORMATS:
            if (file := self._path(id, image_format)).exists():
                return file, image_format
        return None

    def _path(self, id: str, image_format: Format) -> Path:
        return self._directory / f"{_uuid(id)}.{image_format}"

    def _snapshot(self, id: str) -> Path:
        return self._directory / "snapshots" / f"{_uuid(id)}.qcow2"

    def _holder(self, id: str) -> str | None:
        return self._live.holder(id) if self._live else None

    @staticmethod
    def _make(directory: Path) -> None:
        """QEMU's user must pass through, but need not list."""
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o711)


def _copy(
    source: Path, source_format: Format, target: Path, target_format: str, part: Path | None = None
) -> None:
    if not target.exists():
        with _written(target, part) as into:
            qemu_img.convert(source, source_format, into, target_format)


@contextmanager
def _written(file: Path, part: Path | None = None) -> Iterator[Path]:
    """A place to write `file`, which takes its name when the block ends well; else its space is free again."""
    part = part or _part(file)
    part.unlink(missing_ok=True)
    try:
        yield part
        part.chmod(0o600)
        part.rename(file)
    finally:
        part.unlink(missing_ok=True)


def _part(file: Path) -> Path:
    return file.with_name(f"{file.name}.part")


def _uuid(id: str) -> str:
    """Ids become file names, so nothing but a UUID will do."""
    try:
        if str(uuid.UUID(id)) == id:
            return id
    except ValueError:
        pass
    raise VolumeFailed(f"{id[:64]!r} is not an id: ids are UUIDs in lower case with dashes")
