"""Images made by a distribution's own installer, which runs in QEMU and finds its answers already given.

The installation medium is fetched and checked; kernel and initial RAM disk are taken out of it and started directly, so
that no menu is waited for. When the machine powers itself off, its disk is the image.
"""

import hashlib
import shutil
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

from stackling.image import download
from stackling.image.builder.confine import Stopped
from stackling.image.builder.limits import Limits
from stackling.image.builder.micro.cpio import write_initrd
from stackling.image.builder.recipe import MIB, Installer, Recipe
from stackling.image.builder.run import BuildError, run
from stackling.image.builder.work import Work, link

#: Commands this needs, and the Debian packages that have them.
TOOLS = {"qemu-img": "qemu-utils", "qemu-system-x86_64": "qemu-system-x86", "xorriso": "xorriso"}
_FETCH_SECONDS = 60.0


def install(recipe: Recipe, work: Work, *, accel: str = "tcg") -> None:
    """Have the installed disk as `scratch/disk.raw`. Raises BuildError, Stopped."""
    want = recipe.installer
    assert want is not None
    medium = _medium(want, work)
    arguments: dict[str, Any] = {
        "place": str(work.scratch),
        "medium": str(medium),
        "kernel": want.kernel,
        "initrd": want.initrd,
        "arguments": want.arguments,
        "preseed": want.preseed,
        "autoinstall": want.autoinstall,
        "memory": want.memory_mib,
        "disk_mib": recipe.disk.size_mib,
        "accel": accel,
    }
    work.say(20, "running the installer")
    # The installer fetches from its mirrors, so it is on the host's network, as QEMU's users are: behind an address of its
    # own. A tenant's would reach there what the host reaches; it finds a network without anybody.
    work.confined(
        [],
        "Running the installer",
        call=("stackling.image.builder.installer:inside", arguments),
        seconds=want.minutes * 60.0,
        network=work.limits is None,
        groups=("kvm",) if accel == "kvm" else (),
    )


def _medium(want: Installer, work: Work) -> Path:
    """The checked installation medium, kept in the cache by its digest."""
    if work.limits is not None:
        return _tenants_medium(want, work, work.limits)
    kept = work.cache / "media" / want.sha256
    kept.parent.mkdir(parents=True, exist_ok=True)
    if not kept.exists():
        work.say(5, f"fetching {want.iso}")
        new = kept.with_suffix(".part")
        try:
            if want.iso.startswith("/"):
                shutil.copyfile(want.iso, new)
            else:
                with (
                    urllib.request.urlopen(want.iso, timeout=_FETCH_SECONDS) as source,
                    new.open("wb") as out,
                ):
                    while chunk := source.read(MIB):
                        if work.stop():
                            raise Stopped
                        out.write(chunk)
            with new.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            if digest != want.sha256:
                raise BuildError(f"installer.sha256: {want.iso} has {digest}")
            new.replace(kept)
        except OSError as e:
            raise BuildError(f"installer.iso: {want.iso} can't be read: {e}") from None
        finally:
            new.unlink(missing_ok=True)
    own_copy = work.scratch / "medium.iso"
    link(kept, own_copy)
    return own_copy


def _tenants_medium(want: Installer, work: Work, limits: Limits) -> Path:
    """The checked medium, from where users may have the cloud fetch. What others fetched is not a tenant's to have."""
    file, digest, left = work.scratch / "medium.iso", hashlib.sha256(), limits.disk_mib * MIB
    work.say(5, f"fetching {want.iso}")
    try:
        with download.fetch(want.iso, limits.media) as body, file.open("wb") as out:
            for chunk in body.chunks:
                left -= len(chunk)
                if left < 0:
                    raise BuildError(f"installer.iso: it is larger than this cloud's {limits.disk_mib} MiB")
                if work.stop():
                    raise Stopped
                digest.update(chunk)
                out.write(chunk)
    except download.Refused as e:
        raise BuildError(f"installer.iso: {e.says}") from None
    if digest.hexdigest() != want.sha256:
        raise BuildError(f"installer.sha256: {want.iso} has {digest.hexdigest()}")
    return file


def inside(
    place: str,
    medium: str,
    kernel: str,
    initrd: str,
    arguments: str,
    preseed: str | None,
    autoinstall: str | None,
    memory: int,
    disk_mib: int,
    accel: str,
) -> None:
    """Run the installer until it powers its machine off (run confined). Raises BuildError."""
    home = Path(place)
    for path, name in ((kernel, "kernel"), (initrd, "initrd")):
        run(["xorriso", "-osirrox", "on", "-indev", medium, "-extract", path, home / name])
        (home / name).chmod(0o644)
    if preseed is not None:
        # Later archives are laid over earlier ones (Linux, Documentation/driver-api/early-userspace/buffer-format.rst).
        answers = home / "answers"
        answers.mkdir()
        (answers / "preseed.cfg").write_text(preseed)
        write_initrd(answers, home / "answers.cpio")
        data = (home / "initrd").read_bytes()
        (home / "initrd").write_bytes(data + bytes(-len(data) % 4) + (home / "answers.cpio").read_bytes())
    media = [medium]
    if autoinstall is not None:
        seed = home / "seed"
        seed.mkdir()
        (seed / "user-data").write_text(autoinstall)
        (seed / "meta-data").write_text("")
        run(
            ["xorriso", "-as", "mkisofs", "-quiet", "-V", "CIDATA", "-J", "-r", "-o", home / "seed.iso", seed]
        )
        media.append(str(home / "seed.iso"))
    run(["qemu-img", "create", "-q", "-f", "raw", home / "disk.raw", f"{disk_mib}M"])
    argv = [
        *("qemu-system-x86_64", "-M", "q35", "-accel", accel, "-m", str(memory), "-smp", "2"),
        *("-cpu", "host" if accel == "kvm" else "Nehalem", "-display", "none", "-nodefaults", "-no-reboot"),
        *("-no-user-config", "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny"),
        *("-kernel", str(home / "kernel"), "-initrd", str(home / "initrd"), "-append", arguments),
        *("-drive", f"file={home / 'disk.raw'},if=virtio,format=raw,cache=unsafe"),
        *("-netdev", "user,id=n0", "-device", "virtio-net-pci,netdev=n0", "-device", "virtio-rng-pci"),
        *("-serial", "stdio"),
    ]
    for number, file in enumerate(media):
        argv += ["-drive", f"file={file},if=none,id=cd{number},media=cdrom,readonly=on,format=raw"]
        argv += ["-device", f"ide-cd,bus=ide.{number},drive=cd{number}"]
    status = subprocess.run(argv, stdin=subprocess.DEVNULL, check=False).returncode
    if status:
        raise BuildError(f"QEMU ended with status {status}")
    with (home / "disk.raw").open("rb") as disk:
        if not any(disk.read(MIB)):
            raise BuildError("the installer ended without having written to the disk")
