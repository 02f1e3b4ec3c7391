"""An archive that looks like that of an old Debian: no systemd, no cloud-init, but the programs of a present one.

The real one ("wheezy", "squeeze") is not where tests run. This has its suite and its packages' names, sysvinit, ifupdown,
dhclient and a key of its own, so that the shipped recipe is followed to the letter.
"""

import gzip
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from stackling.image.builder import debian
from stackling.image.builder.recipe import Recipe, Repository
from stackling.image.builder.run import run
from stackling.image.builder.work import Work

_REAL = (
    *("apt", "sysvinit-core", "sysv-rc", "insserv", "initscripts", "udev", "linux-image-cloud-amd64"),
    *("initramfs-tools", "openssh-server", "sudo", "ifupdown", "isc-dhcp-client", "iproute2", "net-tools"),
    *("iputils-ping", "e2fsprogs", "gdisk", "acpid", "acpi-support-base", "wget", "less", "nano", "rsyslog"),
    *(
        "systemd-standalone-sysusers",
        "systemd-standalone-tmpfiles",
        "bash",
        "mawk",
        "orphan-sysvinit-scripts",
    ),
)
# Names that only the old release has, and what stands for them.
_RENAMED = {
    "sysvinit": "sysvinit-core, sysv-rc, insserv, orphan-sysvinit-scripts",
    "linux-image-amd64": "linux-image-cloud-amd64",
    "linux-image-2.6-amd64": "linux-image-cloud-amd64",
    "iproute": "iproute2",
}


def make(place: Path, suite: str, cache: Path) -> tuple[Path, Path]:
    """The archive's directory and the file of its key, made in `place` from packages fetched by way of `cache`."""
    work = Work(place / "fetch", cache=cache)
    work.begin()
    real = Recipe(
        name="stand-in",
        release="bookworm",
        repositories=[
            Repository(uri="http://deb.debian.org/debian"),
            Repository(uri="http://deb.debian.org/debian-security", suite="{release}-security"),
        ],
        packages=list(_REAL),
    )
    debian.fetch(real, work)
    archive = place / "archive"
    shutil.move(work.scratch / "repository", archive)
    work.end()
    index = (archive / "Packages").read_text()
    for name, needs in _RENAMED.items():
        index += "\n" + _stand_in(archive, name, needs)
    (archive / "Packages").unlink()
    dists = archive / "dists" / suite
    (dists / "main/binary-amd64").mkdir(parents=True)
    (dists / "main/binary-amd64/Packages").write_text(index)
    (dists / "main/binary-amd64/Packages.gz").write_bytes(gzip.compress(index.encode()))
    told = [
        f"Origin: Debian\nLabel: Debian\nSuite: oldest\nCodename: {suite}\nArchitectures: amd64",
        "Components: main\nDate: Sat, 04 May 2013 09:00:00 UTC\nValid-Until: Sat, 11 May 2013 09:00:00 UTC\nSHA256:",
    ]
    for file in sorted((dists / "main/binary-amd64").iterdir()):
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        told.append(f" {digest} {file.stat().st_size} main/binary-amd64/{file.name}")
    (dists / "Release").write_text("\n".join(told) + "\n")
    key = _sign(place, dists)
    for directory in (place, archive):
        directory.chmod(0o755)
    return archive, key


def _stand_in(archive: Path, name: str, needs: str) -> str:
    """A package that has only a name and needs others; its paragraph of the index."""
    tree = archive / f".{name}"
    (tree / "DEBIAN").mkdir(parents=True)
    control = (
        f"Package: {name}\nVersion: 20990101\nArchitecture: all\nMaintainer: Nobody <nobody@example.org>\n"
        f"Depends: {needs}\nDescription: stands for {name}\n"
    )
    (tree / "DEBIAN/control").write_text(control)
    made = archive / f"{name}_20990101_all.deb"
    same = {"SOURCE_DATE_EPOCH": "1700000000"}
    run(["dpkg-deb", "--root-owner-group", "--build", tree, made], environment=same)
    shutil.rmtree(tree)
    data = made.read_bytes()
    return (
        f"{control}Filename: ./{made.name}\nSize: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n"
    )


def _sign(place: Path, dists: Path) -> Path:
    home = place / "gnupg"
    home.mkdir(mode=0o700)
    environment = {**os.environ, "GNUPGHOME": str(home)}

    def gpg(*words: str | Path) -> bytes:
        done = subprocess.run(
            [
                "gpg",
                "--batch",
                "--quiet",
                "--pinentry-mode",
                "loopback",
                "--passphrase",
                "",
                *map(str, words),
            ],
            env=environment,
            capture_output=True,
            check=True,
        )
        return done.stdout

    gpg("--quick-gen-key", "Old archive <old@example.org>", "rsa2048", "sign", "never")
    gpg("--clearsign", "-o", dists / "InRelease", dists / "Release")
    key = place / "key.gpg"
    key.write_bytes(gpg("--export"))
    subprocess.run(["gpgconf", "--kill", "all"], env=environment, check=False)
    return key
