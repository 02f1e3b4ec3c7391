"""The config drive: an ISO 9660 image labelled config-2 with the guest's documents, made by xorriso."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from stackling.compute.driver import DomainFailed, GuestData, HostUnavailable
from stackling.compute.drivers.guest_documents import drive_files

LABEL = "config-2"
TIMEOUT = 30.0


def write_config_drive(target: Path, data: GuestData) -> None:
    """Make the drive at `target`, replacing what is there.

    HostUnavailable: no space or no time. DomainFailed: the host has neither xorriso nor genisoimage.
    """
    tool = shutil.which("xorriso") or shutil.which("genisoimage")
    if tool is None:
        raise DomainFailed("A config drive needs xorriso on the host: apt-get install xorriso")
    mkisofs = [tool, "-as", "mkisofs"] if tool.endswith("xorriso") else [tool]
    try:
        with tempfile.TemporaryDirectory(prefix=".config-", dir=target.parent) as scratch:
            tree, part = Path(scratch, "tree"), Path(scratch, "drive.iso")
            for name, content in drive_files(data).items():
                file = tree / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
            command = [*mkisofs, "-quiet", "-R", "-J", "-V", LABEL, "-o", str(part), str(tree)]
            done = subprocess.run(
                command, capture_output=True, timeout=TIMEOUT, stdin=subprocess.DEVNULL, check=False
            )
            if done.returncode != 0:
                reason = done.stderr.decode(errors="replace").strip()[-300:]
                raise HostUnavailable(f"xorriso could not write the config drive: {reason}")
            part.chmod(0o600)
            part.rename(target)
    except subprocess.TimeoutExpired as error:
        raise HostUnavailable(f"xorriso did not finish the config drive in {TIMEOUT:.0f} s") from error
    except OSError as error:
        raise HostUnavailable(f"The config drive could not be written: {error}") from error
