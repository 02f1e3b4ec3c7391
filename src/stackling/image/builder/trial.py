"""The test that every image passes before anybody sees it: it is booted as a server of a cloud would be.

QEMU, the metadata service and ssh all run confined, on a network of their own, and the disk is an overlay that is thrown
away. `try_out` asks for it; the rest runs inside.
"""

import contextlib
import http.server
import json
import os
import re
import secrets
import shlex
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from stackling.image.builder.console import heard
from stackling.image.builder.recipe import MIB, Recipe
from stackling.image.builder.run import run
from stackling.image.builder.work import Work, own

#: Commands this needs, and the Debian packages that have them.
TOOLS = {"qemu-system-x86_64": "qemu-system-x86", "ssh": "openssh-client"}
HOSTNAME = "trial"
_UEFI = Path("/usr/share/ovmf/OVMF.fd")
_PORT = 2222
_MAC = "52:54:00:12:34:56"
_GROWS_MIB = 1024
_MOST_CONSOLE, _MOST_SAID = 4 * MIB, MIB
# Amazon's tree beside OpenStack's, as servers of the cloud find it: cloud-init calls itself degraded where it is missing.
_EC2 = {
    "latest": b"meta-data/",
    "latest/meta-data": b"instance-id\nlocal-hostname",
    "latest/meta-data/instance-id": b"i-00000001",
    "latest/meta-data/local-hostname": HOSTNAME.encode(),
}
_COLOUR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_LEAST_MEMORY = 256  # MiB under OVMF
# Old systems know old algorithms only; nothing secret passes here.
_SSH = (
    *("-F", "none", "-o", "BatchMode=yes", "-o", "ConnectTimeout=20", "-o", "StrictHostKeyChecking=no"),
    *("-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", "IdentitiesOnly=yes"),
    *("-o", "HostKeyAlgorithms=+ssh-rsa", "-o", "PubkeyAcceptedAlgorithms=+ssh-rsa"),
    *("-o", "KexAlgorithms=+diffie-hellman-group14-sha1,diffie-hellman-group-exchange-sha1"),
    *("-o", "Ciphers=+aes128-cbc", "-o", "MACs=+hmac-sha1", "-p", str(_PORT)),
)


class Failed(Exception):
    """The image did not pass; the sentence says what it failed."""


def try_out(recipe: Recipe, work: Work, disk: Path, *, accel: str) -> None:
    """Boot `scratch/…/disk` (qcow2) and see that it does what an image must. Raises BuildError, Stopped."""
    slow = 1 if accel == "tcg" else 4
    with_key = recipe.cloud != "none"
    arguments: dict[str, Any] = {
        "place": str(work.scratch / "trial"),
        "disk": str(disk),
        "accel": accel,
        "memory": recipe.memory_mib,
        "login": recipe.login,
        "seconds": max(60, recipe.boot_seconds // slow),
        "with_key": with_key,
        "firmware": list(recipe.disk.boot) if recipe.kind == "bootstrap" else ["bios"],
        "tests": msgspec.to_builtins(recipe.tests),
    }
    (work.scratch / "trial").mkdir()
    own(work.scratch / "trial")
    work.say(70, f"booting the image as a test ({accel}, {recipe.memory_mib} MiB)")
    work.confined(
        [],
        "Booting the image as a test",
        call=("stackling.image.builder.trial:inside", arguments),
        seconds=recipe.boot_seconds * 3 + 1800,
        groups=("kvm",) if accel == "kvm" else (),
    )


# -- inside ------------------------------------------------------------------------------------------------------------


def _tell(text: str) -> None:
    os.write(1, f"test: {text}\n".encode())


def inside(
    place: str,
    disk: str,
    accel: str,
    memory: int,
    login: str,
    seconds: int,
    with_key: bool,
    firmware: Sequence[str],
    tests: Sequence[Mapping[str, str]],
) -> None:
    """Boot, look, shut down; then see that the other firmware finds its loader. Raises Failed."""
    home = Path(place)
    begun = time.monotonic()
    grown = home / "grown.qcow2"
    size = json.loads(run(["qemu-img", "info", "--output=json", "-f", "qcow2", disk]))["virtual-size"]
    key, public = _key(home)
    nonce = secrets.token_hex(16)
    documents = _documents(public, nonce)
    if "bios" in firmware or not firmware:
        _overlay(disk, grown, size + (_GROWS_MIB << 20))
        with _metadata_service(documents), _machine(home, grown, accel, memory, uefi=False) as guest:
            if with_key:
                _look(guest, login, key, nonce, size, tests, begun + seconds)
            else:
                guest.wait_for_console("login:", begun + seconds)
                for line in guest.lines():
                    if "Failed to start" in line:  # its owner may not mind
                        _tell(line)
            guest.power_off()
        grown.unlink()
    if "uefi" in firmware:
        if not _UEFI.exists():
            _tell("UEFI was not tested: this host has no OVMF (apt-get install ovmf)")
            return
        _overlay(disk, grown, size)
        with _machine(home, grown, accel, max(memory, _LEAST_MEMORY), uefi=True) as guest:
            guest.wait_for_console("Linux version", time.monotonic() + seconds)
            _tell("the kernel starts under UEFI")
    _tell(f"passed in {time.monotonic() - begun:.0f} s")


def _look(
    guest: "_Guest",
    login: str,
    key: Path,
    nonce: str,
    size: int,
    tests: Sequence[Mapping[str, str]],
    until: float,
) -> None:
    begun = time.monotonic()
    while (done := _ssh(login, key, "true")).returncode != 0:
        guest.must_run()
        if time.monotonic() > until:
            raise guest.failed(f"no login with the cloud's key as {login}: {done.stderr.strip()[-200:]}")
        time.sleep(1)
    _tell(f"ssh with the cloud's key as {login} after {time.monotonic() - begun:.0f} s")

    def eventually(what: str, command: str, wanted: str) -> None:
        last = ""
        while True:
            answer = _ssh(login, key, command)
            last = (answer.stdout + answer.stderr).strip()
            if answer.returncode == 0 and wanted in answer.stdout:
                _tell(what)
                return
            guest.must_run()
            if time.monotonic() > until:
                raise guest.failed(f"{what}: not so; {command!r} says: {last[-300:]}")
            time.sleep(2)

    eventually("the host name came from the metadata", "hostname", HOSTNAME)
    eventually("the user data ran", "cat /var/tmp/trial-nonce", nonce)
    # The image's own size in KiB, less what a file system takes for itself, is far below what it grew to.
    eventually(
        "the root file system has grown",
        f"test $(df -Pk / | awk 'NR == 2 {{print $2}}') -gt {size // 1024} && echo grown",
        "grown",
    )
    for test in tests:
        answer = _ssh(login, key, test["run"])
        said = (answer.stdout + answer.stderr).strip()
        if answer.returncode or test.get("prints", "") not in answer.stdout:
            raise Failed(
                f"the recipe's test {test['run']!r} ended with status {answer.returncode}: {said[-400:]}"
            )
        _tell(f"{test['run']!r}: {said[-100:]}")


def _ssh(login: str, key: Path, command: str) -> subprocess.CompletedProcess[str]:
    words = ["sh", "-c", command] if login == "root" else ["sudo", "-n", "sh", "-c", command]
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as trouble:
        done = subprocess.run(
            # A guest may say more than fits in memory.
            [
                *("sh", "-c", f'ulimit -f {_MOST_SAID // 512}; exec ssh "$@"', "ssh", "-i", str(key), *_SSH),
                *(f"{login}@127.0.0.1", shlex.join(words)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=trouble,
            timeout=600,
            check=False,
        )
        texts = []
        for file in (said, trouble):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
    return subprocess.CompletedProcess(done.args, done.returncode, *texts)


def _key(home: Path) -> tuple[Path, str]:
    """A key that old and new servers take."""
    made = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    file = home / "key"
    file.touch(mode=0o600)
    file.write_bytes(
        made.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
    )
    public = made.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    return file, f"{public.decode()} trial"


def _overlay(disk: str, out: Path, size: int) -> None:
    run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", disk, "-F", "qcow2", out, str(size)])


def _documents(public: str, nonce: str) -> dict[str, bytes]:
    """What the metadata service tells, by path below the version."""
    about = {
        "uuid": "5d0d3c6e-6f0c-4c0e-9a53-1f3f3a3c0b01",
        "name": HOSTNAME,
        "hostname": HOSTNAME,
        "public_keys": {"trial": public},
        "keys": [{"name": "trial", "type": "ssh", "data": public}],
        "meta": {},
    }
    network = {
        "links": [{"id": "nic", "type": "phy", "ethernet_mac_address": _MAC, "mtu": 1500}],
        "networks": [{"id": "net", "link": "nic", "type": "ipv4_dhcp", "network_id": "net"}],
        "services": [],
    }
    script = f"#!/bin/sh\nprintf %s {nonce} >/var/tmp/trial-nonce\n"
    return {
        "meta_data.json": json.dumps(about).encode(),
        "network_data.json": json.dumps(network).encode(),
        "vendor_data.json": b"{}",
        "vendor_data2.json": b"{}",
        "user_data": script.encode(),
    }


@contextlib.contextmanager
def _metadata_service(documents: Mapping[str, bytes]) -> Iterator[None]:
    """The metadata service on port 80 of loopback, which the guest sees as 169.254.169.254."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.strip("/")
            body = documents.get(path.rpartition("/")[2]) if path.startswith("openstack/") else _EC2.get(path)
            if path == "openstack":
                body = b"2018-08-27\nlatest"
            self.send_response(200 if body is not None else 404)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, format: str, *args: object) -> None:
            """The guest's questions are not worth a line each."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 80), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


class _Guest:
    """A running QEMU."""

    def __init__(self, process: "subprocess.Popen[bytes]", console: Path, control: Path) -> None:
        self.process, self.console, self.control = process, console, control

    def said(self) -> str:
        return self.console.read_text(errors="replace") if self.console.exists() else ""

    def lines(self) -> list[str]:
        """What the console said, without colours and blank lines."""
        return [plain for line in self.said().splitlines() if (plain := _COLOUR.sub("", line).strip())]

    def failed(self, why: str) -> Failed:
        """The error, once the console's end is in the log; the log's last line says why."""
        _tell("the console's end:\n" + "\n".join(self.lines()[-30:]))
        return Failed(why)

    def must_run(self) -> None:
        if self.process.poll() is not None:
            raise self.failed(f"QEMU ended with status {self.process.returncode}")

    def wait_for_console(self, text: str, until: float) -> None:
        while text not in self.said():
            self.must_run()
            if time.monotonic() > until:
                raise self.failed(f"{text!r} never appeared on the console")
            time.sleep(0.5)

    def power_off(self) -> None:
        """Press the power button, and wait."""
        begun = time.monotonic()
        with socket.socket(socket.AF_UNIX) as wire:
            wire.settimeout(30)
            wire.connect(str(self.control))
            said = wire.makefile("rb")
            said.readline()  # QMP greets first
            for command in ("qmp_capabilities", "system_powerdown"):
                wire.sendall(json.dumps({"execute": command}).encode())
                for line in said:  # events may come before the answer
                    if line.startswith((b'{"return"', b'{"error"')):
                        break
        try:
            self.process.wait(240)
        except subprocess.TimeoutExpired:
            raise self.failed("it does not shut down when the power button is pressed") from None
        _tell(f"clean shutdown in {time.monotonic() - begun:.0f} s")


@contextlib.contextmanager
def _machine(home: Path, disk: Path, accel: str, memory: int, *, uefi: bool) -> Iterator[_Guest]:
    """A machine like those of the cloud, on a network where there is only the metadata service and us."""
    console, control = home / f"console-{'uefi' if uefi else 'bios'}", home / "qmp"
    network = (
        "user,id=n0,net=169.254.169.0/24,host=169.254.169.254,dns=169.254.169.253,dhcpstart=169.254.169.15"
    )
    argv = [
        *("qemu-system-x86_64", "-M", "q35", "-accel", accel, "-m", str(memory), "-smp", "2"),
        *("-cpu", "host" if accel == "kvm" else "Nehalem", "-display", "none", "-nodefaults"),
        *("-no-user-config", "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny"),
        *("-smbios", "type=1,manufacturer=Stackling,product=OpenStack Compute"),
        *("-qmp", f"unix:{control},server=on,wait=off"),
        *(
            "-drive",
            f"file={disk},if=virtio,format=qcow2,cache=unsafe,werror=report",
            "-device",
            "virtio-rng-pci",
        ),
        *("-netdev", f"{network},hostfwd=tcp:127.0.0.1:{_PORT}-:22"),
        *("-device", f"virtio-net-pci,netdev=n0,mac={_MAC}"),
        *(("-bios", str(_UEFI)) if uefi else ()),
    ]
    with console.open("wb") as file, heard(file.fileno(), _MOST_CONSOLE) as serial:
        argv += ["-serial", f"file:{serial.qemu}"]
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, pass_fds=(serial.fd,))
        try:
            yield _Guest(process, console, control)
        finally:
            process.kill()
            process.wait()
