"""Inspects an image's content while it streams in: is it what its disk_format says, and is it safe to open?

QEMU must never meet an image that makes it open another file of the host (backing file, data file, extents),
so this runs before anything opens an upload. The parsers are oslo.utils' `format_inspector`; added here are
what they leave out: encrypted and damaged qcow2 files, tables that lie outside the file, and early refusal.
"""

import struct
from dataclasses import dataclass

from oslo_utils.imageutils import format_inspector

#: The Image API's disk formats that can be inspected.
DISK_FORMATS = ("aki", "ami", "ari", "iso", "qcow2", "raw", "vdi", "vhd", "vhdx", "vmdk")

# What a disk_format's content may look like. A raw disk may have a partition table (its boot sector is what the
# "gpt" inspector matches; kernels of aki have one as well), and installers' ISO images boot from USB sticks by one.
_MAY_BE = {
    "raw": {"raw", "gpt"},
    "ami": {"raw", "gpt"},
    "aki": {"raw", "gpt"},
    "ari": {"raw", "gpt"},
    "iso": {"iso", "iso+gpt"},
}
# Content goes to the parsers in pieces of this size, whatever was written: each piece costs a walk over all of
# them, and the VHDX parser follows one pointer per piece. The first piece is enough to tell any two formats apart.
_PIECE = 64 << 10
_AS_IS = ("aki", "ami", "ari", "raw")
# Magic, version, backing file offset and length, cluster bits, size, encryption, L1 entries and offset, refcount
# table's offset and clusters, snapshots and their offset, and (from version 3 on) incompatible features.
_QCOW2_HEADER = struct.Struct(">4sIQIIQIIQQIIQQ")
_QCOW2_CORRUPT = 1 << 1

_REASONS = {
    "backing_file": "it has a backing file; flatten it first (qemu-img convert)",
    "data_file": "it keeps its data in another file; make it one file first (qemu-img convert)",
    "unknown_features": "it uses qcow2 features that are not supported here; convert it first (qemu-img convert)",
    "descriptor": "its VMDK subformat or extents are not allowed; use monolithicSparse or streamOptimized",
    "footer": "its VMDK footer does not match its header",
    "banned": "this format is not allowed",
}


class InspectionError(Exception):
    """An image was refused. `reason` is a sentence for the person who sent it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Inspected:
    """What an image turned out to be. `virtual_size` is the disk's size in bytes as a guest sees it."""

    format: str
    virtual_size: int


class Inspector:
    """Inspects one image of a given disk_format: `write` each chunk in order, then `finish` once.

    Memory use is bounded (headers only), whatever the image's size.
    """

    def __init__(self, disk_format: str) -> None:
        """Raises InspectionError when the disk_format is none that can be inspected."""
        if disk_format not in DISK_FORMATS:
            raise InspectionError(
                f"Images of disk_format {disk_format} are not supported; use one of {', '.join(DISK_FORMATS)}"
            )
        self.disk_format = disk_format
        self._inspectors = [made() for name, made in format_inspector.ALL_FORMATS.items() if name != "raw"]
        self._gathered = bytearray()
        self._head = b""
        self._size = 0
        self._first = True

    def write(self, chunk: bytes) -> None:
        """Take the next chunk. Raises InspectionError as soon as the content is certainly not what it should be."""
        self._size += len(chunk)
        self._gathered += chunk
        pieces = len(self._gathered) // _PIECE
        for number in range(pieces):
            self._feed(bytes(self._gathered[number * _PIECE : (number + 1) * _PIECE]))
        del self._gathered[: pieces * _PIECE]

    def finish(self) -> Inspected:
        """The verdict, after the last chunk. Raises InspectionError when the image must not be used."""
        if self._gathered:
            self._feed(bytes(self._gathered))
            self._gathered.clear()
        for inspector in self._inspectors:
            inspector.finish()
        matches = self._matches()
        self._check_format(matches)
        if self.disk_format in _AS_IS:
            return Inspected(self.disk_format, self._size)
        inspector = matches[[found.NAME for found in matches].index(self.disk_format)]
        self._check_safety(inspector)
        if self.disk_format == "qcow2":
            self._check_qcow2()
        virtual_size = inspector.virtual_size
        if virtual_size <= 0:
            raise InspectionError(
                f"The image's {self.disk_format} header gives no disk size; the file is damaged"
            )
        return Inspected(self.disk_format, virtual_size)

    def _feed(self, piece: bytes) -> None:
        self._head += piece[: _QCOW2_HEADER.size - len(self._head)]
        for inspector in list(self._inspectors):
            try:
                inspector.eat_chunk(piece)
            except Exception:  # noqa: BLE001 a parser that stumbles over content has not found its format
                self._inspectors.remove(inspector)
                continue
            # What has seen all it needs and does not match never will; the rest of the upload costs nothing.
            if inspector.complete and not inspector.format_match:
                self._inspectors.remove(inspector)
        if self._first:
            self._first = False
            self._refuse_early()

    def _refuse_early(self) -> None:
        """Refuse what the first piece gives away already, so that a lie does not cost a whole upload."""
        matches = self._matches()
        if self.disk_format in _AS_IS:
            self._check_format(matches)
        elif self.disk_format not in (names := {inspector.NAME for inspector in matches}):
            raise InspectionError(self._mismatch(names))

    def _matches(self) -> list[format_inspector.FileInspector]:
        return [inspector for inspector in self._inspectors if inspector.format_match]

    def _check_format(self, matches: list[format_inspector.FileInspector]) -> None:
        names = {inspector.NAME for inspector in matches}
        seen = "+".join(sorted(names, reverse=True)) or "raw"
        if seen not in _MAY_BE.get(self.disk_format, {self.disk_format}):
            raise InspectionError(self._mismatch(names))

    def _mismatch(self, names: set[str]) -> str:
        if self._size == 0:
            return f"The image is empty, which no {self.disk_format} image is"
        if not names:
            return f"The image's content is not {self.disk_format}: it has no header of that format"
        if len(names) > 1:
            found = " and ".join(sorted(names))
            return f"The image's content could be read as {found} at once, which is not allowed"
        found = names.pop()
        return f"The image's content is {found}, not {self.disk_format}; send it with its true disk_format"

    def _check_safety(self, inspector: format_inspector.FileInspector) -> None:
        try:
            inspector.safety_check()
        except format_inspector.SafetyCheckFailed as failed:
            name, failure = next(iter(sorted(failed.failures.items())))
            raise InspectionError(f"The image is refused: {_REASONS.get(name, str(failure))}") from failed
        except format_inspector.ImageFormatError as failed:
            raise InspectionError(f"The image's {self.disk_format} header is damaged or cut off") from failed

    def _check_qcow2(self) -> None:
        """What QEMU's qcow2 specification (docs/interop/qcow2.txt) asks of a header, as far as the header shows."""
        fields = _QCOW2_HEADER.unpack(self._head)
        version, cluster_bits, size, crypt, l1_entries, l1_offset = fields[1], *fields[4:9]
        refcount_offset, refcount_clusters = fields[9:11]
        if crypt:
            raise InspectionError(
                "The image is refused: it is encrypted inside; decrypt it first (qemu-img convert)"
            )
        if version >= 3 and fields[13] & _QCOW2_CORRUPT:
            raise InspectionError(
                "The image is refused: it is marked corrupt; repair it first (qemu-img check -r all)"
            )
        if not 9 <= cluster_bits <= 21:
            raise InspectionError(
                f"The image's qcow2 header is damaged: clusters of 2^{cluster_bits} bytes do not exist"
            )
        # One L1 entry covers a cluster full of 8-byte L2 entries.
        covered = 1 << (2 * cluster_bits - 3)
        if size > l1_entries * covered:
            raise InspectionError(
                "The image's qcow2 header is damaged: its tables are too small for its disk size"
            )
        tables = {
            "L1 table": (l1_offset, l1_entries * 8),
            "refcount table": (refcount_offset, refcount_clusters << cluster_bits),
        }
        for table, (offset, length) in tables.items():
            if offset % (1 << cluster_bits) or offset + length > self._size:
                raise InspectionError(
                    f"The image's qcow2 file is cut off or damaged: its {table} is not within its {self._size} bytes"
                )
