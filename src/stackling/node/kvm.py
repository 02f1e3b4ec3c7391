"""Does KVM work here? `/dev/kvm` opening and even creating a virtual CPU prove nothing.

On hosts that are guests themselves, every ioctl may succeed while no real guest ever runs; so a guest is
booted: sixteen bytes of a boot sector that leave QEMU with status 33, through SeaBIOS, which is the real test.
"""

import os
import subprocess
import tempfile
from pathlib import Path

import msgspec

# cli; mov dx,0x501; mov al,0x10; out dx,al; hlt; jmp $-1: isa-debug-exit ends QEMU with (0x10 << 1) | 1.
_BOOT_SECTOR = bytes.fromhex("fa ba 01 05 b0 10 ee f4 eb fd").ljust(510, b"\0") + b"\x55\xaa"
_EXIT = 33
_SECONDS = 3.0


class Kvm(msgspec.Struct, frozen=True):
    """Whether guests may use KVM on this host, and the sentence that tells an operator why."""

    usable: bool
    why: str


def probe(
    cache: Path = Path("/run/stackling/kvm.json"),
    *,
    device: Path = Path("/dev/kvm"),
    cpuinfo: Path = Path("/proc/cpuinfo"),
    emulator: str = "qemu-system-x86_64",
    seconds: float = _SECONDS,
) -> Kvm:
    """Tell whether KVM is usable: CPU flag first, then a boot of at most `seconds`; once per boot of the host.

    The answer is kept in `cache`, with the boot's id; a cache that can't be read or written is only slower.
    """
    boot = _boot_id()
    known = _read(cache, boot)
    if known is not None:
        return known
    answer = _look(device, cpuinfo, emulator, seconds)
    _write(cache, boot, answer)
    return answer


def _look(device: Path, cpuinfo: Path, emulator: str, seconds: float) -> Kvm:
    flags = {word for line in _lines(cpuinfo) if line.startswith("flags") for word in line.split()}
    if not flags & {"vmx", "svm"}:
        return Kvm(
            False,
            "the CPU shows no hardware virtualisation (no vmx or svm flag): switch it on in the firmware, or "
            "nested virtualisation if this host is itself a guest; until then guests run under TCG",
        )
    if not device.exists():
        return Kvm(False, f"{device} does not exist: load the module with `modprobe kvm_intel` or `kvm_amd`")
    if not os.access(device, os.R_OK | os.W_OK):
        return Kvm(False, f"{device} cannot be opened by uid {os.geteuid()}: run as root or join group kvm")
    with tempfile.NamedTemporaryFile(suffix=".img") as image:
        image.write(_BOOT_SECTOR)
        image.flush()
        command = [emulator, "-accel", "kvm", "-M", "pc", "-m", "16", "-nodefaults", "-display", "none"]
        command += ["-no-reboot", "-device", "isa-debug-exit"]
        command += ["-drive", f"file={image.name},format=raw,if=floppy"]
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                timeout=seconds,
                check=False,
            )
        except FileNotFoundError:
            return Kvm(False, f"{emulator} is not installed: apt-get install qemu-system-x86")
        except subprocess.TimeoutExpired:  # run() has sent SIGKILL
            return Kvm(
                False,
                f"a test guest did not boot under KVM within {seconds:g} s although {device} opens: nested "
                "virtualisation is broken on this host; guests run under TCG",
            )
    if done.returncode == _EXIT:
        return Kvm(True, "a test guest booted under KVM")
    said = done.stderr.decode(errors="replace").strip().splitlines()
    return Kvm(False, f"QEMU refuses KVM: {said[-1] if said else f'exit status {done.returncode}'}")


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def _boot_id() -> str:
    return "".join(_lines(Path("/proc/sys/kernel/random/boot_id")))


class _Cached(msgspec.Struct):
    boot: str
    kvm: Kvm


def _read(cache: Path, boot: str) -> Kvm | None:
    try:
        kept = msgspec.json.decode(cache.read_bytes(), type=_Cached)
    except (OSError, msgspec.MsgspecError):
        return None
    return kept.kvm if kept.boot == boot else None


def _write(cache: Path, boot: str, answer: Kvm) -> None:
    fresh = cache.with_name(f"{cache.name}.{os.getpid()}")
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_bytes(msgspec.json.encode(_Cached(boot, answer)))
        fresh.replace(cache)
    except OSError:
        fresh.unlink(missing_ok=True)
