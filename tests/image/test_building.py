"""Real builds: packages from real repositories, images that are booted. Minutes each, so they are `host` tests."""

import gzip
import hashlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stackling.base.config import Image
from stackling.image.builder import BuildError, cloudify, confine, limits, line, recipe
from stackling.image.builder.micro.cpio import write_initrd
from stackling.image.builder.work import Work

from . import look_alike

pytestmark = [
    pytest.mark.host,
    pytest.mark.timeout(7200),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root for namespaces"),
]


def mine() -> list[str]:
    """Command lines of processes that run confined."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            uid = next(line for line in status.read_text().splitlines() if line.startswith("Uid:")).split()[1]
            if int(uid) == confine.FIRST_ID:
                found.append(status.with_name("cmdline").read_bytes().decode(errors="replace"))
        except (OSError, StopIteration):
            continue
    return found


def test_the_tiny_image_passes_the_test_of_all_images(tmp_path: Path, cache: Path) -> None:
    work = Work(tmp_path / "build", cache=cache)
    built = line.build(recipe.shipped()["micro"], work)
    said = work.log.read_text()
    for told in (
        "ssh with the cloud's key as stackling",
        "the host name came from the metadata",
        "the user data ran",
        "the root file system has grown",
        "clean shutdown",
    ):
        assert f"test: {told}" in said
    assert built.path.stat().st_size == built.size
    assert built.properties["stackling_recipe_digest"] == built.recipe.digest
    assert not work.scratch.exists()


def test_an_image_that_fails_its_test_is_none(tmp_path: Path, cache: Path) -> None:
    plain = recipe.plain(recipe.shipped()["micro"])
    bad = recipe.convert({**plain, "tests": [{"run": "echo it is broken; false"}]})
    work = Work(tmp_path / "build", cache=cache)
    with pytest.raises(BuildError, match="it is broken"):
        line.build(bad, work)
    assert not (work.directory / "image.qcow2").exists()
    assert not work.scratch.exists()
    assert "it is broken" in work.log.read_text()


def running(place: Path) -> bool:
    return any(str(place) in command and "qemu-system" in command for command in mine())


def until(true: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.1)


def kill_with_its_machine(script: str, place: Path) -> None:
    """Run a script until it has a virtual machine in `place`, and kill it."""
    builder = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)])
    until(lambda: running(place) or builder.poll() is not None, 120)
    assert builder.poll() is None
    builder.send_signal(signal.SIGKILL)
    builder.wait()
    until(lambda: not any(str(place) in command for command in mine()), 30)


def test_a_killed_build_leaves_nothing_running_and_begins_anew(tmp_path: Path, cache: Path) -> None:
    place = tmp_path / "build"
    script = f"""
    from pathlib import Path
    from stackling.image.builder import line, recipe
    from stackling.image.builder.work import Work
    line.build(recipe.shipped()["micro"], Work(Path({str(place)!r}), cache=Path({str(cache)!r})))
    """
    mounts = Path("/proc/mounts").read_text()
    kill_with_its_machine(script, place)
    assert Path("/proc/mounts").read_text() == mounts
    work = Work(place, cache=cache)
    work.begin()
    assert list(work.scratch.iterdir()) == []
    work.end()


def test_a_killed_or_cancelled_machine_leaves_nothing_running(tmp_path: Path, cache: Path) -> None:
    place, cancelled = tmp_path / "build", tmp_path / "cancelled"
    script = f"""
    from pathlib import Path
    from stackling.image.builder import confine, machine
    from stackling.image.builder.work import Work, own
    work = Work(Path({str(place)!r}), cache=Path({str(cache)!r}), stop=Path({str(cancelled)!r}).exists)
    work.begin()
    machine.prepare(work)
    (work.scratch / "disk").write_bytes(bytes(4096))
    own(work.scratch / "disk")
    told = dict(place=str(work.scratch), target=str(work.scratch / "disk"), kind="raw", accel="tcg")
    call = ("stackling.image.builder.cloudify:inside", dict(told, script="while :; do echo busy; done"))
    try:
        work.confined([], "Sleeping", call=call, seconds=600)
    except confine.Stopped:
        Path({str(cancelled)!r}).write_text("stopped")
    """
    kill_with_its_machine(script, place)
    builder = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)])
    until(lambda: "busy\nbusy" in (place / "log").read_text() or builder.poll() is not None, 120)
    cancelled.touch()
    builder.wait(30)
    assert cancelled.read_text() == "stopped"
    assert not any(str(place) in command for command in mine())


@pytest.mark.slow
def test_cloudify_puts_the_agent_into_a_system_without_cloud_init(tmp_path: Path, cache: Path) -> None:
    """The tiny image is such a system (with busybox's init)."""
    work = Work(tmp_path / "work", cache=cache)
    made = cloudify.cloudify(cache / "micro" / "ready.qcow2", work, test=False)
    assert made.read_bytes()[:4] == b"QFI\xfb"
    assert "ok: the agent on /dev/vdb2" in work.log.read_text()


# What debootstrap leaves, with a kernel and ssh: nothing in it knows of a cloud.
PLAIN = {
    "name": "plain",
    "release": "bookworm",
    "repositories": [{"uri": "http://deb.debian.org/debian"}],
    "packages": [
        *("apt", "systemd-sysv", "udev", "dbus", "linux-image-cloud-amd64", "openssh-server", "sudo"),
        *("iproute2", "ifupdown", "isc-dhcp-client", "e2fsprogs", "fdisk"),
    ],
    "without": ["/usr/share/man/*", "/usr/share/locale/*", "/usr/share/doc/*"],
    "users": [{"name": "debian", "sudo": True}],
    "disk": {"spare_mib": 256},
    "cloud": "none",
    "login": "debian",
    "memory_mib": 512,
}


@pytest.mark.slow
def test_a_plain_debian_becomes_cloud_aware(tmp_path: Path, cache: Path) -> None:
    work = Work(tmp_path / "plain", cache=cache)
    line.build(recipe.convert(PLAIN), work)
    assert "Failed to start" not in work.log.read_text()  # ssh, whose host keys nobody else makes
    more = Work(tmp_path / "aware", cache=cache)
    cloudify.cloudify(work.directory / "image.qcow2", more, login="debian")
    said = more.log.read_text()
    assert "test: ssh with the cloud's key as debian" in said
    assert "test: passed" in said


def test_cloudify_refuses_what_holds_no_system(tmp_path: Path, cache: Path) -> None:
    blank = tmp_path / "blank.raw"
    blank.write_bytes(bytes(1 << 20))
    work = Work(tmp_path / "work", cache=cache)
    with pytest.raises(BuildError, match="no partition has"):
        cloudify.cloudify(blank, work)
    assert not (work.directory / "image.qcow2").exists()


def test_an_image_that_is_not_safe_is_not_even_opened(tmp_path: Path, cache: Path) -> None:
    backed = tmp_path / "backed.qcow2"
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-b", "/etc/passwd", "-F", "raw", str(backed), "1M"],
        check=True,
    )
    with pytest.raises(BuildError, match="backing"):
        cloudify.cloudify(backed, Work(tmp_path / "work", cache=cache))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["debian-7", "debian-6"])
def test_an_old_debian_becomes_a_cloud_image(name: str, tmp_path: Path, cache: Path) -> None:
    old = recipe.shipped()[name]
    archive, key = look_alike.make(tmp_path, old, look_alike.OLD, cache)
    work = Work(
        tmp_path / "build",
        cache=cache,
        mirrors={place.uri: f"copy:{archive}" for place in old.repositories},
        keyring=key,
    )
    built = line.build(old, work)
    assert "test: passed" in work.log.read_text()
    assert any(package.name == "sysvinit-core" for package in built.packages)
    assert not any(package.name == "cloud-init" for package in built.packages)


@pytest.mark.slow
def test_an_ubuntu_boots_to_cloud_init_done_and_ssh(tmp_path: Path, cache: Path) -> None:
    ubuntu = recipe.shipped()["ubuntu-24.04"]
    archive, key = look_alike.make(tmp_path, ubuntu, look_alike.UBUNTU, cache)
    mirrors = {place.uri: f"copy:{archive}" for place in ubuntu.repositories}
    work = Work(tmp_path / "build", cache=cache, mirrors=mirrors, keyring=key)
    built = line.build(ubuntu, work)
    said = work.log.read_text()
    assert "test: 'cloud-init status --wait': " in said
    assert "test: passed" in said
    assert {"linux-image-virtual", "ubuntu-keyring"} <= {package.name for package in built.packages}


def test_a_repository_signed_by_somebody_else_is_refused(tmp_path: Path, cache: Path) -> None:
    old = recipe.shipped()["debian-7"]
    archive, _ = look_alike.make(tmp_path, old, look_alike.OLD, cache)
    mirrors = {place.uri: f"copy:{archive}" for place in old.repositories}
    with pytest.raises(BuildError, match="is not signed"):
        line.build(old, Work(tmp_path / "build", cache=cache, mirrors=mirrors))


_INSTALLER = """#!/bin/busybox sh
export PATH=/bin
for name in mkdir mount insmod usleep grep zcat sync poweroff; do /bin/busybox ln -s busybox /bin/$name; done
mkdir -p /dev /proc /sys
mount -t devtmpfs dev /dev; mount -t proc proc /proc; mount -t sysfs sys /sys
for module in /modules/*.ko; do insmod "$module" 2>/dev/null; done
until [ -b /dev/vda ]; do usleep 100000; done
if grep -q "^disk: erase it$" /preseed.cfg; then zcat /disk.gz >/dev/vda; sync; fi
poweroff -f
"""


def medium(home: Path, ready: Path) -> tuple[Path, int]:
    """An installation medium whose installer writes the tiny image to a disk when it is told to, and the image's MiB."""
    raw, iso, tree = home / "disk.raw", home / "iso", home / "tree"
    iso.mkdir()
    tree.mkdir()
    subprocess.run(["qemu-img", "convert", "-O", "raw", ready, raw], check=True)
    for name in ("vmlinuz", "initrd"):
        subprocess.run(["mcopy", "-i", f"{raw}@@1M", f"::/{name}", iso / name], check=True)
    (tree / "disk.gz").write_bytes(gzip.compress(raw.read_bytes(), 1))
    (tree / "init").write_text(_INSTALLER)
    (tree / "init").chmod(0o755)
    write_initrd(tree, home / "more.cpio")
    data = (iso / "initrd").read_bytes()
    (iso / "initrd").write_bytes(data + bytes(-len(data) % 4) + (home / "more.cpio").read_bytes())
    made = home / "medium.iso"
    subprocess.run(["xorriso", "-as", "mkisofs", "-quiet", "-r", "-o", made, iso], check=True)
    return made, (raw.stat().st_size >> 20) + 1


def test_an_installer_that_has_its_answers_makes_an_image(tmp_path: Path, cache: Path) -> None:
    iso, mib = medium(tmp_path, cache / "micro" / "ready.qcow2")
    plain: dict[str, Any] = {
        "iso": str(iso),
        "sha256": hashlib.sha256(iso.read_bytes()).hexdigest(),
        "kernel": "/vmlinuz",
        "initrd": "/initrd",
        "arguments": "console=ttyS0",
        "memory_mib": 512,
        "minutes": 10,
    }

    def build(preseed: str) -> line.Built:
        work = Work(tmp_path / "build", cache=tmp_path / "cache")
        wanted = {"name": "installed", "kind": "installer", "cloud": "none", "disk": {"size_mib": mib}}
        return line.build(recipe.convert({**wanted, "installer": {**plain, "preseed": preseed}}), work)

    with pytest.raises(BuildError, match="without having written to the disk"):
        build("disk: keep it\n")
    built = build("disk: erase it\n")
    assert built.virtual_size == mib << 20
    assert "test: clean shutdown" in (tmp_path / "build" / "log").read_text()
    plain["sha256"] = "0" * 64
    with pytest.raises(BuildError, match=r"installer\.sha256: .* has "):
        build("disk: erase it\n")


# Kernel and initial RAM disk of Debian, and an init that shows who it was made by; most of it is Debian's own work.
SMALL: dict[str, Any] = {
    "name": "small",
    "release": "bookworm",
    "repositories": [
        {"uri": "http://deb.debian.org/debian"},
        {"uri": "http://deb.debian.org/debian-security", "suite": "{release}-security"},
    ],
    "packages": ["linux-image-cloud-amd64", "initramfs-tools", "busybox-static"],
    "without": ["/usr/share/man/*", "/usr/share/locale/*", "/usr/share/doc/*"],
    "files": [
        {
            "path": "/sbin/small",
            "mode": "0755",
            "content": "#!/bin/sh\ncat /etc/seen\nmount -t proc p /proc\nmount -t sysfs s /sys\n"
            'modprobe -a evdev button\necho "small login:"\nexec busybox acpid -d\n',
        },
        {"path": "/etc/acpi/PWRF/00000080", "mode": "0755", "content": "#!/bin/sh\nbusybox poweroff -f\n"},
    ],
    "commands": ["{ echo nets: $(ls /sys/class/net); id -u; } | tee /etc/seen"],
    "disk": {"boot": ["bios"], "spare_mib": 64},
    "cloud": "none",
    "kernel_arguments": "console=ttyS0,115200 init=/sbin/small",
    "memory_mib": 256,
}


@pytest.mark.slow
def test_a_tenants_image_is_made_where_there_is_nothing_of_the_host(tmp_path: Path, cache: Path) -> None:
    work = Work(tmp_path / "build", cache=cache, limits=limits.configured(Image()))
    built = line.build(recipe.convert(SMALL), work)
    said = work.log.read_text()
    assert "\nnets: lo\n0\n" in said
    assert "test: clean shutdown" in said
    assert "linux-image-cloud-amd64" in {package.name for package in built.packages}
    with pytest.raises(BuildError, match=r"Installing packages in a virtual machine: .*ended with status"):
        line.build(recipe.convert({**SMALL, "commands": ["echo it is broken; exit 7"]}), work)
    assert "it is broken" in work.log.read_text()


@pytest.mark.slow
def test_debian_12_boots_to_cloud_init_done_and_ssh(tmp_path: Path, cache: Path) -> None:
    work = Work(tmp_path / "build", cache=cache)
    built = line.build(recipe.shipped()["debian-12"], work)
    said = work.log.read_text()
    assert "test: 'cloud-init status --wait': " in said
    assert "test: passed" in said
    names = {package.name for package in built.packages}
    assert {"cloud-init", "linux-image-cloud-amd64", "openssh-server"} <= names
