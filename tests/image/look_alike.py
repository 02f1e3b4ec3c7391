"""Archives that look like those of systems whose own are not where tests run.

An old Debian ("wheezy", "squeeze") has no systemd and no cloud-init; an Ubuntu has its suites and components. Each has its
packages' names and a key of its own, so that the shipped recipe is followed to the letter; the programs are Debian 12's.
"""

import gzip
import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from stackling.image.builder import debian, recipe
from stackling.image.builder.recipe import Recipe, Repository
from stackling.image.builder.run import run
from stackling.image.builder.work import Work


class System(NamedTuple):
    """Packages of Debian 12 that are there, and names that only the other system has, with what stands for them."""

    real: tuple[str, ...]
    renamed: dict[str, str]
    afterwards: str = ""  # what the first of those does when it is installed


OLD = System(
    real=(
        *("apt", "sysvinit-core", "sysv-rc", "insserv", "initscripts", "udev", "linux-image-cloud-amd64"),
        *(
            "initramfs-tools",
            "openssh-server",
            "sudo",
            "ifupdown",
            "isc-dhcp-client",
            "iproute2",
            "net-tools",
        ),
        *(
            "iputils-ping",
            "e2fsprogs",
            "gdisk",
            "acpid",
            "acpi-support-base",
            "wget",
            "less",
            "nano",
            "rsyslog",
        ),
        *("systemd-standalone-sysusers", "systemd-standalone-tmpfiles", "bash", "mawk"),
        "orphan-sysvinit-scripts",
    ),
    renamed={
        "sysvinit": "sysvinit-core, sysv-rc, insserv, orphan-sysvinit-scripts",
        "linux-image-amd64": "linux-image-cloud-amd64",
        "linux-image-2.6-amd64": "linux-image-cloud-amd64",
        "iproute": "iproute2",
    },
)
UBUNTU = System(
    real=(
        *(
            "apt",
            "systemd-sysv",
            "udev",
            "dbus",
            "libpam-systemd",
            "linux-image-cloud-amd64",
            "initramfs-tools",
        ),
        *(
            "cloud-init",
            "cloud-guest-utils",
            "netplan.io",
            "systemd-resolved",
            "openssh-server",
            "sudo",
            "iproute2",
        ),
        *(
            "iputils-ping",
            "e2fsprogs",
            "fdisk",
            "less",
            "nano",
            "curl",
            "ca-certificates",
            "qemu-guest-agent",
        ),
    ),
    renamed={"ubuntu-keyring": "base-files", "linux-image-virtual": "linux-image-cloud-amd64"},
    afterwards="#!/bin/sh\nsed -i 's/bookworm/noble/; s/^ID=.*/ID=ubuntu/' /usr/lib/os-release\n",
)


def make(place: Path, looks: Recipe, system: System, cache: Path) -> tuple[Path, Path]:
    """The archive's directory and the file of its key, made in `place` from packages fetched by way of `cache`.

    It has the suites and components that the recipe `looks` names.
    """
    work = Work(place / "fetch", cache=cache)
    work.begin()
    real = Recipe(
        name="stand-in",
        release="bookworm",
        repositories=[
            Repository(uri="http://deb.debian.org/debian"),
            Repository(uri="http://deb.debian.org/debian-security", suite="{release}-security"),
        ],
        packages=list(system.real),
    )
    debian.fetch(real, work)
    archive = place / "archive"
    shutil.move(work.scratch / "repository", archive)
    work.end()
    index = (archive / "Packages").read_text()
    for number, (name, needs) in enumerate(system.renamed.items()):
        index += "\n" + _stand_in(archive, name, needs, "" if number else system.afterwards)
    (archive / "Packages").unlink()
    home = place / "gnupg"
    home.mkdir(mode=0o700)
    _gpg(home, "--quick-gen-key", "Archive <archive@example.org>", "rsa2048", "sign", "never")
    for repository in looks.repositories:
        suite = archive / "dists" / recipe.fill(repository.suite, looks)
        _suite(suite, repository.components, index, home, archived=looks.archived)
    key = place / "key.gpg"
    key.write_bytes(_gpg(home, "--export"))
    subprocess.run(["gpgconf", "--kill", "all"], env={**os.environ, "GNUPGHOME": str(home)}, check=False)
    for directory in (place, archive):
        directory.chmod(0o755)
    return archive, key


def _suite(suite: Path, components: Sequence[str], index: str, home: Path, *, archived: bool) -> None:
    """A suite, signed; its first component has everything. An archived one has expired long ago."""
    expires = "Valid-Until: Sat, 11 May 2013 09:00:00 UTC\n" if archived else ""
    told = [
        f"Origin: Debian\nLabel: Debian\nSuite: {suite.name}\nCodename: {suite.name}\nArchitectures: amd64",
        f"Components: {' '.join(components)}\nDate: Sat, 04 May 2013 09:00:00 UTC",
        f"{expires}SHA256:",
    ]
    for number, component in enumerate(components):
        directory = suite / component / "binary-amd64"
        directory.mkdir(parents=True)
        text = "" if number else index
        (directory / "Packages").write_text(text)
        (directory / "Packages.gz").write_bytes(gzip.compress(text.encode()))
        for file in sorted(directory.iterdir()):
            digest = hashlib.sha256(file.read_bytes()).hexdigest()
            told.append(f" {digest} {file.stat().st_size} {file.relative_to(suite)}")
    (suite / "Release").write_text("\n".join(told) + "\n")
    _gpg(home, "--clearsign", "-o", suite / "InRelease", suite / "Release")


def _stand_in(archive: Path, name: str, needs: str, afterwards: str) -> str:
    """A package that has only a name and needs others; its paragraph of the index."""
    tree = archive / f".{name}"
    (tree / "DEBIAN").mkdir(parents=True)
    control = (
        f"Package: {name}\nVersion: 20990101\nArchitecture: all\nMaintainer: Nobody <nobody@example.org>\n"
        f"Depends: {needs}\nDescription: stands for {name}\n"
    )
    (tree / "DEBIAN/control").write_text(control)
    if afterwards:
        script = tree / "DEBIAN/postinst"
        script.write_text(afterwards)
        script.chmod(0o755)
    made = archive / f"{name}_20990101_all.deb"
    run(
        ["dpkg-deb", "--root-owner-group", "--build", tree, made],
        environment={"SOURCE_DATE_EPOCH": "1700000000"},
    )
    shutil.rmtree(tree)
    data = made.read_bytes()
    return (
        f"{control}Filename: ./{made.name}\nSize: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n"
    )


def _gpg(home: Path, *words: str | Path) -> bytes:
    command = ["gpg", "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""]
    done = subprocess.run(
        [*command, *map(str, words)],
        env={**os.environ, "GNUPGHOME": str(home)},
        capture_output=True,
        check=True,
    )
    return done.stdout
