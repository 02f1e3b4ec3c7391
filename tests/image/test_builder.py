"""The image builder, and the ready image booted under plain QEMU with each source of metadata."""

import contextlib
import gzip
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from stackling.image.builder import READY, BuildError, BuiltImage, build_ready_image
from stackling.image.builder.micro.build import build
from stackling.image.builder.micro.cpio import write_initrd
from stackling.image.builder.micro.elf import needed
from stackling.image.builder.run import require, run
from tests import ready_image


def test_a_recipe_has_a_new_version_when_anything_in_it_changes(tmp_path: Path) -> None:
    files = tmp_path / "guest"
    shutil.copytree(READY.files, files)
    copied = replace(READY, files=files)
    assert copied.version == READY.version
    assert replace(READY, spare_mib=READY.spare_mib + 1).version != READY.version
    (files / "root/etc/issue").write_text("hello\n")
    assert copied.version != READY.version


def test_a_missing_tool_is_named_with_its_package() -> None:
    with pytest.raises(BuildError, match="no-such-tool; install with: apt-get install its-package"):
        require({"no-such-tool": "its-package", "sh": "dash"})


def test_a_failing_tool_is_named_with_what_it_said() -> None:
    with pytest.raises(BuildError, match="sh failed with status 3: it broke"):
        run(["sh", "-c", "echo it broke >&2; exit 3"])


def test_a_finished_image_of_the_same_version_is_taken_as_it_is(tmp_path: Path) -> None:
    out = tmp_path / "ready.qcow2"
    out.write_bytes(b"image")
    described = {"size": 5, "virtual_size": 9, "sha512": "a", "md5": "b", "version": READY.version}
    (tmp_path / "ready.qcow2.json").write_text(json.dumps(described))
    said: list[str] = []
    built = build_ready_image(out, cache=tmp_path / "cache", progress=said.append)
    assert built == BuiltImage(path=out, size=5, virtual_size=9, sha512="a", md5="b", version=READY.version)
    assert said == []
    assert not (tmp_path / "cache").exists()


def test_needed_libraries_are_read_from_the_file() -> None:
    libraries, loader = needed(Path(sys.executable).resolve())
    assert "libc.so.6" in libraries
    assert loader is not None
    assert "ld-linux" in loader
    assert needed(Path(__file__)) == ([], None)


def test_equal_trees_make_equal_initial_ram_disks(tmp_path: Path) -> None:
    for name in ("a", "b"):
        tree = tmp_path / name
        (tree / "bin").mkdir(parents=True)
        (tree / "bin/tool").write_bytes(b"x" * 5)
        (tree / "bin/sh").symlink_to("tool")
        write_initrd(tree, tmp_path / f"{name}.cpio.gz")
        time.sleep(0.01)
    first = (tmp_path / "a.cpio.gz").read_bytes()
    assert first == (tmp_path / "b.cpio.gz").read_bytes()
    archive = gzip.decompress(first)
    assert archive.startswith(b"070701")
    assert b"TRAILER!!!" in archive


def test_guest_scripts_are_valid_shell() -> None:
    scripts = [
        path
        for path in READY.files.rglob("*")
        if path.is_file() and path.read_bytes().startswith(b"#!/bin/busybox sh")
    ]
    assert len(scripts) > 10
    for script in scripts:
        run(["sh", "-n", script])


# -- booted ------------------------------------------------------------------------------------------------------


class Guest:
    """One machine under plain QEMU (TCG), its ssh port on loopback."""

    def __init__(
        self, disk: Path, place: Path, *, drives: Sequence[Path] = (), netdev: str = "", seconds: int = 100
    ) -> None:
        self.place = place
        self.until = time.monotonic() + seconds
        self.key = place / "key"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        root = place / "root.qcow2"
        run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", disk, "-F", "qcow2", root, "1G"])
        argv = [
            "qemu-system-x86_64",
            "-M",
            "q35",
            "-accel",
            "tcg",
            "-m",
            "128",
            "-display",
            "none",
            "-nodefaults",
        ]
        argv += ["-serial", f"file:{place / 'console'}", "-qmp", f"unix:{place / 'qmp'},server=on,wait=off"]
        argv += ["-drive", f"file={root},if=virtio,format=qcow2", "-device", "virtio-rng-pci"]
        argv += ["-netdev", f"user,id=n0,hostfwd=tcp:127.0.0.1:{self.port}-:22{netdev}"]
        argv += ["-device", "virtio-net-pci,netdev=n0", "-device", "pcie-root-port,id=spare"]
        argv += ["-device", "pcie-root-port,id=spare2,chassis=2"]
        for drive in drives:
            argv += ["-drive", f"file={drive},if=virtio,format=raw,readonly=on"]
        self.started = time.monotonic()
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL)

    def console(self) -> str:
        return (
            (self.place / "console").read_text(errors="replace") if (self.place / "console").exists() else ""
        )

    def wait_console(self, text: str) -> None:
        while text not in self.console():
            assert self.process.poll() is None, f"QEMU ended:\n{self.console()}"
            assert time.monotonic() < self.until, f"no {text!r} on the console:\n{self.console()}"
            time.sleep(0.1)

    def try_ssh(self, command: str, user: str = "stackling") -> subprocess.CompletedProcess[str]:
        argv = [
            "ssh",
            "-i",
            str(self.key),
            "-p",
            str(self.port),
            "-o",
            "BatchMode=yes",
            "-o",
            "ConnectTimeout=10",
        ]
        argv += [
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
            "-o",
            "LogLevel=ERROR",
        ]
        argv += ["-o", "IdentitiesOnly=yes", "-F", "none"]
        return subprocess.run(
            [*argv, f"{user}@127.0.0.1", command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def ssh(self, command: str, user: str = "stackling") -> str:
        done = self.try_ssh(command, user)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}\n{self.console()}"
        return done.stdout

    def wait_ssh(self) -> float:
        """Seconds from power-on to the first command done over ssh."""
        while self.try_ssh("true").returncode != 0:
            assert self.process.poll() is None, f"QEMU ended:\n{self.console()}"
            assert time.monotonic() < self.until, f"no ssh:\n{self.console()}"
            time.sleep(0.1)
        return time.monotonic() - self.started

    def eventually(self, command: str, expected: str) -> None:
        while expected not in (said := self.ssh(command)):
            assert time.monotonic() < self.until, f"{command}: {said}\n{self.console()}"
            time.sleep(0.2)

    def qmp(self, *commands: dict[str, object]) -> None:
        with socket.socket(socket.AF_UNIX) as wire:
            wire.connect(str(self.place / "qmp"))
            lines = wire.makefile("rw")
            lines.readline()
            for command in ({"execute": "qmp_capabilities"}, *commands):
                lines.write(json.dumps(command) + "\n")
                lines.flush()
                while "return" not in (answer := json.loads(lines.readline())):
                    assert "error" not in answer, answer

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def ready() -> BuiltImage:
    if os.geteuid() != 0:
        pytest.skip("building an image needs root")
    return ready_image.build()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "tester", "-f", tmp_path / "key"])
    return tmp_path


@contextlib.contextmanager
def running(guest: Guest) -> Iterator[Guest]:
    try:
        yield guest
    finally:
        guest.end()


def metadata(place: Path, **more: object) -> dict[str, object]:
    public = (place / "key.pub").read_text()
    return {
        "uuid": "83679162-1378-4288-a2d4-70e13ec132aa",
        "hostname": "web1.novalocal",
        "public_keys": {"k": public},
        **more,
    }


@pytest.mark.host
def test_the_ready_image_is_small(ready: BuiltImage) -> None:
    assert ready.size < 40_000_000
    assert ready.version == READY.version
    info = json.loads(run(["qemu-img", "info", "--output=json", ready.path]))
    assert (info["format"], info["virtual-size"]) == ("qcow2", ready.virtual_size)
    assert "backing-filename" not in info


@pytest.mark.host
@pytest.mark.timeout(180)
def test_the_ready_image_with_a_config_drive(ready: BuiltImage, place: Path) -> None:
    latest = place / "drive/openstack/latest"
    latest.mkdir(parents=True)
    (place / "drive/openstack/content").mkdir()
    (place / "drive/openstack/content/0000").write_text("injected\n")
    files = [{"path": "/etc/from-the-cloud/note", "content_path": "/content/0000"}]
    (latest / "meta_data.json").write_text(
        json.dumps(metadata(place, admin_pass="se'cr\"et $1", files=files))
    )
    (latest / "user_data").write_text("#!/bin/sh\necho user data speaks\nid -u >/tmp/ran\n")
    drive = place / "config.iso"
    run(
        [
            "xorriso",
            "-as",
            "genisoimage",
            "-quiet",
            "-J",
            "-r",
            "-V",
            "config-2",
            "-o",
            drive,
            place / "drive",
        ]
    )
    blank = place / "blank.raw"
    with blank.open("wb") as file:
        file.truncate(64 << 20)
    with running(Guest(ready.path, place, drives=[drive])) as guest:
        guest.wait_ssh()
        assert guest.ssh("hostname; whoami; id -u").split() == ["web1", "stackling", "1000"]
        assert guest.ssh("sudo -n id -u").strip() == "0"
        assert guest.ssh("whoami", user="root").strip() == "root"
        assert guest.ssh("whoami; sudo whoami", user="cirros").split() == ["cirros", "root"]
        assert guest.ssh("sudo cat /etc/from-the-cloud/note") == "injected\n"
        assert int(guest.ssh("df -m / | awk 'END {print $2}'")) > 900
        guest.wait_console("user data ended with status 0")
        assert guest.ssh("cat /tmp/ran").strip() == "0"
        assert guest.ssh("sudo cat /var/log/user-data.log") == "user data speaks\n"
        # What tenants and Tempest do over ssh.
        tools = "ip -o addr; ping -c1 127.0.0.1; ping6 -c1 ::1; lsblk -lb --nodeps; cat /proc/net/dev; uname; date; curl -V"
        assert "disk" in guest.ssh(f"set -eu -o pipefail; PATH=$PATH:/sbin:/usr/sbin; {tools}")
        device = guest.ssh("/sbin/blkid -L config-2 -o device").strip()
        assert "83679162" in guest.ssh(
            f"sudo mount {device} /mnt; sudo cat /mnt/openstack/latest/meta_data.json; sudo umount /mnt"
        )
        assert "config-2" not in guest.ssh("cat /proc/mounts")
        copied = place / "note"
        copied.write_text("by scp\n")
        for old in ([], ["-O"]):
            run(
                [
                    *(
                        "scp",
                        *old,
                        "-q",
                        "-i",
                        guest.key,
                        "-P",
                        str(guest.port),
                        "-F",
                        "none",
                        "-o",
                        "BatchMode=yes",
                    ),
                    *("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"),
                    *(copied, f"stackling@127.0.0.1:note{''.join(old)}"),
                ]
            )
        assert guest.ssh("cat note note-O") == "by scp\nby scp\n"
        assert {"default via 10.0.2.2 dev eth0", "10.0.2.0/24 dev eth0 scope link"} <= {
            re.sub(" +(src|metric).*", "", line).strip() for line in guest.ssh("ip route").splitlines()
        }
        # A disk and a network interface plugged in while it runs.
        serial = "4f9d4b5e-1d2c-4c3b-a1f0-c5f4a3b2e1d0"
        guest.qmp(
            {
                "execute": "blockdev-add",
                "arguments": {"driver": "file", "node-name": "b", "filename": str(blank)},
            },
            {
                "execute": "device_add",
                "arguments": {
                    "driver": "virtio-blk-pci",
                    "id": "d1",
                    "drive": "b",
                    "bus": "spare",
                    "serial": serial[:20],
                },
            },
            {"execute": "netdev_add", "arguments": {"type": "user", "id": "n1", "net": "10.9.8.0/24"}},
            {
                "execute": "device_add",
                "arguments": {"driver": "virtio-net-pci", "id": "c1", "netdev": "n1", "bus": "spare2"},
            },
        )
        link = f"/dev/disk/by-id/virtio-{serial[:20]}"
        guest.eventually("ls /dev/disk/by-id", link.rpartition("/")[2])
        guest.ssh(
            f"sudo mkfs -t ext4 -q {link} && sudo mount {link} /mnt && sudo cp /etc/hosts /mnt/ && sync && sudo umount /mnt"
        )
        disk = guest.ssh(f"basename $(readlink {link})").strip()
        guest.ssh(f"sudo mkfs -t vfat /dev/{disk} && sudo mount /dev/{disk} /mnt && sudo umount /mnt")
        guest.eventually("ip -o -4 addr", "10.9.8.15/24")
        guest.qmp(*({"execute": "device_del", "arguments": {"id": name}} for name in ("d1", "c1")))
        guest.eventually(f"[ -e {link} ] || echo disk gone", "disk gone")
        guest.eventually(
            "[ -e /sys/class/net/eth1 ] || [ -e /run/udhcpc.eth1.pid ] || echo interface gone",
            "interface gone",
        )
        shadow = guest.ssh("sudo cat /etc/shadow")
        for line in shadow.splitlines():
            assert line.startswith(("stackling:$6$", "cirros:$6$", "root:$6$", "daemon:*", "nobody:*")), line
        guest.wait_console("login:")
        console = guest.console()
        assert "-----BEGIN SSH HOST KEY FINGERPRINTS-----" in console
        assert "user data speaks" in console
        guest.qmp({"execute": "system_powerdown"})
        assert guest.process.wait(timeout=30) == 0


ANSWER = """
import sys, pathlib
line = sys.stdin.readline().split()
while sys.stdin.readline().strip():
    pass
path = pathlib.Path({root!r} + line[1])
if path.is_file():
    body = path.read_bytes()
    head = "HTTP/1.0 200 OK"
else:
    body, head = b"no", "HTTP/1.0 404 Not Found"
sys.stdout.buffer.write((head + "\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body)).encode() + body)
"""


@pytest.mark.host
@pytest.mark.timeout(180)
def test_the_ready_image_with_the_metadata_service(ready: BuiltImage, place: Path) -> None:
    latest = place / "http/openstack/latest"
    latest.mkdir(parents=True)
    (latest / "meta_data.json").write_text(json.dumps(metadata(place)))
    (latest / "user_data").write_text("#cloud-config\n{}\n")
    script = place / "answer.py"
    script.write_text(textwrap.dedent(ANSWER.format(root=str(place / "http"))))
    netdev = ",net=169.254.0.0/16,host=169.254.0.2,dns=169.254.0.3,dhcpstart=169.254.0.15"
    netdev += f",guestfwd=tcp:169.254.169.254:80-cmd:{sys.executable} {script}"
    with running(Guest(ready.path, place, netdev=netdev)) as guest:
        guest.wait_ssh()
        assert guest.ssh("hostname").strip() == "web1"
        assert "nameserver 169.254.0.3" in guest.ssh("cat /etc/resolv.conf")
        assert "83679162" in guest.ssh("curl -s http://169.254.169.254/openstack/latest/meta_data.json")
        guest.ssh("sudo /bin/kill -USR1 $(cat /var/run/udhcpc.eth0.pid)")
        # A lease as OVN gives it (options 121 and 26), then renewed with another route.
        lease = "interface=dummy0 ip=10.50.0.9 mask=24 mtu=1442 dns=10.50.0.3"
        guest.ssh("sudo modprobe dummy; sudo ip link set dummy0 up")
        static = "169.254.169.254/32 10.50.0.2 0.0.0.0/0 10.50.0.1"
        for event, last in (("bound", "10.50.0.1"), ("renew", "10.50.0.7")):
            guest.ssh(
                f"sudo env {lease} staticroutes='{static} 10.60.0.0/16 {last}' /usr/lib/stackling/dhcp {event}"
            )
            routes = [line.split(" dev")[0] for line in guest.ssh("ip route show dev dummy0").splitlines()]
            gateway = f"10.60.0.0/16 via {last}"
            assert {"default via 10.50.0.1", "169.254.169.254 via 10.50.0.2", gateway} <= set(routes), routes
            assert [line for line in routes if line.startswith("10.60")] == [gateway]
            assert any(line.startswith("10.50.0.0/24") for line in routes)
        assert guest.ssh("cat /sys/class/net/dummy0/mtu").strip() == "1442"
        guest.wait_console("#cloud-config, which this small image does not read")
        for line in guest.ssh("sudo cat /etc/shadow").splitlines():
            assert line.split(":")[1] == "*"
        guest.qmp({"execute": "system_powerdown"})
        assert guest.process.wait(timeout=30) == 0


@pytest.mark.host
def test_a_build_without_a_needed_package_says_which_library_is_missing(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("building an image needs root")
    lacking = replace(READY, packages=tuple(name for name in READY.packages if name != "libonig5"))
    with pytest.raises(BuildError, match=r"libjq\.so\.1 needs libonig\.so\.5"):
        build(lacking, tmp_path / "out.qcow2", cache=ready_image.PLACE / "cache", progress=lambda _: None)
    assert list(tmp_path.iterdir()) == []
