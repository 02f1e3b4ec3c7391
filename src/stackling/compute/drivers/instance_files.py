"""A domain's own files on its host: its description, root disk, local disks, config drive, console.

<state>/images/<image id>                base images, see `image.cache`
<state>/instances/<domain id>/           0711: QEMU's user passes through, others see no names
    domain.json                          the description, 0600: it holds user data
    root.qcow2  rescue.qcow2  disk.vdb  config.iso
    console.log  password  stopped
<run>/instances/<domain id>/             console.sock, agent.sock
"""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import msgspec
import structlog

from stackling.compute.driver import Domain, DomainFailed, HostUnavailable, LocalDisk, Stopped
from stackling.compute.drivers.config_drive import write_config_drive
from stackling.compute.drivers.domain_xml import Files
from stackling.image import qemu_img
from stackling.image.cache import ImageRef

log = structlog.get_logger(__name__)

GIB, MIB = 1 << 30, 1 << 20
CONSOLE_BYTES = 100 * 1024
_QCOW2_MAGIC = b"QFI\xfb"


class InstanceFiles:
    """The files of all domains of one host. Every method may be repeated after dying at any line."""

    def __init__(self, state: Path, run: Path, images: Path) -> None:
        self._instances = state / "instances"
        self._run = run / "instances"
        self._images = images

    def describe(self, domain: Domain) -> None:
        """Remember the description."""
        self._directory(domain.id)
        write_whole(self._of(domain.id) / "domain.json", msgspec.json.encode(domain))

    def description(self, id: str) -> Domain | None:
        """The description remembered last; None when there is none, or a damaged one."""
        try:
            return msgspec.json.decode((self._of(id) / "domain.json").read_bytes(), type=Domain)
        except FileNotFoundError:
            return None
        except (msgspec.DecodeError, OSError) as error:
            log.warning("domain.description_unreadable", id=id, error=str(error))
            return None

    def descriptions(self) -> Iterator[Domain]:
        """The descriptions of all domains of this host."""
        for id in self.ids():
            if domain := self.description(id):
                yield domain

    def ids(self) -> list[str]:
        """The domains that have files here, whether libvirt knows them or not."""
        if not self._instances.is_dir():
            return []
        return sorted(entry.name for entry in self._instances.iterdir() if _is_uuid(entry.name))

    def known(self, id: str) -> bool:
        """Whether the domain has files here."""
        return self._of(id).is_dir()

    def files(self, domain: Domain) -> Files:
        """Where the domain's files are, or will be."""
        here, run = self._of(domain.id), self._run / domain.id
        return Files(
            root=here / "root.qcow2",
            base=self._images / domain.image.id if domain.image else None,
            base_format=domain.image.format if domain.image else "qcow2",
            rescue=here / "rescue.qcow2" if domain.rescue else None,
            rescue_base=self._images / domain.rescue.id if domain.rescue else None,
            rescue_format=domain.rescue.format if domain.rescue else "qcow2",
            local={disk.device: here / f"disk.{disk.device}" for disk in domain.local_disks},
            config_drive=here / "config.iso" if domain.config_drive else None,
            console_socket=run / "console.sock",
            console_log=here / "console.log",
            agent_socket=run / "agent.sock",
        )

    def prepare(self, domain: Domain, renew_config_drive: bool) -> Files:
        """Make what is missing of the domain's disks. The base image is there already; the domain is off.

        HostUnavailable: disk full, or no time. DomainFailed: it can never be made.
        """
        files = self.files(domain)
        self._directory(domain.id)
        try:
            if domain.image is not None:
                self._overlay(files.root, domain.image, domain.root_disk_gib * GIB)
            if files.rescue is not None and domain.rescue is not None:
                self._overlay(files.rescue, domain.rescue, domain.root_disk_gib * GIB)
            else:
                (self._of(domain.id) / "rescue.qcow2").unlink(missing_ok=True)
            for disk in domain.local_disks:
                self._local_disk(disk, files.local[disk.device])
        except qemu_img.FileLocked as error:
            raise HostUnavailable(str(error)) from error
        except qemu_img.QemuImgFailed as error:
            raise DomainFailed(f"The root disk could not be made: {error}") from error
        except OSError as error:
            raise HostUnavailable(f"The disks could not be made: {error}") from error
        if files.config_drive is not None and (renew_config_drive or not files.config_drive.exists()):
            write_config_drive(files.config_drive, domain.guest_data)
        return files

    def remove(self, id: str) -> None:
        """All files of the domain are gone."""
        shutil.rmtree(self._run / id, ignore_errors=True)
        here = self._of(id)
        # The description goes last: until then the next call still finds what is left.
        for entry in sorted(here.iterdir()) if here.is_dir() else []:
            if entry.name != "domain.json":
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink(missing_ok=True)
        shutil.rmtree(here, ignore_errors=True)

    def copy_root(self, root: Path, target: Path, part: Path) -> None:
        """A copy of the root disk of a domain that is off, without its backing file.

        HostUnavailable: it was switched on meanwhile, or the disk is full.
        """
        try:
            part.unlink(missing_ok=True)
            qemu_img.convert(root, "qcow2", part, "qcow2")
            part.chmod(0o600)
            part.rename(target)
        except (qemu_img.QemuImgFailed, OSError) as error:
            raise HostUnavailable(f"The disk could not be copied: {error}") from error

    def console_log(self, id: str) -> str | None:
        """The end of the serial console's log, also across its last rotation; None when there is none."""
        log_file = self._of(id) / "console.log"
        text = b""
        for file in (log_file, log_file.with_name("console.log.0")):
            try:
                with file.open("rb") as opened:
                    size = opened.seek(0, os.SEEK_END)
                    opened.seek(max(0, size - (CONSOLE_BYTES - len(text))))
                    text = opened.read() + text
            except FileNotFoundError:
                if file == log_file:
                    return None
            if len(text) >= CONSOLE_BYTES:
                break
        return text[-CONSOLE_BYTES:].decode(errors="replace")

    def mark_stopped(self, id: str, stopped: Stopped | None) -> None:
        """Remember who stopped (or is about to stop) the domain; None when it starts."""
        file = self._of(id) / "stopped"
        if stopped is None:
            file.unlink(missing_ok=True)
        elif file.parent.is_dir():
            write_whole(file, stopped.value.encode())

    def stopped(self, id: str) -> Stopped | None:
        """Who stopped it; None when nobody said so."""
        try:
            return Stopped((self._of(id) / "stopped").read_text())
        except (OSError, ValueError):
            return None

    def password_file(self, id: str) -> Path:
        """Where the password that the guest posted is kept."""
        return self._of(id) / "password"

    def _of(self, id: str) -> Path:
        return self._instances / id

    def _directory(self, id: str) -> None:
        for directory in (self._of(id), self._run / id):
            directory.mkdir(parents=True, exist_ok=True)
            directory.chmod(0o711)

    def forget_disks(self, id: str) -> None:
        """The disks that live and die with the domain are gone; the next start makes them anew."""
        for file in (self._of(id) / "root.qcow2", *self._of(id).glob("disk.*")):
            file.unlink(missing_ok=True)

    def _overlay(self, file: Path, image: ImageRef, least: int) -> None:
        """A disk on top of the image, of at least `least` bytes."""
        size = max(least, image.virtual_size)
        if file.exists():
            if qcow2_size(file) < size:
                qemu_img.resize(file, "qcow2", size)
            return
        part = file.with_suffix(".part")
        part.unlink(missing_ok=True)
        qemu_img.create(part, "qcow2", size, backing=(self._images / image.id, image.format))
        part.chmod(0o600)
        part.rename(file)

    def _local_disk(self, disk: LocalDisk, path: Path) -> None:
        if path.exists():
            return
        part = path.with_name(path.name + ".part")
        with part.open("wb") as file:
            file.truncate(disk.size_mib * MIB)
        if disk.kind == "swap":
            command = ["/sbin/mkswap", "-q", str(part)]
        else:
            command = ["/sbin/mkfs.ext4", "-q", "-F", "-L", "ephemeral0", str(part)]
        try:
            done = subprocess.run(command, capture_output=True, timeout=120, check=False)
        except subprocess.TimeoutExpired as error:
            raise HostUnavailable(f"{command[0]} did not finish in 120 s") from error
        if done.returncode != 0:
            raise DomainFailed(f"{command[0]}: {done.stderr.decode(errors='replace').strip()[-200:]}")
        part.chmod(0o600)
        part.rename(path)


def write_whole(file: Path, content: bytes) -> None:
    """Write a private file so that readers see the old content or the new, never a part."""
    part = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as opened:
            opened.write(content)
        part.rename(file)
    finally:
        part.unlink(missing_ok=True)


def qcow2_size(file: Path) -> int:
    """The virtual size in a qcow2 file's header, in bytes. OSError: it is no qcow2 file."""
    with file.open("rb") as opened:
        header = opened.read(32)
    if header[:4] != _QCOW2_MAGIC:
        raise OSError(f"{file} is not a qcow2 file")
    return int.from_bytes(header[24:32], "big")


def _is_uuid(name: str) -> bool:
    try:
        return str(uuid.UUID(name)) == name
    except ValueError:
        return False
