"""`./demo` on a machine that had nothing installed: a new, minimal Debian with a clone of this repository.

    sudo python -m bench.fresh            make the machine, ./demo there, again, `stackling down --purge`, remove it
    sudo python -m bench.fresh --run ./check    and then that, with its time

The machine is a directory of Debian's `minbase` packages with its own processes, mounts, hostname and network, which
reaches the package registries through slirp4netns. It shares the kernel with this one and has no service manager.
Commands run there without HOME, without a locale, and with a PATH that lacks the directories of sbin.
Needs the Debian packages mmdebstrap and slirp4netns, git, and some 5 GiB.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
INSIDE = "/root/stackling"
# What this machine may need to reach its registries: names, authorities, proxies.
COPIED = ("/etc/resolv.conf", "/etc/pip.conf", "/usr/local/share/ca-certificates")
PASSED = ("pip_default", "pip_index", "uv_", "http_proxy", "https_proxy", "no_proxy", "ssl_cert_file")
# The first process must reap what daemons leave behind, so it is a shell and stays one.
FIRST = """set -e
ip link set lo up
mount --bind "$1" "$1"
mount -t proc proc "$1/proc"
mount -t sysfs sysfs "$1/sys"
mount --rbind /dev "$1/dev"
mount -t tmpfs -o mode=1777 tmpfs "$1/dev/shm"
mount -t tmpfs -o mode=755 tmpfs "$1/run"
mkdir -p "$1/run/lock"
cd "$1"
pivot_root . mnt
umount --lazy /mnt
hostname fresh
echo ready
while :; do sleep 3600 & wait $!; done
"""


class Failed(Exception):
    """A command that should have worked."""


def make(tree: Path, mirror: list[str], apt_options: list[str]) -> None:
    """A minimal Debian 12 at `tree`, with a clone of this repository. Raises Failed."""
    options = [f"--aptopt={option}" for option in apt_options]
    _run("mmdebstrap", "--variant=minbase", "--quiet", *options, "bookworm", str(tree), *mirror)
    for name in COPIED:
        source, target = Path(name), tree / name.lstrip("/")
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        elif source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            shutil.copy(source, target)
    (tree / "etc/hosts").write_text("127.0.0.1 localhost\n127.0.1.1 fresh\n")
    _run("git", "clone", "--quiet", f"file://{REPOSITORY}", f"{tree}{INSIDE}")


@contextmanager
def machine(tree: Path) -> Iterator[int]:
    """The machine runs; the process id of its first process. Everything in it ends with the block."""
    apart = ("--mount", "--net", "--uts", "--ipc", "--pid", "--fork", "--kill-child")
    with subprocess.Popen(
        ["unshare", *apart, "--propagation", "private", "/bin/bash", "-c", FIRST, "fresh", str(tree)],
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    ) as outer:
        network: subprocess.Popen[bytes] | None = None
        try:
            assert outer.stdout
            if outer.stdout.readline() != "ready\n":
                raise Failed("the machine did not start")
            first = int(Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split()[0])
            read, write = os.pipe()
            network = subprocess.Popen(
                [
                    "slirp4netns",
                    "--configure",
                    "--disable-host-loopback",
                    f"--ready-fd={write}",
                    str(first),
                    "tap0",
                ],
                pass_fds=[write],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            os.close(write)
            with open(read, "rb") as ready:
                if not ready.read(1):
                    raise Failed("slirp4netns did not start")
            yield first
        finally:
            if network:
                network.kill()
                network.wait()
            outer.kill()


def run(first: int, *command: str) -> float:
    """Run a command in the clone on the machine, its output shown here. Returns its seconds; raises Failed."""
    environment = [f"{name}={value}" for name, value in os.environ.items() if name.lower().startswith(PASSED)]
    begun = time.monotonic()
    done = subprocess.run(
        [
            *("nsenter", "--target", str(first), "--mount", "--net", "--uts", "--ipc", "--pid"),
            *("/usr/bin/env", "-i", "PATH=/usr/local/bin:/usr/bin:/bin", *environment),
            *("/bin/sh", "-c", f'cd {INSIDE} && exec "$@"', "sh", *command),
        ],
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        raise Failed(f"{' '.join(command)}: exit status {done.returncode}")
    return time.monotonic() - begun


def _run(*command: str) -> None:
    if subprocess.run(command, check=False, stdin=subprocess.DEVNULL).returncode:
        raise Failed(" ".join(command))


def main() -> int:
    parser = argparse.ArgumentParser(description="./demo on a minimal Debian 12 that was just made.")
    parser.add_argument(
        "--run", action="append", default=[], metavar="COMMAND", help="run this there as well"
    )
    parser.add_argument("--keep", action="store_true", help="leave the machine's directory")
    parser.add_argument("--directory", type=Path, default=Path("/var/tmp"), help="where it is made")
    parser.add_argument(
        "--mirror", action="append", default=[], help="lines of sources.list, or a mirror's URL"
    )
    parser.add_argument(
        "--apt-option", action="append", default=[], help="an option for apt, or a file of them"
    )
    parser.add_argument("--json", action="store_true", help="end with JSON")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that nothing is left
    place = Path(tempfile.mkdtemp(prefix="stackling-fresh-", dir=asked.directory))
    place.chmod(0o755)
    tree, took = place / "machine", {}
    try:
        begun = time.monotonic()
        make(tree, asked.mirror, asked.apt_option)
        print(f"made {tree} in {time.monotonic() - begun:.0f} s", flush=True)
        with machine(tree) as first:
            took["first demo"] = run(first, "./demo")
            took["second demo"] = run(first, "./demo")
            took["purge"] = run(first, ".venv/bin/stackling", "down", "--purge")
            for command in asked.run:
                what = f"{command}, again" if command in took else command
                took[what] = run(first, "/bin/sh", "-c", command)
    except Failed as e:
        print(f"fresh: {e}", file=sys.stderr)
        return 1
    finally:
        if asked.keep:
            print(f"kept {place}")
        else:
            shutil.rmtree(place)
    if asked.json:
        print(json.dumps(took))
    else:
        for what, seconds in took.items():
            print(f"{what:14} {seconds:6.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
