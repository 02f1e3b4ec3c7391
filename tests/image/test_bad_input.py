"""What people send by mistake or on purpose: refused with the reason on every way in, and nothing is left behind."""

import os
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.image.test_image import OCTETS, PATCH, RAW, V2, active, create, files, qcow2, upload
from tests.image.test_import import Site, allow, bring_in, show, site, stage, tasks

__all__ = ["site"]
MIB = 1 << 20


def made(place: Path, name: str, *options: str) -> bytes:
    out = place / "disk"
    subprocess.run(["qemu-img", "create", "-q", "-f", name, *options, out, "4M"], check=True, cwd=place)
    return out.read_bytes()


def data_file(place: Path) -> bytes:
    return made(place, "qcow2", "-o", f"data_file={place}/other,data_file_raw=on")


def vmdk_extents(place: Path) -> bytes:
    """A descriptor that names another file as its extent."""
    return made(place, "vmdk", "-o", "subformat=monolithicFlat")


def twin_extents(place: Path) -> bytes:
    return made(place, "vmdk", "-o", "subformat=twoGbMaxExtentSparse")


def lying_size(_: Path) -> bytes:
    return qcow2(size=1 << 62)


def encrypted(_: Path) -> bytes:
    head = bytearray(qcow2())
    head[32:36] = struct.pack(">I", 1)
    return bytes(head)


def fixed_vhd(place: Path) -> bytes:
    return made(place, "vpc", "-o", "subformat=fixed,force_size=on")


def ploop(sectors: int, block: int = 2048, entries: int = 4) -> bytes:
    head = struct.pack("<16sIIIIIQ", b"WithouFreSpacExt", 2, 16, 8, block, entries, sectors)
    return head.ljust(MIB, b"\0")


BAD: dict[str, tuple[str, Callable[[Path], bytes], str]] = {
    "backing file": ("qcow2", lambda _: qcow2(backing=b"/etc/passwd"), "backing file"),
    "data file": ("qcow2", data_file, "data in another file"),
    "vmdk extents": ("vmdk", vmdk_extents, "subformat or extents"),
    "vmdk split": ("vmdk", twin_extents, "subformat or extents|not vmdk"),
    "lying size": ("qcow2", lying_size, "too small for its disk size"),
    "encrypted": ("qcow2", encrypted, "encrypted"),
    "cut off": ("qcow2", lambda p: made(p, "qcow2")[: 3 << 15], "cut off or damaged"),
    "cut in the header": ("qcow2", lambda p: made(p, "qcow2")[:40], "not qcow2"),
    "cut vmdk": ("vmdk", lambda p: made(p, "vmdk")[:300], ""),
    "qcow2 as raw": ("raw", lambda _: qcow2(), "is qcow2, not raw"),
    "vhd as raw": ("raw", lambda p: fixed_vhd(p), "is vhd, not raw"),
    "raw as vhd": ("vhd", lambda _: RAW * 600, "not vhd"),
    "vhd cut off": ("vhd", lambda p: fixed_vhd(p)[:-513], "not vhd"),
    "vhd with more behind": ("vhd", lambda p: fixed_vhd(p) + b"x", "not vhd"),
    "raw as ploop": ("ploop", lambda _: RAW, "not ploop"),
    "ploop that lies": ("ploop", lambda _: ploop(1 << 40), "tables don't fit"),
    "empty ploop": ("ploop", lambda _: b"", "empty"),
    "noise as iso": ("iso", lambda _: os.urandom(MIB), "not iso"),
    "nothing as vdi": ("vdi", lambda _: b"", "empty"),
}


@pytest.mark.parametrize("name", BAD)
def test_on_every_way_in(
    cloud: Any, alice: Any, site: str, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import re

    allow(cloud, web_download_allow=["127.0.0.1"])
    disk_format, make, says = BAD[name]
    content = make(tmp_path)
    id = create(alice, disk_format=disk_format)["id"]
    refused = upload(alice, id, content)
    assert refused.status == 400, refused
    assert re.search(says, refused.json["message"].replace("&lt;", "<")), refused
    assert (show(alice, id)["status"], show(alice, id)["size"]) == ("queued", None)
    assert stage(alice, id, content).status == 204
    bring_in(alice, id, "glance-direct")
    cloud.settle()
    monkeypatch.setitem(Site.pages, "/bad", content)
    bring_in(alice, id, "web-download", uri=f"{site}/bad")
    cloud.settle()
    for task in tasks(alice, id):
        assert task["status"] == "failure"
        assert re.search(says, task["message"]), task
    assert show(alice, id)["status"] == "queued"
    assert files(cloud) == []


def test_disks_that_are_what_they_say(alice: Any, tmp_path: Path) -> None:
    for disk_format, content in (("vhd", fixed_vhd(tmp_path)), ("ploop", ploop(8192))):
        id = create(alice, disk_format=disk_format)["id"]
        assert upload(alice, id, content).status == 204
        assert show(alice, id)["virtual_size"] == 4 * MIB


@pytest.mark.parametrize("container", ["ova", "ovf", "docker", "compressed"])
def test_what_is_in_a_container_is_kept_and_never_a_disk(alice: Any, container: str) -> None:
    id = create(alice, disk_format="raw", container_format=container)["id"]
    evil = qcow2(backing=b"/etc/passwd")
    assert upload(alice, id, evil).status == 204
    assert alice.get(f"{V2}/{id}/file").content == evil
    assert show(alice, id)["virtual_size"] is None
    refused = alice.post("/volume/v3/volumes", {"volume": {"size": 1, "imageRef": id}})
    assert refused.status == 400


@pytest.mark.parametrize(
    "body",
    [
        {"size": -1},
        {"size": 1 << 70},
        {"min_disk": -1},
        {"min_ram": 1 << 40},
        {"min_disk": "1"},
        {"checksum": "0" * 32},
        {"virtual_size": 1},
        {"name": "x" * 256},
        {"name": "a\x00b"},
        {"stores": "file"},
        {"locations": []},
        {"os_glance_importing_to_stores": "file"},
        {"tags": ["x" * 256]},
        {"a" * 256: "x"},
        {"a": "x" * 70_000},
        {f"p{n}": "x" for n in range(3000)},
        {"tags": [f"t{n}" for n in range(3000)]},
    ],
)
def test_images_that_are_not_made(cloud: Any, alice: Any, body: dict[str, Any]) -> None:
    got = alice.post(V2, body)
    assert got.status in (400, 403, 413), got
    assert alice.get(V2).json["images"] == []


@pytest.mark.parametrize("length", ["99999999999999999999", str(1 << 62)])
def test_lengths_that_cannot_be(cloud: Any, alice: Any, length: str) -> None:
    id = create(alice)["id"]
    for path in ("file", "stage"):
        got = alice.put(f"{V2}/{id}/{path}", data=RAW, headers={**OCTETS, "Content-Length": length})
        assert got.status in (400, 413), got
    assert (show(alice, id)["status"], files(cloud)) == ("queued", [])


@pytest.mark.parametrize(
    "patch",
    [
        [{"op": "add", "path": f"/p{n}", "value": "x"} for n in range(2000)],
        [{"op": "add", "path": "/tags/-", "value": f"t{n}"} for n in range(2000)],
        [
            {"op": "add", "path": "/x", "value": "1"},
            {"op": "remove", "path": "/x"},
            {"op": "remove", "path": "/x"},
        ],
        [{"op": "replace", "path": "/size", "value": -1}],
        [{"op": "add", "path": "/a", "value": "1"}, {"op": "replace", "path": "/id", "value": "2"}],
        [{"op": "test", "path": "/name", "value": "web"}],
        [{"op": "add", "path": "/a"}],
        [[]],
        {},
    ],
)
def test_patches_change_all_or_nothing(alice: Any, patch: Any) -> None:
    id = active(alice)["id"]
    before = show(alice, id)
    got = alice.patch(f"{V2}/{id}", patch, headers=PATCH)
    assert got.status in (400, 403, 409, 413), got
    assert show(alice, id) == before


def test_the_same_patch_twice_is_the_same(alice: Any) -> None:
    id = active(alice)["id"]
    patch = [{"op": "add", "path": "/x", "value": "1"}, {"op": "add", "path": "/x", "value": "2"}]
    for _ in range(2):
        assert alice.patch(f"{V2}/{id}", patch, headers=PATCH).json["x"] == "2"
