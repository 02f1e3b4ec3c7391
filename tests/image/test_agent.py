"""The agent for old systems, run as they would run it: by their shells, with their few programs, and no Python.

Each test runs in a namespace of its own with a tree as root, where a metadata service (or a config drive) waits.
"""

import gzip
import http.server
import json
import os
import shutil
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from stackling.image.builder import confine
from stackling.image.builder.agent import HERE

ROOT = Path(__file__).parents[2]
AGENT = "/usr/lib/stackling-agent/agent"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ+test alice@example"
META: dict[str, Any] = {
    "uuid": "6f7c4a1e-0000-4000-8000-000000000001",
    "hostname": "old-one.example.org",
    "name": "old-one",
    "public_keys": {"mine": KEY + "\n", "second": 'ssh-rsa AAAA= \u00e4 "b" \\ c'},
    "admin_pass": "s\u00e9cret word",
    "files": [{"path": "/etc/made up", "content_path": "/content/0000"}],
    "meta": {"phone_home": "http://169.254.169.254/phone"},
}
USER_DATA = "#!/bin/sh\necho ran >>/user-data-ran\n"
SHELLS = ("dash", "busybox", "bash")

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root for namespaces")


def make_tree(root: Path, shell: str, *, fetcher: str) -> None:
    """A small old system: busybox and its programs, `shell` as sh, `fetcher` to read the web with."""
    for name in (
        "bin",
        "dev",
        "etc/ssh",
        "proc",
        "root",
        "sys",
        "tmp",
        "usr/lib/stackling-agent",
        "var/log",
        "home/deb",
    ):
        (root / name).mkdir(parents=True)
    busybox = shutil.which("busybox")
    assert busybox is not None
    shutil.copy(busybox, root / "bin/busybox")
    leave = {"wget", "sh", "ash", "ip"} if fetcher != "busybox wget" else {"sh"}
    for applet in subprocess.run(
        [busybox, "--list"], capture_output=True, text=True, check=True
    ).stdout.split():
        if applet not in leave and not (root / "bin" / applet).exists():
            (root / "bin" / applet).symlink_to("busybox")
    if shell == "busybox":
        (root / "bin/sh").symlink_to("busybox")
    else:
        add_program(root, shell)
        (root / "bin/sh").symlink_to(shell)
    if fetcher in ("curl", "bash"):
        add_program(root, fetcher)
    if fetcher != "busybox wget":
        # A busybox without wget, as an old one may be.
        wrapped = root / "bin/busybox.real"
        (root / "bin/busybox").rename(wrapped)
        for link in (root / "bin").iterdir():
            if link.is_symlink() and os.readlink(link) == "busybox":
                link.unlink()
                link.symlink_to("busybox.real")
        if shell == "busybox":
            (root / "bin/sh").unlink()
            (root / "bin/sh").symlink_to("busybox.real")
    (root / "bin/chpasswd").write_text("#!/bin/sh\ncat >/passwords\n")
    (root / "bin/chpasswd").chmod(0o755)
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\ndeb:x:1000:1000::/home/deb:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\ndeb:x:1000:\n")
    (root / "etc/shadow").write_text("root:*:15000:0:99999:7:::\ndeb:*:15000:0:99999:7:::\n")
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n")
    for name in ("agent", "install"):
        shutil.copy(HERE / name, root / "usr/lib/stackling-agent" / name)
        (root / "usr/lib/stackling-agent" / name).chmod(0o755)
    (root / "etc/stackling-agent.conf").write_text("users='deb'\nwait=5\n")
    for path in [root, *root.rglob("*")]:
        os.lchown(path, confine.FIRST_ID, confine.FIRST_ID)


def add_program(root: Path, name: str) -> None:
    program = shutil.which(name)
    assert program is not None
    shutil.copy(program, root / "bin" / name)
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
    for word in listed.split():
        if word.startswith("/"):
            target = root / word.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                shutil.copy(word, target)


def inside(root: str, documents: dict[str, str], told: str, commands: list[list[str]]) -> None:
    """Serve the metadata and run the commands in the tree (run confined)."""
    posted: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = documents.get(self.path.strip("/"))
            self.send_response(200 if body is not None else 404)
            self.end_headers()
            self.wfile.write((body or "").encode("latin-1"))

        def do_POST(self) -> None:
            posted.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    subprocess.run(["ip", "addr", "add", "169.254.169.254/32", "dev", "lo"], check=True)
    server = None
    if documents:
        server = http.server.ThreadingHTTPServer(("169.254.169.254", 80), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
    (Path(root) / "dev/null").touch()
    for device in ("null", "urandom"):
        (Path(root) / "dev" / device).touch()
        subprocess.run(["mount", "--bind", f"/dev/{device}", f"{root}/dev/{device}"], check=True)
    for kind in ("proc", "sysfs"):
        subprocess.run(
            ["mount", "-t", kind, kind, f"{root}/{'proc' if kind == 'proc' else 'sys'}"], check=True
        )
    for command in commands:
        subprocess.run(["/usr/sbin/chroot", root, *command], check=False, env={"PATH": "/bin"})
    hostname = subprocess.run(["hostname"], capture_output=True, text=True, check=True).stdout.strip()
    Path(told).write_text(json.dumps({"hostname": hostname, "posted": posted}))


class System:
    """An old system in `place`."""

    def __init__(self, place: Path, shell: str, fetcher: str) -> None:
        self.place, self.root = place, place / "root"
        self.root.mkdir(parents=True)
        place.chmod(0o755)
        make_tree(self.root, shell, fetcher=fetcher)

    def boot(self, documents: dict[str, str] | None, *commands: list[str]) -> dict[str, Any]:
        """What is known after a boot: the host name, and what was posted."""
        told = self.place / "told"
        told.touch()
        os.chown(told, confine.FIRST_ID, confine.FIRST_ID)
        arguments = {
            "root": str(self.root),
            "documents": documents or {},
            "told": str(told),
            "commands": list(commands) or [["/bin/sh", AGENT, "run"]],
        }
        with (self.place / "log").open("ab") as log, pytest.MonkeyPatch.context() as patch:
            patch.setenv("PYTHONPATH", os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", ""))))
            confine.run(
                None,
                log=log,
                keep=[self.place],
                call=("tests.image.test_agent:inside", arguments),
                seconds=120,
            )
        answer: dict[str, Any] = json.loads(told.read_text())
        return answer

    def read(self, name: str) -> str:
        return (self.root / name).read_text()

    @property
    def log(self) -> str:
        return self.read("var/log/stackling-agent.log")


def service(meta: dict[str, Any], user_data: str | None = USER_DATA) -> dict[str, str]:
    told = {
        "openstack/latest/meta_data.json": json.dumps(meta),
        "openstack/content/0000": "a file of the cloud\n",
    }
    return told if user_data is None else {**told, "openstack/latest/user_data": user_data}


@pytest.fixture(
    params=[*((shell, "busybox wget") for shell in SHELLS), ("dash", "curl"), ("busybox", "bash")],
    ids="-".join,
)
def system(request: pytest.FixtureRequest, tmp_path: Path) -> System:
    shell, fetcher = request.param
    return System(tmp_path / "system", shell, fetcher)


def test_an_old_system_becomes_its_instance(system: System) -> None:
    told = system.boot(service(META))
    assert told["hostname"] == "old-one", system.log
    assert system.read("etc/hostname") == "old-one\n"
    assert "127.0.1.1 old-one" in system.read("etc/hosts")
    for home in ("root", "home/deb"):
        assert system.read(f"{home}/.ssh/authorized_keys").splitlines() == [
            KEY,
            'ssh-rsa AAAA= \u00e4 "b" \\ c',
        ]
        mode = (system.root / home / ".ssh/authorized_keys").stat()
        assert (mode.st_mode & 0o777, mode.st_uid - confine.FIRST_ID) == (0o600, 1000 if "deb" in home else 0)
    assert system.read("passwords") == "root:s\u00e9cret word\ndeb:s\u00e9cret word\n"
    assert system.read("etc/made up") == "a file of the cloud\n"
    assert system.read("user-data-ran") == "ran\n"
    assert told["posted"] == [f"instance_id={META['uuid']}&hostname=old-one"]


def test_what_was_done_once_is_not_done_again_until_the_instance_is_another(system: System) -> None:
    system.boot(service(META))
    (system.root / "root/.ssh/authorized_keys").write_text(f"{KEY}\nssh-rsa own key\n")
    (system.root / "etc/made up").write_text("changed by its owner")
    again = system.boot(service({**META, "public_keys": {"new": "ssh-rsa NEW"}, "hostname": "other"}))
    assert again["posted"] == []
    assert system.read("user-data-ran") == "ran\n"
    assert system.read("etc/hostname") == "old-one\n"
    assert system.read("etc/made up") == "changed by its owner"
    # Keys follow the metadata; those that somebody put there by hand stay.
    assert system.read("root/.ssh/authorized_keys").splitlines() == ["ssh-rsa own key", "ssh-rsa NEW"]
    (system.root / "etc/ssh/ssh_host_rsa_key").write_text("of the first")
    other = system.boot(service({**META, "uuid": "another", "hostname": "clone"}))
    assert other["hostname"] == "clone"
    assert len(other["posted"]) == 1
    assert system.read("user-data-ran") == "ran\nran\n"
    assert not (system.root / "etc/ssh/ssh_host_rsa_key").exists()


@pytest.fixture
def plain(tmp_path: Path) -> System:
    return System(tmp_path / "system", "dash", "busybox wget")


def test_without_any_metadata_nothing_is_changed(plain: System) -> None:
    begun = time.monotonic()
    plain.boot(None)
    assert time.monotonic() - begun < 60
    assert "nothing was changed" in plain.log
    assert not (plain.root / "etc/hostname").exists()
    assert not (plain.root / "root/.ssh").exists()


def test_metadata_that_is_not_json_is_waited_out(plain: System) -> None:
    plain.boot({"openstack/latest/meta_data.json": '{"uuid": "x", "hostname": "h"'})
    assert "nothing was changed" in plain.log
    assert not (plain.root / "etc/hostname").exists()


@pytest.mark.parametrize(
    "given, says", [("#cloud-config\npackages: [x]\n", "#cloud-config"), ("hello", "not a script")]
)
def test_user_data_that_is_no_script_is_named_and_not_run(plain: System, given: str, says: str) -> None:
    plain.boot(service(META, given))
    assert says in plain.log
    assert not (plain.root / "user-data-ran").exists()


def test_packed_user_data_is_unpacked(plain: System) -> None:
    plain.boot(service(META, gzip.compress(USER_DATA.encode()).decode("latin-1")))
    assert plain.read("user-data-ran") == "ran\n"


def test_hostile_metadata_stays_data(plain: System) -> None:
    evil = {
        **META,
        "hostname": "$(touch /pwned)`touch /pwned`",
        "public_keys": {"k": "ssh-rsa $(touch /pwned) ;touch /pwned"},
        "admin_pass": "$(touch /pwned)%d%s\\n\nroot:other",
        "files": [{"path": "/etc/$(touch pwned)", "content_path": "/content/0000"}],
    }
    plain.boot(service(evil, None))
    assert not (plain.root / "pwned").exists()
    assert plain.read("passwords").splitlines() == [
        "root:$(touch /pwned)%d%s\\n",
        "deb:$(touch /pwned)%d%s\\n",
    ]
    assert plain.read("etc/$(touch pwned)") == "a file of the cloud\n"


def test_it_is_installed_for_sysvinit_and_for_systemd(tmp_path: Path) -> None:
    for init in ("sysvinit", "systemd"):
        old = System(tmp_path / init, "dash", "busybox wget")
        (old.root / "sbin").mkdir()
        if init == "systemd":
            (old.root / "lib/systemd").mkdir(parents=True)
            (old.root / "lib/systemd/systemd").touch()
            (old.root / "sbin/init").symlink_to("/lib/systemd/systemd")
        else:
            (old.root / "sbin/init").symlink_to("/bin/busybox")
            (old.root / "etc/init.d").mkdir()
            (old.root / "etc/rc2.d").mkdir()
        for path in old.root.rglob("*"):
            os.lchown(path, confine.FIRST_ID, confine.FIRST_ID)
        install = ["/bin/sh", "/usr/lib/stackling-agent/install"]
        old.boot(None, install, install)
        if init == "systemd":
            units = old.root / "etc/systemd/system"
            assert (units / "sysinit.target.wants/stackling-agent-local.service").is_symlink()
            for part in ("config", "final"):
                assert (units / f"multi-user.target.wants/stackling-agent-{part}.service").is_symlink()
            assert f"ExecStart={AGENT} config" in (units / "stackling-agent-config.service").read_text()
        else:
            assert sorted(p.name for p in (old.root / "etc/rc2.d").iterdir()) == [
                "S12stackling-agent-config",
                "S99stackling-agent-final",
            ]
            assert (old.root / "etc/rcS.d/S38stackling-agent-local").is_symlink()


def test_a_real_systemd_finds_nothing_wrong_with_its_units(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze here")
    old = System(tmp_path / "old", "dash", "busybox wget")
    (old.root / "lib/systemd").mkdir(parents=True, exist_ok=True)
    (old.root / "lib/systemd/systemd").touch()
    (old.root / "sbin").mkdir(exist_ok=True)
    (old.root / "sbin/init").symlink_to("/lib/systemd/systemd")
    for path in old.root.rglob("*"):
        os.lchown(path, confine.FIRST_ID, confine.FIRST_ID)
    old.boot(None, ["/bin/sh", "/usr/lib/stackling-agent/install"])
    units = sorted((old.root / "etc/systemd/system").glob("*.service"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True, check=False
    )
    ours = [
        line
        for line in done.stderr.splitlines()
        if "stackling-agent" in line and "is not executable" not in line
    ]
    assert ours == [], done.stderr
