"""Facts of this host for `stackling doctor`: each finding says what is so, and what to do when it is wrong."""

import os
import shutil
import socket
import stat
import subprocess
import time
from enum import StrEnum
from pathlib import Path

import msgspec

from stackling.node import chassis, kvm
from stackling.node.daemon import executable

_PACKAGES = {
    "openvswitch-switch": "ovs-vswitchd",
    "ovn-central": "ovn-northd",
    "ovn-host": "ovn-controller",
    "libvirt-daemon": "libvirtd",
    "libvirt-clients": "virsh",
    "qemu-system-x86": "qemu-system-x86_64",
    "qemu-utils": "qemu-img",
    "iproute2": "ip",
    "nftables": "nft",
}
_QEMU_DRIVER = "libvirt/connection-driver/libvirt_driver_qemu.so"
_MIB = 1 << 20


class Severity(StrEnum):
    """How much a finding that is not ok matters."""

    ERROR = "error"  # the cloud can't work
    WARNING = "warning"  # it works, slower or with less
    NOTE = "note"


class Finding(msgspec.Struct, frozen=True):
    """One fact: `says` states it, `do` tells the operator what to do, empty when ok."""

    name: str
    ok: bool
    severity: Severity
    says: str
    do: str = ""


def findings(run_dir: Path, state_dir: Path, ports: dict[str, int] | None = None) -> list[Finding]:
    """Every finding about the host itself. `ports` are the TCP ports that the cloud wants to listen on."""
    host = [root(), virtualisation(run_dir), openvswitch(), *hypervisor(run_dir), *kernel(), packages()]
    return [*host, disk(state_dir), memory(), *listening(ports or {}), clock(), *stale(), *firewall()]


def root() -> Finding:
    """Daemons, namespaces and bridges need root."""
    ok = os.geteuid() == 0
    return Finding("root", ok, Severity.ERROR, f"runs as uid {os.geteuid()}", "" if ok else "run it as root")


def virtualisation(run_dir: Path) -> Finding:
    """KVM, proven by a boot."""
    found = kvm.probe(run_dir / "kvm.json")
    do = "" if found.usable else "mend it for speed; guests run without it, about ten times slower"
    return Finding("kvm", found.usable, Severity.WARNING, found.why, do)


def hypervisor(run_dir: Path, pidfile: Path = Path("/run/libvirtd.pid")) -> list[Finding]:
    """A libvirtd that sees a KVM which does not work probes QEMU anew at every start of a guest."""
    try:
        pid = int(pidfile.read_text().strip())
        sees = stat.S_ISCHR(Path(f"/proc/{pid}/root/dev/kvm").stat().st_mode)
    except (OSError, ValueError):
        return []  # no libvirtd, or no device
    if not sees or kvm.probe(run_dir / "kvm.json").usable:
        return []
    says = "the running libvirtd, not started by Stackling, sees a /dev/kvm that does not work: guests start slowly"
    do = "run: systemctl disable --now libvirtd.socket libvirtd.service; stackling up"
    return [Finding("libvirtd", False, Severity.WARNING, says, do)]


def openvswitch() -> Finding:
    """Which datapath Open vSwitch uses."""
    ok = chassis.datapath() == "system"
    says = (
        "the kernel has Open vSwitch"
        if ok
        else "the kernel has no Open vSwitch: the userspace datapath serves"
    )
    do = "" if ok else "nothing needed; for more throughput use a kernel with CONFIG_OPENVSWITCH"
    return Finding("openvswitch", ok, Severity.NOTE, says, do)


def kernel() -> list[Finding]:
    """Network namespaces and tap devices. Geneve needs nothing of the kernel on the userspace datapath."""
    wants = {
        "network namespaces": (Path("/proc/self/ns/net"), "use a kernel with CONFIG_NET_NS"),
        "tap devices": (
            Path("/dev/net/tun"),
            "run: modprobe tun (CONFIG_TUN); in a container pass /dev/net/tun in",
        ),
    }
    found: list[Finding] = []
    for name, (path, do) in wants.items():
        ok = path.exists()
        says = f"{path} {'exists' if ok else 'does not exist'}"
        found.append(Finding(name, ok, Severity.ERROR, says, "" if ok else do))
    return found


def packages() -> Finding:
    """The programs of other packages that the node runs, in one finding."""
    missing = [package for package, program in _PACKAGES.items() if shutil.which(program) is None]
    if not list(Path("/usr/lib").glob(f"*/{_QEMU_DRIVER}")) and not Path("/usr/lib64", _QEMU_DRIVER).exists():
        missing.append("libvirt-daemon-driver-qemu")
    says = f"missing: {', '.join(missing)}" if missing else "all needed packages are installed"
    do = f"run: apt-get install {' '.join(missing)}" if missing else ""
    return Finding("packages", not missing, Severity.ERROR, says, do)


def disk(state_dir: Path, least: int = 5 * 1024) -> Finding:
    """Free space, in MiB, where images and disks go."""
    place = state_dir
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free // _MIB
    ok = free >= least
    do = "" if ok else f"free some, or put the cloud's data elsewhere: at least {least} MiB"
    return Finding(
        "disk", ok, Severity.WARNING if free > 512 else Severity.ERROR, f"{free} MiB free at {place}", do
    )


def memory(least: int = 1024) -> Finding:
    """Memory, in MiB, that guests can have."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    values = {line.split(":")[0]: int(line.split()[1]) // 1024 for line in lines}
    free = values["MemAvailable"]
    ok = free >= least
    says = f"{free} of {values['MemTotal']} MiB available"
    return Finding("memory", ok, Severity.WARNING, says, "" if ok else "end other programs, or add memory")


def listening(ports: dict[str, int]) -> list[Finding]:
    """Whether the ports that the cloud listens on are free, or held by the cloud itself."""
    found: list[Finding] = []
    for name, port in ports.items():
        holder = _holder(port)
        ok = holder is None or holder.startswith(("python", "stackling"))
        says = f"TCP port {port} is {f'held by {holder}' if holder else 'free'}"
        do = "" if ok else "stop that program, or give the cloud another port in its configuration"
        found.append(Finding(f"port of {name}", ok, Severity.ERROR, says, do))
    return found


def clock() -> Finding:
    """Tokens and certificates need a clock that is roughly right; the youngest package tells the least it can be."""
    newest = max((path.stat().st_mtime for path in Path("/var/lib/dpkg").glob("status*")), default=0.0)
    behind = newest - time.time()
    ok = behind < 60
    says = "is plausible" if ok else f"is at least {behind:.0f} s behind the last package installation"
    do = "" if ok else "set it: timedatectl set-ntp true, or apt-get install chrony"
    return Finding("clock", ok, Severity.ERROR, says, do)


def stale() -> list[Finding]:
    """Pidfiles whose process is gone: `stackling up` clears them, so each is only a note."""
    found: list[Finding] = []
    for directory in (Path("/run/openvswitch"), Path("/run/ovn"), Path("/run")):
        names = ("libvirtd.pid", "virtlogd.pid") if directory == Path("/run") else ("*.pid",)
        for path in sorted(file for pattern in names for file in directory.glob(pattern)):
            try:
                pid = int(path.read_text().strip())
            except (OSError, ValueError):
                continue  # just being written
            if executable(pid) is None:
                says = f"{path} names process {pid}, which is gone"
                found.append(Finding("stale pidfile", False, Severity.NOTE, says, "run: stackling up"))
    return found


def firewall() -> list[Finding]:
    """Chains of other programs that drop forwarded traffic, and with it that of guests to the outside."""
    try:
        done = subprocess.run(["nft", "-j", "list", "chains"], capture_output=True, check=False, timeout=10)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return []  # packages() says so
    if done.returncode != 0:
        return []
    entries = [entry.get("chain", {}) for entry in msgspec.json.decode(done.stdout)["nftables"]]
    return [
        Finding(
            "firewall",
            False,
            Severity.WARNING,
            f"chain {one['name']} of table {one['family']} {one['table']} drops forwarded traffic by default",
            "let the traffic of the external networks' bridges pass in that chain, or guests don't reach the outside",
        )
        for one in entries
        if one.get("hook") == "forward" and one.get("policy") == "drop"
    ]


def _holder(port: int) -> str | None:
    """Name of the program that listens on a TCP port of this host, None when it is free."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))
        except OSError:
            pass
        else:
            return None
    inodes = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and int(fields[1].rsplit(":", 1)[1], 16) == port:
                inodes.add(f"socket:[{fields[9]}]")
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(os.readlink(link) in inodes for link in (process / "fd").iterdir()):
                return executable(int(process.name)) or "a program"
        except OSError:
            continue  # ended meanwhile
    return "another program"
