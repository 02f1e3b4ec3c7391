"""libvirtd and virtlogd with a configuration of our own, the operator's /etc/libvirt left as it is.

libvirtd gets a mount namespace in which our directory stands at /etc/libvirt, in which the account that its QEMU
driver insists on exists, and in which /dev/kvm cannot be
opened when KVM does not work: otherwise libvirt probes QEMU anew at every start of a domain, which takes a
minute each. Mounts made on the host later still reach it (propagation is slave, not private).
"""

import contextlib
import grp
import json
import pwd
import subprocess
import uuid
from pathlib import Path

from stackling.node.daemon import Daemon, executable

_UID = 64055  # libvirt-qemu's on every Debian (base-passwd); used by number where the account is missing

_DEVICES = [f"/dev/{name}" for name in ("null", "full", "zero", "random", "urandom", "ptmx", "userfaultfd")]

_ENTER = """set -e
mount --bind "$1" /etc/libvirt
if [ -e "$1/no-kvm" ] && [ -e /dev/kvm ]; then mount --bind "$1/no-kvm" /dev/kvm; fi
for file in passwd group; do
    if [ -e "$1/$file" ]; then mount --bind "$1/$file" "/etc/$file"; fi
done
shift
exec "$@"
"""


def virtlogd(directory: Path) -> Daemon:
    """virtlogd, which keeps the console logs of guests while libvirtd is away."""
    return Daemon(
        name="virtlogd",
        binary="virtlogd",
        package="libvirt-daemon",
        command=(
            "virtlogd",
            "--daemon",
            f"--config={directory}/virtlogd.conf",
            "--pid-file=/run/virtlogd.pid",
        ),
        pidfile=Path("/run/virtlogd.pid"),
        log=Path("/var/log/libvirt/virtlogd.log"),
        sockets=(Path("/run/libvirt/virtlogd-sock"), Path("/run/libvirt/virtlogd-admin-sock")),
        ask=lambda _: _virt_admin("virtlogd"),
        unit="virtlogd.service",
        prepare=lambda: _write(directory / "virtlogd.conf", _logs("virtlogd")),
    )


def libvirtd(directory: Path, *, host: str, kvm: bool) -> Daemon:
    """libvirtd for QEMU guests. `directory` takes its configuration and the definitions of its domains."""
    blind = directory / "no-kvm"

    def prepare() -> None:
        directory.mkdir(parents=True, exist_ok=True)
        Path("/etc/libvirt").mkdir(exist_ok=True)
        _write(directory / "libvirtd.conf", _libvirtd_conf(host))
        _write(directory / "qemu.conf", _qemu_conf(kvm))
        for name, text in _accounts().items():
            _write(directory / name, text) if text else (directory / name).unlink(missing_ok=True)
        if kvm:
            blind.unlink(missing_ok=True)
        else:
            _write(blind, "")
            blind.chmod(0)

    return Daemon(
        name="libvirtd",
        binary="libvirtd",
        package="libvirt-daemon libvirt-daemon-driver-qemu libvirt-clients",
        command=(
            *("unshare", "--mount", "--propagation", "slave"),
            *("/bin/sh", "-c", _ENTER, "libvirtd", str(directory)),
            "libvirtd",
            "--daemon",
            "--config=/etc/libvirt/libvirtd.conf",
            "--pid-file=/run/libvirtd.pid",
        ),
        pidfile=Path("/run/libvirtd.pid"),
        log=Path("/var/log/libvirt/libvirtd.log"),
        sockets=tuple(
            Path("/run/libvirt") / name for name in ("libvirt-sock", "libvirt-sock-ro", "libvirt-admin-sock")
        ),
        ask=lambda _: _libvirt_version(),
        unit="libvirtd.service",
        prepare=prepare,
        within=60.0,  # the first start asks every QEMU binary what it can do
    )


def guests(directory: Path = Path("/run/libvirt/qemu")) -> list[int]:
    """Process ids of the guests that run on this host, whether libvirtd runs or not."""
    found = []
    for path in directory.glob("*.pid"):
        with contextlib.suppress(OSError, ValueError):  # just ending
            pid = int(path.read_text().strip())
            if (executable(pid) or "").startswith("qemu"):  # libvirtd's own pidfiles stand there too
                found.append(pid)
    return found


def guest_owner(kvm: bool) -> tuple[str, str]:
    """User and group that QEMU runs as, as qemu.conf wants them: never root."""
    try:
        pwd.getpwnam("libvirt-qemu")
        user = "libvirt-qemu"
    except KeyError:
        user = f"+{_UID}"
    for group in ("kvm",) if kvm else ("libvirt-qemu",):
        try:
            grp.getgrnam(group)
            return user, group
        except KeyError:
            pass
    return user, f"+{_UID}"


def _accounts() -> dict[str, str]:
    """What libvirtd shall see as /etc/passwd and /etc/group; empty where the host's own will do.

    Its QEMU driver does not start without the account libvirt-qemu, whatever qemu.conf says, and that account
    comes with a package that would start a libvirtd of its own.
    """
    entries = {"passwd": f"libvirt-qemu:x:{_UID}:{_UID}::/var/lib/libvirt:/usr/sbin/nologin\n"}
    entries["group"] = f"libvirt-qemu:x:{_UID}:\n"
    seen = {}
    for name, entry in entries.items():
        have = Path("/etc", name).read_text()
        seen[name] = "" if have.startswith("libvirt-qemu:") or "\nlibvirt-qemu:" in have else have + entry
    return seen


def _qemu_conf(kvm: bool) -> str:
    user, group = guest_owner(kvm)
    return (
        f'user = "{user}"\n'
        f'group = "{group}"\n'
        # Extended attributes with a count of users go wrong when a host loses power.
        "remember_owner = 0\n"
        "max_core = 0\n"
        # The default list without kvm, rtc and hpet: a device that is a mount, as /dev/kvm is when hidden,
        # breaks the private /dev that libvirt makes for each guest.
        + ("" if kvm else f"cgroup_device_acl = {json.dumps(_DEVICES)}\n")
        # Without systemd nobody owns the cgroup tree, and libvirt's own groups would stay behind.
        + ("" if Path("/run/systemd/system").is_dir() else "cgroup_controllers = []\n")
    )


def _libvirtd_conf(host: str) -> str:
    try:
        machine = Path("/etc/machine-id").read_text().strip()
    except OSError:
        machine = ""
    return (
        f'host_uuid = "{uuid.uuid5(uuid.NAMESPACE_DNS, f"{host}.{machine}.stackling")}"\n'
        'unix_sock_ro_perms = "0700"\n'
        'unix_sock_rw_perms = "0700"\n'
        'auth_unix_ro = "none"\n'
        'auth_unix_rw = "none"\n'
    ) + _logs("libvirtd")


def _logs(name: str) -> str:
    return f'log_outputs = "3:file:/var/log/libvirt/{name}.log"\n'


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.fresh")
    fresh.write_text(text)
    fresh.replace(path)


def _run(*command: str) -> str:
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10, check=False
    )
    if done.returncode != 0:
        raise ValueError(done.stderr.strip() or f"{command[0]} ended with status {done.returncode}")
    return done.stdout


def _libvirt_version() -> str:
    printed = _run("virsh", "--connect", "qemu:///system", "version", "--daemon")
    return next(
        line.rsplit(" ", 1)[1] for line in printed.splitlines() if line.startswith("Running against daemon")
    )


def _virt_admin(name: str) -> str:
    _run("virt-admin", "--connect", f"{name}:///system", "srv-list")
    return _run(name, "--version").strip().rsplit(" ", 1)[1]
