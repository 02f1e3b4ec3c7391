"""Images as people send them, made by qemu-img: what is taken, and what is refused with which reason."""

import contextlib
import os
import re
import struct
from pathlib import Path

import pytest

from stackling.image.builder.run import BuildError, run
from stackling.image.inspection import DISK_FORMATS, Inspected, InspectionError, Inspector

MIB = 1 << 20


def inspect(disk_format: str, content: bytes, chunk: int = 256 << 10) -> Inspected:
    inspector = Inspector(disk_format)
    for start in range(0, len(content), chunk):
        inspector.write(content[start : start + chunk])
    return inspector.finish()


def refused(disk_format: str, content: bytes, chunk: int = 256 << 10) -> str:
    with pytest.raises(InspectionError) as error:
        inspect(disk_format, content, chunk)
    assert error.value.reason == str(error.value)
    return error.value.reason


def made(place: Path, disk_format: str, size: int = 10 * MIB, options: str = "") -> bytes:
    """An image by qemu-img with some data in it."""
    raw, out = place / "data.raw", place / f"image.{disk_format}"
    with raw.open("wb") as file:
        file.write(b"some data " * 1000)
        file.truncate(size)
    name = {"vhd": "vpc"}.get(disk_format, disk_format)
    run(
        [
            "qemu-img",
            "convert",
            "-q",
            "-f",
            "raw",
            "-O",
            name,
            *(["-o", options] if options else []),
            raw,
            out,
        ]
    )
    return out.read_bytes()


@pytest.mark.parametrize("disk_format", ["qcow2", "vmdk", "vhdx", "vdi", "raw"])
@pytest.mark.parametrize("chunk", [1000, 65536, 1 << 30])
def test_true_images_are_taken_with_their_disk_size(tmp_path: Path, disk_format: str, chunk: int) -> None:
    assert inspect(disk_format, made(tmp_path, disk_format), chunk) == Inspected(disk_format, 10 * MIB)


def test_a_vhd_is_taken(tmp_path: Path) -> None:
    found = inspect("vhd", made(tmp_path, "vhd", options="subformat=dynamic,force_size=on"))
    assert found == Inspected("vhd", 10 * MIB)


@pytest.mark.parametrize(
    "options", ["compat=0.10", "compat=1.1,compression_type=zstd", "cluster_size=512", "cluster_size=2M"]
)
def test_qcow2_variants_are_taken(tmp_path: Path, options: str) -> None:
    assert inspect("qcow2", made(tmp_path, "qcow2", options=options)).virtual_size == 10 * MIB


def test_a_stream_optimized_vmdk_is_taken(tmp_path: Path) -> None:
    content = made(tmp_path, "vmdk", options="subformat=streamOptimized")
    assert inspect("vmdk", content).virtual_size == 10 * MIB


def test_one_byte_at_a_time(tmp_path: Path) -> None:
    content = made(tmp_path, "qcow2")
    assert inspect("qcow2", content, chunk=1) == Inspected("qcow2", 10 * MIB)
    assert "is qcow2, not raw" in refused("raw", content, chunk=1)


def test_a_raw_disk_may_have_partitions(tmp_path: Path) -> None:
    for label in ("dos", "gpt"):
        disk = tmp_path / label
        disk.write_bytes(b"")
        os.truncate(disk, 20 * MIB)
        run(["sfdisk", "-q", "--no-reread", disk], stdin=f"label: {label}\n2048,8MiB\n")
        for disk_format in ("raw", "ami"):
            assert inspect(disk_format, disk.read_bytes()) == Inspected(disk_format, 20 * MIB)


def test_an_empty_raw_image_is_just_small() -> None:
    assert inspect("raw", b"") == Inspected("raw", 0)


@pytest.mark.parametrize("disk_format", sorted(set(DISK_FORMATS) - {"raw", "ami", "ari", "aki"}))
def test_an_empty_image_of_a_format_is_refused(disk_format: str) -> None:
    assert refused(disk_format, b"") == f"The image is empty, which no {disk_format} image is"


@pytest.mark.parametrize("disk_format", ["qcow2", "vmdk", "vhdx", "vdi"])
def test_an_image_that_lies_about_being_raw_is_refused(tmp_path: Path, disk_format: str) -> None:
    content = made(tmp_path, disk_format)
    for claimed in ("raw", "ami"):
        assert f"is {disk_format}, not {claimed}; send it with its true disk_format" in refused(
            claimed, content
        )


@pytest.mark.parametrize("disk_format", ["qcow2", "vmdk", "vhdx", "vdi", "vhd", "iso"])
def test_raw_content_under_another_name_is_refused(tmp_path: Path, disk_format: str) -> None:
    assert f"is not {disk_format}" in refused(disk_format, made(tmp_path, "raw"))


def test_a_lie_is_found_before_the_upload_ends(tmp_path: Path) -> None:
    inspector = Inspector("qcow2")
    with pytest.raises(InspectionError, match="has no header of that format"):
        inspector.write(bytes(MIB))
    inspector = Inspector("raw")
    with pytest.raises(InspectionError, match="is qcow2, not raw"):
        inspector.write(made(tmp_path, "qcow2")[: 100 << 10])


def test_a_backing_file_is_refused(tmp_path: Path) -> None:
    run(
        [
            "qemu-img",
            "create",
            "-q",
            "-f",
            "qcow2",
            "-u",
            "-b",
            "/etc/passwd",
            "-F",
            "raw",
            tmp_path / "i",
            "1M",
        ]
    )
    assert "has a backing file; flatten it first" in refused("qcow2", (tmp_path / "i").read_bytes())


def test_a_data_file_is_refused(tmp_path: Path) -> None:
    options = f"data_file={tmp_path / 'data'},data_file_raw=on"
    run(["qemu-img", "create", "-q", "-f", "qcow2", "-o", options, tmp_path / "i", "1M"])
    assert "keeps its data in another file" in refused("qcow2", (tmp_path / "i").read_bytes())


def encrypted(place: Path, disk_format: str, options: str) -> bytes:
    argv = [
        "qemu-img",
        "create",
        "-q",
        "--object",
        "secret,id=s,data=hidden",
        "-f",
        disk_format,
        "-o",
        options,
    ]
    for iter_time in (10, 50, 200, 1000):
        # On a busy machine QEMU cannot measure a short time ("Unable to get accurate CPU usage").
        with contextlib.suppress(BuildError):
            run([*argv[:-1], f"{options}iter-time={iter_time}", place / "i", "1M"])
            return (place / "i").read_bytes()
    pytest.skip("QEMU cannot make an encrypted image on this busy machine")


def test_an_encrypted_qcow2_is_refused(tmp_path: Path) -> None:
    content = encrypted(tmp_path, "qcow2", "encrypt.format=luks,encrypt.key-secret=s,encrypt.")
    assert "is encrypted inside" in refused("qcow2", content)


def test_luks_is_not_raw(tmp_path: Path) -> None:
    assert "content is luks, not raw" in refused("raw", encrypted(tmp_path, "luks", "key-secret=s,"))


def test_vmdk_with_extents_elsewhere_is_refused(tmp_path: Path) -> None:
    raw = tmp_path / "d.raw"
    raw.write_bytes(bytes(MIB))
    run(
        [
            "qemu-img",
            "convert",
            "-q",
            "-f",
            "raw",
            "-O",
            "vmdk",
            "-o",
            "subformat=monolithicFlat",
            raw,
            tmp_path / "i.vmdk",
        ]
    )
    reason = refused("vmdk", (tmp_path / "i.vmdk").read_bytes())
    assert reason.startswith("The image's content is not vmdk") or "not allowed" in reason
    # A sparse one whose descriptor names a file of the host instead of itself.
    content = made(tmp_path, "vmdk")
    evil = re.sub(
        rb'RW (\d+) SPARSE "[^"]*"',
        lambda was: (b'RW 1 FLAT "/etc/passwd" 0').ljust(len(was[0])),
        content,
        count=1,
    )
    assert evil != content
    assert "extents are not allowed" in refused("vmdk", evil)


def test_two_formats_at_once_are_refused(tmp_path: Path) -> None:
    content = bytearray(made(tmp_path, "qcow2"))
    # A boot sector's partition table fits in the unused part of a qcow2 header's cluster.
    content[446:462] = struct.pack("<BBBBBBBBII", 0x80, 1, 1, 0, 0x83, 2, 2, 2, 2048, 4096)
    content[510:512] = b"\x55\xaa"
    assert "could be read as gpt and qcow2 at once" in refused("qcow2", bytes(content))
    refused("raw", bytes(content))


def test_iso_images(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files/a").write_text("hello")
    iso = tmp_path / "i.iso"
    run(["xorriso", "-as", "genisoimage", "-quiet", "-V", "disc", "-o", iso, tmp_path / "files"])
    plain = iso.read_bytes()
    assert inspect("iso", plain).format == "iso"
    assert "is iso, not raw" in refused("raw", plain)
    assert "is iso, not qcow2" in refused("qcow2", plain)
    # What isohybrid makes, so that an installer also boots from a USB stick.
    hybrid = bytearray(plain)
    hybrid[446:462] = struct.pack("<BBBBBBBBII", 0x80, 1, 1, 0, 0x17, 2, 2, 2, 0, len(plain) // 512)
    hybrid[510:512] = b"\x55\xaa"
    assert inspect("iso", bytes(hybrid)).format == "iso"
    # An ISO that is a qcow2 file as well is neither.
    both = bytearray(plain)
    both[:512] = made(tmp_path, "qcow2")[:512]
    assert "iso and qcow2 at once" in refused("iso", bytes(both))


@pytest.mark.parametrize("kept", [1, 4, 71, 511, 512, 65536, 100_000])
def test_a_truncated_qcow2_is_refused(tmp_path: Path, kept: int) -> None:
    reason = refused("qcow2", made(tmp_path, "qcow2")[:kept])
    assert "cut off" in reason or "has no header" in reason


def damaged(content: bytes, offset: int, layout: str, value: int) -> bytes:
    changed = bytearray(content)
    struct.pack_into(layout, changed, offset, value)
    return bytes(changed)


@pytest.mark.parametrize(
    ("offset", "layout", "value", "reason"),
    [
        (4, ">I", 9, "qcow2 features that are not supported"),
        (20, ">I", 63, "clusters of 2^63 bytes"),
        (20, ">I", 0, "clusters of 2^0 bytes"),
        (24, ">Q", 1 << 62, "tables are too small"),
        (24, ">Q", 0, "no disk size"),
        (40, ">Q", 1 << 50, "L1 table is not within"),
        (48, ">Q", 1 << 50, "refcount table is not within"),
        (72, ">Q", 1 << 1, "marked corrupt"),
        (72, ">Q", 1 << 4, "features that are not supported"),
        (72, ">Q", 1 << 63, "features that are not supported"),
    ],
)
def test_a_damaged_qcow2_header_is_refused(
    tmp_path: Path, offset: int, layout: str, value: int, reason: str
) -> None:
    assert reason in refused("qcow2", damaged(made(tmp_path, "qcow2"), offset, layout, value))


def test_other_formats_damaged(tmp_path: Path) -> None:
    for disk_format in ("vmdk", "vhdx", "vdi"):
        content = made(tmp_path, disk_format)
        for kept in (1, 64, 511):
            assert refused(disk_format, content[:kept])


def test_formats_nobody_inspects_are_refused() -> None:
    for disk_format in ("qed", "luks", "", "QCOW2"):
        with pytest.raises(InspectionError, match="not supported; use one of aki, ami"):
            Inspector(disk_format)


def test_memory_stays_small_whatever_the_image(tmp_path: Path) -> None:
    inspector = Inspector("vmdk")
    content = made(tmp_path, "vmdk")
    inspector.write(content)
    for _ in range(50):
        inspector.write(bytes(MIB))
    held = {found.NAME: found.context_info for found in inspector._inspectors}
    assert "qcow2" not in held
    assert sum(sum(regions.values()) for regions in held.values()) < 2 * MIB, held
