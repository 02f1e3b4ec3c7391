"""The XML that libvirt gets, and the drive that a guest finds its documents on."""

import shutil
import subprocess
import uuid
import xml.etree.ElementTree as ET
from pathlib import Path

import msgspec
import pytest

from stackling.compute.driver import Disk, Domain, DomainFailed, GuestData, LocalDisk, Nic
from stackling.compute.drivers.config_drive import write_config_drive
from stackling.compute.drivers.domain_xml import check, devices_of, domain_xml
from stackling.compute.drivers.instance_files import InstanceFiles
from stackling.image.cache import ImageRef
from stackling.volume.driver import Connection

EVIL = "</title><devices><disk type='file'/></devices>&x;\n\x00\x1b"
VOLUME, PORT = str(uuid.uuid4()), str(uuid.uuid4())
DOMAIN = Domain(
    id=str(uuid.uuid4()),
    name=EVIL,
    vcpus=2,
    memory_mib=256,
    image=ImageRef(id=str(uuid.uuid4()), format="raw", size=1, sha512="", virtual_size=1),
    local_disks=(LocalDisk(kind="swap", size_mib=64, device="vdc"),),
    disks=(
        Disk(
            volume_id=VOLUME,
            connection=Connection(path="/v/<a>&'b", format="raw"),
            device="vdb",
            read_only=True,
        ),
    ),
    nics=(Nic(port_id=PORT, mac="fa:16:3e:00:00:01", network_id=str(uuid.uuid4()), mtu=1400),),
    config_drive=True,
)


def tree(domain: Domain, accel: str = "tcg", bridge: str | None = "br-int") -> ET.Element:
    files = InstanceFiles(Path("/state"), Path("/run"), Path("/state/images")).files(domain)
    return ET.fromstring(domain_xml(domain, files, accel, bridge))  # type: ignore[arg-type]


def test_names_and_paths_stay_text() -> None:
    root = tree(DOMAIN)
    assert [child.tag for child in root].count("devices") == 1
    assert root.findtext("title") == "</title><devices><disk type='file'/></devices>&x;"
    assert len(root.findall("./devices/disk")) == 4
    assert root.find('./devices/disk/source[@file="/v/<a>&\'b"]') is not None


def test_what_the_data_plane_needs() -> None:
    root = tree(DOMAIN)
    assert root.get("type") == "qemu"
    assert len(root.findall("./devices/controller[@model='pcie-root-port']")) == 16
    assert root.findtext("./features/tcg/tb-cache") == "32"
    nic = root.find("./devices/interface")
    assert nic is not None
    assert nic.find("./driver[@name='qemu']/host[@csum='off']") is not None
    assert nic.find(f"./virtualport[@type='openvswitch']/parameters[@interfaceid='{PORT}']") is not None
    assert nic.find(f"./target[@dev='tap{PORT[:11]}']") is not None
    assert nic.find("./mtu[@size='1400']") is not None
    for disk in root.iterfind("./devices/disk"):
        assert disk.find("./driver[@cache='none']") is not None
        assert disk.find("backingStore") is not None, "libvirt never probes for a backing file"
    assert root.find("./devices/graphics[@listen='127.0.0.1']") is not None
    assert tree(DOMAIN, "kvm").get("type") == "kvm"
    assert tree(DOMAIN, "kvm").find("./features/tcg") is None
    assert tree(DOMAIN, bridge=None).find("./devices/interface") is None


def test_a_rescue_disk_takes_the_place_of_the_one_that_is_booted_from() -> None:
    root = Disk(volume_id=VOLUME, connection=Connection(path="/v/root"), device="vda", boot_index=0)
    rescued = msgspec.structs.replace(DOMAIN, image=None, disks=(root,), rescue=DOMAIN.image)
    for domain, booted, beside in (
        (rescued, "rescue.qcow2", "/v/root"),
        (msgspec.structs.replace(DOMAIN, rescue=DOMAIN.image), "rescue.qcow2", "root.qcow2"),
    ):
        order = {}
        for disk in tree(domain).findall("./devices/disk"):
            source, target, boot = disk.find("source"), disk.find("target"), disk.find("boot")
            assert source is not None
            assert target is not None
            order[target.get("dev")] = (source.get("file", ""), None if boot is None else boot.get("order"))
        assert order["vda"][0].endswith(booted)
        assert order["vda"][1] == "1"
        assert order["vdy"][0].endswith(beside)
        assert order["vdy"][1] != "1"
    assert devices_of(ET.tostring(tree(rescued), encoding="unicode")).disks.keys() == {VOLUME}


def test_devices_are_read_back() -> None:
    devices = devices_of(ET.tostring(tree(DOMAIN), encoding="unicode"))
    assert list(devices.disks) == [VOLUME]
    assert list(devices.nics) == [PORT]


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": "../../etc/passwd"},
        {"root_device": "../vda"},
        {"local_disks": (LocalDisk(kind="swap", size_mib=1, device="a/b"),)},
        {"disks": (Disk(volume_id="x", connection=Connection(), device="vdb"),)},
        {"nics": (Nic(port_id="x", mac="", network_id=""),)},
    ],
)
def test_what_would_become_a_path_is_checked(wrong: dict[str, object]) -> None:
    check(DOMAIN)
    with pytest.raises(DomainFailed):
        check(msgspec.structs.replace(DOMAIN, **wrong))


def test_a_disk_of_a_fake_host_is_refused() -> None:
    disk = Disk(volume_id=VOLUME, connection=Connection(kind="none"), device="vdb")
    with pytest.raises(DomainFailed, match=VOLUME):
        tree(msgspec.structs.replace(DOMAIN, disks=(disk,)))


@pytest.mark.skipif(shutil.which("xorriso") is None, reason="needs xorriso")
def test_the_config_drive_holds_the_documents(tmp_path: Path) -> None:
    drive = tmp_path / "config.iso"
    write_config_drive(drive, GuestData(meta_data={"uuid": "é"}, user_data=b"\x00\xff"))
    assert b"config-2" in drive.read_bytes()[32768:34816]
    assert drive.stat().st_mode & 0o777 == 0o600
    restore = ["xorriso", "-osirrox", "on", "-indev", str(drive), "-extract", "/", str(tmp_path / "tree")]
    subprocess.run(restore, check=True, capture_output=True)
    latest = tmp_path / "tree" / "openstack" / "latest"
    assert (latest / "user_data").read_bytes() == b"\x00\xff"
    assert msgspec.json.decode((latest / "meta_data.json").read_bytes())["uuid"] == "é"
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith(".config")] == []
