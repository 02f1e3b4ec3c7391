"""Makes an existing disk image cloud-aware, without starting it and without the host reading what is in it.

A small virtual machine (`machine.py`) mounts the disk, and puts the agent in (or tells a cloud-init that is there where to
look). Whatever the disk holds, a broken file system or a hostile one, only that machine meets it.
"""

import base64
import shutil
import sys
from pathlib import Path

from stackling.image.builder import machine, trial
from stackling.image.builder.agent import HOME, agent_files
from stackling.image.builder.debian import CLOUD_INIT
from stackling.image.builder.disk import compress
from stackling.image.builder.machine import Drive
from stackling.image.builder.recipe import Recipe
from stackling.image.builder.run import BuildError, require
from stackling.image.builder.work import Work, own
from stackling.image.inspection import InspectionError, Inspector

_SECONDS = 900.0
_MEMORY = 256  # MiB


def cloudify(source: Path, work: Work, *, login: str = "root", accel: str = "tcg", test: bool = True) -> Path:
    """The cloud-aware copy of a disk image (raw or qcow2), as `work.directory/image.qcow2`.

    Raises BuildError saying why the image can't be used, or what its test found; Stopped.
    """
    require(machine.TOOLS)
    kind = inspected(source)
    work.begin()
    try:
        work.say(5, f"copying {source.name} ({kind})")
        target = work.scratch / f"target.{kind}"
        shutil.copyfile(source, target)
        own(target)
        machine.prepare(work)
        work.say(30, "opening the image in a virtual machine")
        arguments = {
            "place": str(work.scratch),
            "target": str(target),
            "kind": kind,
            "script": _script(login),
            "accel": accel,
        }
        work.confined(
            [],
            "Opening the image",
            call=("stackling.image.builder.cloudify:inside", arguments),
            seconds=_SECONDS,
            groups=("kvm",) if accel == "kvm" else (),
        )
        made = work.scratch / "disk.qcow2"
        if test:
            about = Recipe(
                name="cloudified", kind="micro", login=login, cloud="agent", memory_mib=512, boot_seconds=2400
            )
            trial.try_out(about, work, made, accel=accel)
        image = work.directory / "image.qcow2"
        made.replace(image)
        work.say(100, "done")
        return image
    except BuildError as e:
        work.say_last(f"failed: {e}")
        raise
    finally:
        work.end()


def inspected(source: Path) -> str:
    """The format of an image that can be opened safely. Raises BuildError."""
    with source.open("rb") as file:
        head = file.read(4)
        kind = "qcow2" if head == b"QFI\xfb" else "raw"
        inspector = Inspector(kind)
        file.seek(0)
        try:
            while chunk := file.read(1 << 20):
                inspector.write(chunk)
            inspector.finish()
        except InspectionError as e:
            raise BuildError(f"{source.name}: {e.reason}") from None
    return kind


def _script(login: str) -> str:
    """What the virtual machine does."""
    lines = [
        "disk=/dev/vdb; root=",
        # The root file system is the one that has users and something to start with.
        f"for part in {' '.join(f'${{disk}}{n}' for n in ['', *range(1, 16)])}; do",
        '    [ -b "$part" ] || continue',
        '    mount -t ext4 -o rw "$part" /target 2>/dev/null || continue',
        "    if [ -f /target/etc/passwd ] && [ -d /target/etc ] && { [ -e /target/sbin/init ] || [ -L /target/sbin/init ] || [ -e /target/usr/sbin/init ]; }; then root=$part; break; fi",
        "    umount /target",
        "done",
        '[ -n "$root" ] || end "failed: no partition has an ext2, ext3 or ext4 file system with a system on it"',
        # cloud-init knows the config drive and this service in all versions since 0.7.
        "new=$(chroot /target sh -c 'cloud-init --version 2>&1' 2>/dev/null | sed 's/^[^0-9]*//; s/[^0-9].*//')",
        'if [ "${new:-0}" -ge 17 ]; then',
        "    mkdir -p /target/etc/cloud/cloud.cfg.d",
        f"    echo {_encoded(CLOUD_INIT)} | base64 -d >/target/etc/cloud/cloud.cfg.d/90-stackling.cfg",
        "    rm -rf /target/var/lib/cloud/instance /target/var/lib/cloud/instances /target/etc/cloud/cloud-init.disabled",
        "    [ ! -e /target/etc/machine-id ] || : >/target/etc/machine-id",
        "    rm -f /target/etc/ssh/ssh_host_*key*",
        '    umount /target && end "ok: its own cloud-init on $root"',
        "fi",
    ]
    for file in agent_files(login):
        lines += [
            f"mkdir -p /target{Path(file.path).parent}",
            f"echo {_encoded(file.content)} | base64 -d >/target{file.path}",
            f"chmod {file.mode} /target{file.path}",
        ]
    lines += [
        "for place in dev proc; do [ -d /target/$place ] && mount -o bind /$place /target/$place; done",
        f'said=$(chroot /target /bin/sh {HOME}/install 2>&1) || end "failed: $said"',
        "umount /target/dev /target/proc 2>/dev/null",
        "[ ! -e /target/etc/machine-id ] || : >/target/etc/machine-id",
        'umount /target || mount -o remount,ro /target; end "ok: the agent on $root"',
    ]
    return "\n".join(lines) + "\n"


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def inside(place: str, target: str, kind: str, script: str, accel: str) -> None:
    """Run the machine until it powers itself off, then write the compressed image (run confined). Raises BuildError."""
    home = Path(place)
    done = machine.carry_out(home, script, [Drive(target, kind)], accel=accel, memory=_MEMORY)
    sys.stdout.write(f"{done}\n")
    compress(target, str(home / "disk.qcow2"), kind)
