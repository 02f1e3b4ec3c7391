"""A virtual machine for work on what nobody here vouches for: disks of strangers, and commands of tenants.

It is the tiny image, which does what a script says to the disks it is given, says how it went, and powers itself off. It
has no network. `carry_out` is called confined (`confine`), so that QEMU is nobody on the host as well, and ends with the build.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from stackling.image.builder import trial
from stackling.image.builder.console import heard
from stackling.image.builder.micro.build import build_ready_image
from stackling.image.builder.recipe import MIB
from stackling.image.builder.run import BuildError, run
from stackling.image.builder.work import Work, own

#: Commands this needs, and the Debian packages that have them.
TOOLS = {"mcopy": "mtools", "mkfs.vfat": "dosfstools", "qemu-img": "qemu-utils", **trial.TOOLS}
_MOST_SAID = 16 * MIB
_MARK = "RESULT:"
_PORT = "stackling.log"

# The port can be opened once only, so everything that the script starts has it from here.
_BEGIN = f"""#!/bin/sh
export PATH=/usr/bin:/usr/sbin
port=
until [ -n "$port" ]; do
    for known in /sys/class/virtio-ports/*; do
        [ "$(cat "$known/name" 2>/dev/null)" = {_PORT} ] && port=/dev/${{known##*/}}
    done
    usleep 50000
done
exec >"$port" 2>&1
end() {{ echo; echo "{_MARK} $*"; sync; poweroff -f; exit; }}
mkdir -p /target
"""


class Drive(Struct, frozen=True):
    """A disk that the machine sees, from /dev/vdb on in their order. `format` is raw or qcow2."""

    path: str
    format: str = "raw"
    readonly: bool = False


def prepare(work: Work) -> None:
    """Have the machine's own disk in the scratch directory. Raises BuildError, Stopped."""
    tiny = build_ready_image(
        work.cache / "micro" / "ready.qcow2",
        cache=work.cache / "micro" / "cache",
        progress=lambda says: work.say(10, says),
    )
    disk = work.scratch / "machine.qcow2"
    shutil.copyfile(tiny.path, disk)
    own(disk)


def carry_out(home: Path, script: str, drives: Sequence[Drive], *, accel: str, memory: int) -> str:
    """Run a shell script in the machine until it calls `end "ok: TEXT"`, or `end WHY`; returns the text. `memory` in MiB.

    What the script prints goes to standard output. Raises BuildError with WHY. `home` is the scratch directory.
    """
    drive = home / "drive"
    (home / "meta_data.json").write_text(json.dumps({"uuid": "machine", "hostname": "build"}))
    (home / "user_data").write_text(_BEGIN + script)
    run(["mkfs.vfat", "-C", "-n", "config-2", drive, "8192"])
    run(["mmd", "-i", drive, "::/openstack", "::/openstack/latest"])
    for name in ("meta_data.json", "user_data"):
        run(["mcopy", "-i", drive, home / name, f"::/openstack/latest/{name}"])
    disks = [Drive(str(home / "machine.qcow2"), "qcow2"), *drives, Drive(str(drive), readonly=True)]
    with heard(None, 0) as console, heard(sys.stdout.fileno(), _MOST_SAID) as log:
        # Left to itself TCG keeps a GiB of what it has translated.
        kind = "tcg,tb-size=256" if accel == "tcg" else accel
        argv = [
            *("qemu-system-x86_64", "-M", "q35", "-accel", kind, "-m", str(memory), "-smp", "2"),
            *("-cpu", "host" if accel == "kvm" else "Nehalem", "-display", "none", "-nodefaults"),
            *("-no-reboot", "-no-user-config", "-nic", "none", "-device", "virtio-rng-pci"),
            *("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny"),
            *("-serial", f"file:{console.qemu}", "-device", "virtio-serial-pci"),
            *("-chardev", f"file,id=log,path={log.qemu}"),
            *("-device", f"virtserialport,chardev=log,name={_PORT}"),
        ]
        for disk in disks:
            # A full host is the guest's trouble: QEMU would wait for room.
            mode = "readonly=on" if disk.readonly else "cache=unsafe,werror=report"
            argv += ["-drive", f"file={disk.path},if=virtio,format={disk.format},{mode}"]
        ports = (console.fd, log.fd)
        status = subprocess.run(argv, stdin=subprocess.DEVNULL, pass_fds=ports, check=False).returncode
    marks = [line[len(_MARK) :].strip() for line in log.last.splitlines() if line.startswith(_MARK)]
    if status or not marks:
        lines = [line.strip() for line in (log.last + console.last).splitlines() if line.strip()]
        end = " | ".join(lines[-3:])[-400:]
        raise BuildError(f"the virtual machine ended with status {status} before its work was done: {end}")
    if not marks[-1].startswith("ok: "):
        raise BuildError(marks[-1][:400])
    return marks[-1][len("ok: ") :]
