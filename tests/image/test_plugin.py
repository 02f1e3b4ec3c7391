"""What is done to data that is imported: decompressed, converted, given properties."""

import gzip
import io
import lzma
import os
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stackling.image import decompress
from stackling.image.actions import data
from stackling.image.decompress import Damaged
from tests.image.test_image import RAW, V2, create, files, qcow2
from tests.image.test_import import Site, allow, bring_in, show, site, stage, tasks

__all__ = ["site"]


def zipped(*members: bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, data in enumerate(members):
            archive.writestr(f"disk{number}.raw", data)
    return made.getvalue()


PACKERS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "xz": lzma.compress, "zip": zipped}


def imported(cloud: Any, user: Any, content: bytes, **more: Any) -> Any:
    id = create(user, **more)["id"]
    assert stage(user, id, content).status == 204
    assert bring_in(user, id, "glance-direct").status == 202
    cloud.settle()
    return show(user, id)


@pytest.mark.parametrize("how", PACKERS)
def test_compressed_data_is_decompressed(cloud: Any, alice: Any, how: str) -> None:
    packed = PACKERS[how](RAW)
    plain = imported(cloud, alice, packed)
    assert alice.get(f"{V2}/{plain['id']}/file").content == packed  # not asked for
    allow(cloud, import_plugins=["image_decompression"])
    got = imported(cloud, alice, packed)
    assert (got["status"], got["size"], got["virtual_size"]) == ("active", len(RAW), len(RAW))
    assert alice.get(f"{V2}/{got['id']}/file").content == RAW
    assert imported(cloud, alice, RAW)["size"] == len(RAW)
    whole = imported(cloud, alice, packed, container_format="compressed")
    assert alice.get(f"{V2}/{whole['id']}/file").content == packed


def test_compressed_data_from_the_web(cloud: Any, alice: Any, site: str, monkeypatch: Any) -> None:
    monkeypatch.setitem(Site.pages, "/packed", gzip.compress(RAW))
    allow(cloud, web_download_allow=["127.0.0.1"], import_plugins=["image_decompression"])
    for page in ("packed", "raw"):
        id = create(alice)["id"]
        bring_in(alice, id, "web-download", uri=f"{site}/{page}")
        cloud.settle()
        assert alice.get(f"{V2}/{id}/file").content == RAW


@pytest.mark.parametrize("how", PACKERS)
def test_damaged_and_dangerous_archives(cloud: Any, alice: Any, how: str) -> None:
    allow(cloud, import_plugins=["image_decompression"])
    packed = PACKERS[how](os.urandom(4000))
    for cut in (packed[:-40], packed[: len(packed) // 2], packed[:8]):
        got = imported(cloud, alice, cut)
        assert got["status"] == "queued"
        assert how in tasks(alice, got["id"])[0]["message"]
        assert files(cloud) == []
    evil = imported(cloud, alice, PACKERS[how](qcow2(backing=b"/etc/passwd")), disk_format="qcow2")
    assert evil["status"] == "queued"
    assert "backing file" in tasks(alice, evil["id"])[0]["message"]
    assert files(cloud) == []


def test_an_archive_of_several_files(cloud: Any, alice: Any) -> None:
    allow(cloud, import_plugins=["image_decompression"])
    got = imported(cloud, alice, zipped(RAW, RAW))
    assert "it must be one" in tasks(alice, got["id"])[0]["message"]


@pytest.mark.parametrize("how", PACKERS)
def test_a_bomb_is_stopped_at_the_largest_image(
    cloud: Any, alice: Any, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """64 MiB of zeros in a few KiB: no more of it is written than an image may have, here 8 MiB."""
    monkeypatch.setattr(data, "GIB", 1 << 20)
    made = []
    pieces = decompress.pieces

    def counted(path: Path, kind: str) -> Any:
        for piece in pieces(path, kind):
            assert len(piece) <= decompress.CHUNK
            made.append(len(piece))
            yield piece

    monkeypatch.setattr(decompress, "pieces", counted)
    allow(cloud, import_plugins=["image_decompression"], max_size_gib=8)
    bomb = PACKERS[how](bytes(64 << 20))
    assert len(bomb) < 1 << 20
    got = imported(cloud, alice, bomb)
    assert got["status"] == "queued"
    assert "larger than 8 GiB" in tasks(alice, got["id"])[0]["message"]
    assert sum(made) <= 9 << 20
    assert files(cloud) == []


def test_an_xz_that_wants_a_gigabyte_of_memory(tmp_path: Path) -> None:
    file = tmp_path / "x"
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 30, "preset": 0}]
    packed = bytearray(lzma.compress(RAW, check=lzma.CHECK_NONE, filters=filters[:0] or None))
    assert packed[:6] == b"\xfd7zXZ\x00"
    # The dictionary's size stands in the block header, after the filter's id: make it 1.5 GiB, checksum and all.
    import zlib

    at = packed.index(b"\x21\x01")
    packed[at + 2] = 37
    length = (packed[12] + 1) * 4
    packed[12 + length - 4 : 12 + length] = zlib.crc32(packed[12 : 12 + length - 4]).to_bytes(4, "little")
    file.write_bytes(packed)
    with pytest.raises(Damaged, match=r"(?i)memory"):
        list(decompress.pieces(file, "xz"))


# -- conversion --------------------------------------------------------------------------------------------------------


def disk(tmp_path: Path, name: str, *options: str) -> bytes:
    raw, out = tmp_path / "data.raw", tmp_path / "disk"
    raw.write_bytes(b"some data " * 1000 + bytes((1 << 20) - 10_000))
    subprocess.run(["qemu-img", "convert", "-q", "-O", name, *options, raw, out], check=True)
    return out.read_bytes()


@pytest.mark.parametrize(
    ("disk_format", "name", "options"),
    [
        ("qcow2", "qcow2", ()),
        ("vmdk", "vmdk", ()),
        ("vdi", "vdi", ()),
        ("vhdx", "vhdx", ()),
        ("vhd", "vpc", ("-o", "subformat=dynamic,force_size=on")),
        ("vhd", "vpc", ("-o", "subformat=fixed,force_size=on")),
    ],
)
def test_disks_are_converted(
    cloud: Any, alice: Any, tmp_path: Path, disk_format: str, name: str, options: tuple[str, ...]
) -> None:
    data = disk(tmp_path, name, *options)
    same = imported(cloud, alice, data, disk_format=disk_format)
    assert (same["disk_format"], same["virtual_size"]) == (disk_format, 1 << 20)
    allow(cloud, import_plugins=["image_conversion"], conversion_format="raw")
    got = imported(cloud, alice, data, disk_format=disk_format)
    assert (got["status"], got["disk_format"], got["size"]) == ("active", "raw", 1 << 20), tasks(
        alice, got["id"]
    )
    assert alice.get(f"{V2}/{got['id']}/file").content == (tmp_path / "data.raw").read_bytes()
    assert alice.post("/volume/v3/volumes", {"volume": {"size": 1, "imageRef": got["id"]}}).status == 202
    assert files(cloud) == sorted([same["id"], got["id"]])


def test_what_is_not_converted(cloud: Any, alice: Any) -> None:
    allow(cloud, import_plugins=["image_conversion"], conversion_format="qcow2")
    iso = bytes(0x8000) + b"\x01CD001\x01\x00" + bytes(0x8000)
    assert imported(cloud, alice, iso, disk_format="iso")["disk_format"] in ("iso",)
    assert imported(cloud, alice, RAW, disk_format="aki", container_format="aki")["disk_format"] == "aki"
    assert imported(cloud, alice, RAW, container_format="ova")["disk_format"] == "raw"
    evil = imported(cloud, alice, qcow2(backing=b"/etc/passwd"), disk_format="qcow2")
    assert evil["status"] == "queued"


def test_conversion_that_fails_says_why(cloud: Any, alice: Any, tmp_path: Path) -> None:
    allow(cloud, import_plugins=["image_conversion"], conversion_format="raw")
    data = bytearray(disk(tmp_path, "qcow2"))
    data[1 << 16 : 4 << 16] = b"\xff" * (3 << 16)  # tables full of nonsense
    got = imported(cloud, alice, bytes(data), disk_format="qcow2")
    assert got["status"] == "queued"
    assert "could not be converted" in tasks(alice, got["id"])[0]["message"]
    assert files(cloud) == []


# -- properties --------------------------------------------------------------------------------------------------------


def test_properties_are_injected(cloud: Any, alice: Any, admin: Any) -> None:
    allow(cloud, import_plugins=["inject_image_metadata"], inject_metadata={"origin": "import", "x": "1"})
    got = imported(cloud, alice, RAW, x="0")
    assert (got["origin"], got["x"]) == ("import", "1")
    assert "origin" not in imported(cloud, admin, RAW)
