"""Builds of tenants: what of them meets the host, and what only a virtual machine does."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from stackling.base.config import Image
from stackling.image.builder import BuildError, debian, disk, installer, limits, line, machine, recipe
from stackling.image.builder.console import heard
from stackling.image.builder.recipe import InvalidRecipe
from stackling.image.builder.run import run
from stackling.image.builder.work import Work, own

MINE: dict[str, Any] = {
    "name": "mine",
    "release": "bookworm",
    "repositories": [{"uri": "http://deb.debian.org/debian/"}],
    "packages": ["linux-image-cloud-amd64", "cloud-init"],
}
UUID = "0f0b9f4e-58f2-4d27-8e0b-6f7b6f0d2f55"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root for namespaces")


def test_what_a_machine_says_is_text_and_ends_somewhere(tmp_path: Path) -> None:
    with (tmp_path / "log").open("ab") as log, heard(log.fileno(), 100_000) as port:
        for number in range(10_000):
            os.write(port.fd, b"line %d \x1b[2J\x07of 10000\r\n" % number)
    said = (tmp_path / "log").read_text()
    assert said.startswith("line 0 [2Jof 10000\nline 1 ")
    assert said.endswith("(what follows is left out: it is too much)\n")
    assert len(said) < 100_100
    assert port.last.endswith("line 9999 [2Jof 10000\n")


def test_a_machine_does_not_wait_for_a_log_that_can_not_be_written() -> None:
    with Path("/dev/full").open("wb") as log, heard(log.fileno(), 1 << 20) as port:
        for _ in range(64):
            os.write(port.fd, bytes(64 << 10))
        os.write(port.fd, b"done")
    assert port.last == "done"


def test_a_tree_is_measured_alike_inside_and_outside(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for number in range(300):
        place = root / f"d{number % 7}" / f"{number}"
        place.mkdir(parents=True)
        (place / "file").write_bytes(bytes(number * 1000))
        (place / "link").symlink_to("/nowhere")
    told = subprocess.run(
        ["sh", "-c", f"echo {disk.content_mib_told(root)}"], capture_output=True, check=True
    )
    assert int(told.stdout) == disk.content_mib(root) > 100


def test_nothing_of_a_tenants_stands_outside_its_root_file_system(tmp_path: Path) -> None:
    want = recipe.Disk()
    disk.require_grub(want)
    start, size = disk.start_mib(want), 64
    theirs = b"\xeb\x3c" + b"theirs" * 1000
    with (tmp_path / "disk.raw").open("wb") as file:
        for at in (0, 1, 2, start, start + size, start + size + 1, 5000):
            file.seek(at << 20)
            file.write(theirs)
    disk.frame(tmp_path, want, UUID, size)
    with (tmp_path / "disk.raw").open("rb") as file:
        assert file.seek(0, 2) == (start + size + 1) << 20
        for at in range(start + size + 1):
            file.seek(at << 20)
            assert (b"theirs" in file.read(1 << 20)) == (at == start), at
    parts = run(["sfdisk", "--dump", tmp_path / "disk.raw"])
    assert f"start={start * 2048:>12}, size={size * 2048:>12}" in parts


def test_the_cache_keeps_what_was_needed_last(tmp_path: Path) -> None:
    for number, name in enumerate(("a", "b", "c", "d")):
        file = tmp_path / "archives" / f"of{number % 2}" / f"{name}.deb"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(bytes(1000))
        os.utime(file, (number, number))
    debian.prune(tmp_path, 2500)
    assert sorted(f.name for f in tmp_path.rglob("*.deb")) == ["c.deb", "d.deb"]


def test_limits_are_looked_at_again_when_a_build_begins(tmp_path: Path) -> None:
    """What was asked for under wider limits, or put into the database, is not built."""
    held = limits.configured(Image())
    held.check(recipe.convert(MINE))
    far = recipe.convert({**MINE, "repositories": [{"uri": "http://10.0.0.1/debian"}]})
    with pytest.raises(InvalidRecipe, match=r"repositories\[0\]\.uri"):
        held.check(far)
    work = Work(tmp_path / "build", cache=tmp_path / "cache", limits=held)
    with pytest.raises(BuildError, match=r"repositories\[0\]\.uri"):
        line.build(far, work)
    assert "failed: repositories[0].uri" in work.log.read_text()
    assert not work.scratch.exists()


@pytest.mark.parametrize("iso", ["http://127.0.0.1:1/x.iso", "http://169.254.169.254/x.iso", "/etc/shadow"])
def test_the_cloud_fetches_no_medium_for_a_tenant_from_where_only_it_gets_to(
    tmp_path: Path, iso: str
) -> None:
    want = recipe.Installer(iso=iso, sha256="0" * 64, kernel="/k", initrd="/i")
    work = Work(tmp_path / "build", cache=tmp_path / "cache", limits=limits.configured(Image()))
    work.begin()
    with pytest.raises(BuildError, match="does not pass filtering"):
        installer._medium(want, work)


@as_root
def test_all_of_a_tenants_build_is_over_when_its_time_is(tmp_path: Path) -> None:
    held = limits.configured(Image(build_minutes=1))
    work = Work(tmp_path / "build", cache=tmp_path / "cache", limits=held)
    work.begin()
    work._begun -= 59
    with pytest.raises(BuildError, match="did not end in 1 seconds"):
        work.confined(["sleep", "60"], "Sleeping", seconds=1000)


# -- in a virtual machine ----------------------------------------------------------------------------------------------


@pytest.fixture
def work(tmp_path: Path, cache: Path) -> Work:
    made = Work(tmp_path / "build", cache=cache, limits=limits.configured(Image()))
    made.begin()
    machine.prepare(made)
    disk = made.scratch / "disk"
    disk.write_bytes(b"from outside\n".ljust(1 << 20, b"\0"))
    own(disk)
    return made


def carry_out(work: Work, script: str) -> str:
    """What a script in the machine prints, which has a disk of its own. Raises BuildError."""
    place = str(work.scratch)
    arguments = {"place": place, "target": f"{place}/disk", "kind": "raw", "script": script, "accel": "tcg"}
    call = ("stackling.image.builder.cloudify:inside", arguments)
    work.confined([], "Trying", call=call, seconds=120)
    return work.log.read_text()


@pytest.mark.host
@as_root
def test_a_machine_has_its_disks_and_no_network(work: Work) -> None:
    script = """
    echo "nets: $(ls /sys/class/net)"
    head -n 1 /dev/vdb
    echo "from inside" >/dev/vdb
    echo no >/dev/vdc 2>/dev/null || echo "vdc can not be written"
    timeout 5 wget -q -O - http://169.254.169.254/ 2>&1 || echo "no metadata"
    end "ok: it went well"
    """
    said = carry_out(work, script)
    assert "nets: lo\nfrom outside\nvdc can not be written\n" in said
    assert "no metadata" in said
    assert said.endswith("RESULT: ok: it went well\nit went well\n")
    assert (work.scratch / "disk").read_bytes().startswith(b"from inside\n")


@pytest.mark.host
@as_root
def test_a_machine_that_ends_without_a_word_fails_the_build(work: Work) -> None:
    with pytest.raises(BuildError, match="before its work was done"):
        carry_out(work, "poweroff -f; sleep 9")
