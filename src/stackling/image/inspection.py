"""Inspects an image's content while it streams in: is it what its disk_format says, and is it safe to open?

QEMU must never meet an image that makes it open another file of the host (backing file, data file, extents),
so this runs before anything opens an upload. The parsers are oslo.utils' `format_inspector`; added here are
what they leave out: encrypted and damaged qcow2 files, tables that lie outside the file, and early refusal.
"""

import struct
from dataclasses import dataclass

from oslo_utils.imageutils import format_inspector

#: The Image API's disk formats that can be inspected.
DISK_FORMATS = ("aki", "ami", "ari", "iso", "ploop", "qcow2", "raw", "vdi", "vhd", "vhdx", "vmdk")

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
# A fixed-size VHD is a raw disk with this footer after it; a dynamic one begins with a copy of it. Cookie, features,
# version, data offset, time, creator's four fields, original and current size, geometry, disk type.
_VHD_FOOTER = struct.Struct(">8sIIQI4sI4sQQII")
_VHD_FIXED = 2
# Magic, version, heads, cylinders, sectors of a block, entries of the block table, size in sectors: ploop's on-disk
# format, whose second version counts in 64 bits.
_PLOOP_HEADER = struct.Struct("<16sIIIIIQ")
_PLOOP = {b"WithoutFreeSpace": 1, b"WithouFreSpacExt": 2}
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
        self._gathered = b""
        self._head = b""
        self._tail = b""
        self._size = 0
        self._first = True

    def write(self, chunk: bytes) -> None:
        """Take the next chunk. Raises InspectionError as soon as the content is certainly not what it should be."""
        self._size += len(chunk)
        self._tail = (chunk if len(chunk) >= 512 else self._tail + chunk)[-512:]
        if not self._inspectors and not self._first and len(self._head) == _QCOW2_HEADER.size:
            return  # nobody needs to see more
        data = self._gathered + chunk if self._gathered else chunk
        whole = len(data) - len(data) % _PIECE
        for start in range(0, whole, _PIECE):
            self._feed(data[start : start + _PIECE])
        self._gathered = data[whole:]

    def finish(self) -> Inspected:
        """The verdict, after the last chunk. Raises InspectionError when the image must not be used."""
        if self._gathered:
            self._feed(self._gathered)
            self._gathered = b""
        for inspector in self._inspectors:
            inspector.finish()
        matches = self._matches()
        if self.disk_format == "vhd" and self._fixed_vhd() and {m.NAME for m in matches} <= {"gpt"}:
            return Inspected(self.disk_format, self._size - 512)
        if self.disk_format == "ploop" and not matches:
            return Inspected(self.disk_format, self._ploop_size())
        self._check_format(matches)
        if self.disk_format in _AS_IS:
            if self._fixed_vhd():
                raise InspectionError(
                    f"The image's content is vhd, not {self.disk_format}; send it with its true disk_format"
                )
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
        elif self.disk_format == "ploop":
            self._ploop_size()
        elif self.disk_format == "vhd" and {m.NAME for m in matches} <= {"gpt"}:
            return  # a fixed one tells at its end
        elif self.disk_format not in (names := {inspector.NAME for inspector in matches}):
            raise InspectionError(self._mismatch(names))

    def _fixed_vhd(self) -> bool:
        """Whether the image is a raw disk with the footer of a VHD of fixed size, and no more."""
        if len(self._tail) < 512 or not self._tail.startswith(b"conectix"):
            return False
        *_, size, _, kind = _VHD_FOOTER.unpack(self._tail[: _VHD_FOOTER.size])
        return bool(kind == _VHD_FIXED and size == self._size - 512)

    def _ploop_size(self) -> int:
        """The disk's size that a ploop image's header tells, bytes. Raises InspectionError."""
        version = _PLOOP.get(self._head[:16])
        if version is None or len(self._head) < _PLOOP_HEADER.size:
            raise InspectionError(self._mismatch({m.NAME for m in self._matches()}))
        _, told, _, _, block, entries, sectors = _PLOOP_HEADER.unpack(self._head[: _PLOOP_HEADER.size])
        if version == 1:
            sectors &= 0xFFFFFFFF
        if told != 2 or not 0 < sectors <= block * entries:
            raise InspectionError("The image's ploop header is damaged: its tables don't fit its disk size")
        return int(sectors) * 512

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
