"""The first five minutes of a cloud, as a person would spend them: every step with the unmodified `openstack` command.

Run by `./demo`. Each step is timed and checked; the first that isn't true ends the run with what was seen. What the
run made is deleted at its end, and also what an earlier, interrupted run left.
"""

import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

BIN = Path(sys.executable).parent
STACKLING = str(BIN / "stackling")
OPENSTACK = str(BIN / "openstack")
NAME = "demo"
GREETING = "user data ran as root"
USER_DATA = """#!/bin/sh
timeout 20 wget -q -O /run/demo-outside {outside}
echo "{greeting} on $(hostname)" > /run/demo-user-data
"""


class Untrue(Exception):
    """A step did not do what it should."""


class Demo:
    """One run. `secrets` is a directory for the key pair, gone afterwards."""

    def __init__(self, secrets: Path) -> None:
        self.secrets = secrets
        self.started = float(os.environ.get("STACKLING_DEMO_STARTED", time.time()))
        self.steps: list[tuple[str, float]] = []
        self.environ = dict(os.environ)
        self.floating_ip = ""
        self.external = ""
        self.outside_saw: list[str] = []

    # -- telling ---------------------------------------------------------------------------------------------------

    def step(self, says: str, act: Callable[[], str | None]) -> None:
        """Do one step and say how long it took and what was seen."""
        begun = time.monotonic()
        if sys.stdout.isatty():
            print(f"  ....    {says}", end="\r", flush=True)
        try:
            seen = act()
        except Untrue as e:
            print(f"  FAILED  {says}\n\n{e}", flush=True)
            raise
        took = time.monotonic() - begun
        self.steps.append((says, took))
        print(f"  {took:5.1f} s {says}" + (f": {seen}" if seen else ""), flush=True)

    def run(self, *command: str, ok: bool = True, within: float = 300, text: str | None = None) -> str:
        """Run a command and return what it printed. Raises Untrue when it fails and `ok` is set."""
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                env=self.environ,
                timeout=within,
                input=text,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Untrue(f"$ {' '.join(command)}\nno answer within {within:g} s") from None
        if ok and done.returncode:
            raise Untrue(f"$ {' '.join(command)}\n{done.stdout}{done.stderr}")
        return done.stdout

    def openstack(self, *arguments: str, ok: bool = True) -> Any:
        """Run the client and return what it printed, decoded where it is JSON."""
        printed = self.run(OPENSTACK, *arguments, *(["-f", "json"] if _prints(arguments) else []), ok=ok)
        try:
            return json.loads(printed)
        except ValueError:
            return printed

    def until(self, true: Callable[[], Any], within: float, what: str) -> Any:
        """Wait until something is true; its value. Raises Untrue past `within` seconds."""
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            value = true()
            if value:
                return value
            time.sleep(0.5)
        raise Untrue(f"{what} did not come true within {within:g} s")

    def ssh(self, command: str, *, ok: bool = True, within: float = 60) -> str:
        """Run a command in the guest."""
        options = [
            "BatchMode=yes",
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "LogLevel=ERROR",
            "ConnectTimeout=5",
        ]
        flags = [part for option in options for part in ("-o", option)]
        return self.run(
            "ssh",
            "-i",
            str(self.secrets / "key"),
            *flags,
            f"stackling@{self.floating_ip}",
            command,
            ok=ok,
            within=within,
        )

    # -- the steps -------------------------------------------------------------------------------------------------

    def up(self) -> str:
        self.run(STACKLING, "up", within=200)
        values = json.loads(self.run(STACKLING, "env", "--format", "json"))
        self.environ = {k: v for k, v in self.environ.items() if not k.startswith("OS_")} | values
        return str(values["OS_AUTH_URL"])

    def together(self, *commands: tuple[str, ...]) -> list[Any]:
        """Several independent commands at once: most of a command's time is the client's own start."""
        with ThreadPoolExecutor(4) as threads:
            return list(threads.map(lambda command: self.openstack(*command), commands))

    def clean(self) -> None:
        """Remove what is there under the demo's names."""
        servers, volumes, routers, networks, groups, keys = self.together(
            ("server", "list", "--name", f"^{NAME}$"),
            ("volume", "list", "--name", NAME),
            ("router", "list", "--name", NAME),
            ("network", "list", "--name", NAME),
            ("security", "group", "list", "--project", "admin"),
            ("keypair", "list"),
        )
        groups = [g for g in groups if g["Name"] == NAME]
        if servers:
            self.openstack("server", "delete", "--wait", *[s["ID"] for s in servers])
        for volume in volumes:
            self.until(
                lambda v=volume["ID"]: (
                    self.openstack("volume", "show", v)["status"] not in ("detaching", "in-use")
                ),
                60,
                "the detach",
            )
        for router in routers:
            addresses, ports = self.together(
                ("floating", "ip", "list", "--router", router["ID"]),
                ("port", "list", "--router", router["ID"], "--device-owner", "network:router_interface"),
            )
            self.together(
                *[("floating", "ip", "delete", a["ID"]) for a in addresses],
                *[("router", "remove", "port", router["ID"], p["ID"]) for p in ports],
            )
        self.together(
            *[("volume", "delete", v["ID"]) for v in volumes],
            *[("router", "delete", r["ID"]) for r in routers],
            *[("network", "delete", n["ID"]) for n in networks],
            *[("security", "group", "delete", g["ID"]) for g in groups],
            *[("keypair", "delete", NAME) for k in keys if k["Name"] == NAME],
        )

    def catalog(self) -> str:
        return ", ".join(sorted(s["Type"] for s in self.openstack("catalog", "list")))

    def image(self) -> str:
        def ready() -> Any:
            return [
                i
                for i in self.openstack("image", "list", "--status", "active")
                if i["Name"] == "stackling-ready"
            ]

        self.until(ready, 180, "the ready image")
        shown = self.openstack("image", "show", "stackling-ready")
        return f"stackling-ready, {shown['size'] / 1e6:.1f} MB"

    def flavors(self) -> str:
        return ", ".join(f["Name"] for f in self.openstack("flavor", "list"))

    def find_external(self) -> str:
        found = self.openstack("network", "list", "--external")
        if not found:
            raise Untrue("there is no external network")
        self.external = found[0]["Name"]
        return ", ".join(n["Name"] for n in found)

    def keypair(self) -> None:
        made = self.run(OPENSTACK, "keypair", "create", NAME)
        (self.secrets / "key").touch(mode=0o600)
        (self.secrets / "key").write_text(made)

    def network(self) -> str:
        self.openstack("network", "create", NAME)
        subnet = self.openstack(
            "subnet", "create", "--network", NAME, "--subnet-range", "10.20.30.0/24", NAME
        )
        return str(subnet["cidr"])

    def router(self) -> str:
        self.openstack("router", "create", NAME, "--external-gateway", self.external)
        self.openstack("router", "add", "subnet", NAME, NAME)
        info = self.openstack("router", "show", NAME)["external_gateway_info"]
        self.gateway = info["external_fixed_ips"][0]["ip_address"]
        return f"gateway {self.gateway} on {self.external}"

    def rules(self) -> None:
        self.openstack("security", "group", "create", NAME)
        self.openstack("security", "group", "rule", "create", "--proto", "tcp", "--dst-port", "22", NAME)
        self.openstack("security", "group", "rule", "create", "--proto", "icmp", NAME)

    def boot(self) -> str:
        (self.secrets / "user-data").write_text(
            USER_DATA.format(outside=self.serve_outside(), greeting=GREETING)
        )
        self.openstack(
            *(
                "server",
                "create",
                "--wait",
                "--image",
                "stackling-ready",
                "--flavor",
                "m1.nano",
                "--network",
                NAME,
            ),
            *(
                "--key-name",
                NAME,
                "--security-group",
                NAME,
                "--user-data",
                str(self.secrets / "user-data"),
                "--property",
                "purpose=demo",
                NAME,
            ),
        )
        shown = self.openstack("server", "show", NAME)
        if shown["status"] != "ACTIVE":
            raise Untrue(f"the server is {shown['status']}: {shown.get('fault')}")
        self.server = shown["id"]
        return f"ACTIVE at {shown['addresses'][NAME][0]}"

    def address(self) -> str:
        self.floating_ip = self.openstack("floating", "ip", "create", self.external)["floating_ip_address"]
        self.openstack("server", "add", "floating", "ip", NAME, self.floating_ip)
        return self.floating_ip

    def login(self) -> str:
        self.until(
            lambda: self.ssh("true && echo in", ok=False, within=30).strip() == "in",
            120,
            f"ssh to {self.floating_ip}",
        )
        return self.ssh("uname -sr; cut -d' ' -f1 /proc/uptime").replace("\n", ", up ", 1).strip() + " s"

    def user_data(self) -> str:
        seen = self.until(lambda: self.ssh("cat /run/demo-user-data", ok=False).strip(), 30, "the user data")
        if seen != f"{GREETING} on {NAME}":
            raise Untrue(f"the user data left {seen!r}")
        answer = self.ssh("cat /run/demo-outside").strip()
        if answer != "hello from outside":
            raise Untrue(f"the guest read {answer!r} from the web server outside")
        return str(seen)

    def metadata(self) -> str:
        told = json.loads(self.ssh("wget -q -O - http://169.254.169.254/openstack/latest/meta_data.json"))
        if (told["uuid"], told["name"], told["meta"]) != (self.server, NAME, {"purpose": "demo"}):
            raise Untrue(f"the metadata service told {told}")
        return f"uuid, name and properties are right, {len(told['public_keys'])} key"

    def outside(self) -> str:
        """The guest's user data asks a web server on the host while it has no floating IP: SNAT makes it the router's address."""
        self.until(
            lambda: self.outside_saw, 120, "a request of the guest's user data to the host's web server"
        )
        if self.outside_saw != [self.gateway]:
            raise Untrue(f"the web server saw {self.outside_saw}, not {self.gateway}")
        return f"the guest is up, the host saw the router's address {self.gateway}"

    def serve_outside(self) -> str:
        """A web server where the external network ends: on the host. Returns its URL."""
        seen = self.outside_saw

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                seen.append(self.client_address[0])
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"hello from outside\n")

            def log_message(self, *_: Any) -> None:
                pass

        subnet = self.openstack("subnet", "list", "--network", self.external)[0]["ID"]
        host = self.openstack("subnet", "show", subnet)["gateway_ip"]
        web = http.server.ThreadingHTTPServer((host, 0), Handler)
        threading.Thread(target=web.serve_forever, daemon=True).start()
        return f"http://{host}:{web.server_port}/"

    def console(self) -> str:
        log = self.run(OPENSTACK, "console", "log", "show", NAME)
        lines = [line for line in log.splitlines() if re.search(r"stackling:", line)]
        if not lines:
            raise Untrue(f"the console log says nothing of the guest's start:\n{log[-2000:]}")
        return f"{len(log.splitlines())} lines, the last: {lines[-1].strip()}"

    def volume(self) -> str:
        made = self.openstack("volume", "create", "--size", "1", NAME)
        self.volume_id = made["id"]
        self.until(lambda: self.openstack("volume", "show", NAME)["status"] == "available", 60, "the volume")
        self.openstack("server", "add", "volume", NAME, NAME)
        self.until(lambda: self.openstack("volume", "show", NAME)["status"] == "in-use", 60, "the attachment")
        find = f'for d in /sys/block/*; do [ "$(cat $d/serial 2>/dev/null)" = {self.volume_id[:20]} ] && basename $d; done'
        self.device = self.until(lambda: self.ssh(find, ok=False).strip(), 30, "the disk in the guest")
        return f"/dev/{self.device} with serial {self.volume_id[:20]}"

    def write(self) -> str:
        script = f"set -e; dd if=/dev/urandom of=/tmp/data bs=64k count=16 2>/dev/null; sudo dd if=/tmp/data of=/dev/{self.device} bs=64k conv=fsync 2>/dev/null; md5sum < /tmp/data; sudo dd if=/dev/{self.device} bs=64k count=16 iflag=direct 2>/dev/null | md5sum"
        sums = self.ssh(script).split()
        if len(sums) != 4 or sums[0] != sums[2]:
            raise Untrue(f"written and read differ: {sums}")
        return f"1 MiB, md5 {sums[0]}"

    def detach(self) -> None:
        self.openstack("server", "remove", "volume", NAME, NAME)
        self.until(lambda: self.openstack("volume", "show", NAME)["status"] == "available", 60, "the detach")
        if self.ssh(f"cat /sys/block/{self.device}/serial 2>/dev/null || echo gone").strip() != "gone":
            raise Untrue("the guest still has the disk")

    def delete(self) -> None:
        self.clean()
        for kind, rows in zip(
            ("server", "volume", "router"),
            self.together(("server", "list"), ("volume", "list"), ("router", "list")),
            strict=True,
        ):
            if any(row["Name"] == NAME for row in rows):
                raise Untrue(f"a {kind} is left")

    def all(self) -> None:
        print("\nStarting the cloud")
        self.step("stackling up", self.up)
        self.step("look for what an earlier run left", self.clean)
        print("\nLooking around")
        self.step("catalog", self.catalog)
        self.step("flavors", self.flavors)
        self.step("external networks", self.find_external)
        self.step("ready image (built from Debian packages at first start)", self.image)
        print("\nMaking a network")
        self.step("key pair", self.keypair)
        self.step("network and subnet", self.network)
        self.step("router", self.router)
        self.step("security group for ssh and ping", self.rules)
        print("\nBooting a server")
        self.step("server with user data", self.boot)
        self.step("the outside, through SNAT", self.outside)
        self.step("floating IP", self.address)
        self.step("ssh with the key", self.login)
        self.first_ssh = time.time() - self.started
        self.step("user data", self.user_data)
        self.step("metadata service", self.metadata)
        self.step(
            "ping from here",
            lambda: self.run("ping", "-c", "2", "-W", "2", self.floating_ip).splitlines()[-1],
        )
        self.step("console log", self.console)
        print("\nUsing a volume")
        self.step("volume, attached", self.volume)
        self.step("write and read it in the guest", self.write)
        self.step("detach", self.detach)
        print("\nCleaning up")
        self.step("delete all", self.delete)

    def summary(self) -> None:
        print(
            f"\nAll of it happened: {len(self.steps)} steps in {time.time() - self.started:.0f} s; ssh answered after {self.first_ssh:.0f} s."
        )
        print(f"The cloud goes on running.\n  API:          {self.environ['OS_AUTH_URL']}")
        for file in ("clouds.yaml", "openrc"):
            print(
                f"  credentials:  {Path(os.environ.get('STACKLING_PATHS_CONFIG_DIR', '/etc/stackling')) / file}"
            )
        print(f'  by hand:      eval "$({STACKLING} env)"; {OPENSTACK} server list')
        print(f"  stop it:      {STACKLING} down    (--purge: remove everything)")


def _prints(arguments: tuple[str, ...]) -> bool:
    """Whether a client command has output to format."""
    silent = ("delete", "remove", "add", "set", "unset")
    return not any(word in silent for word in arguments[:4])


def main() -> int:
    secrets = Path(tempfile.mkdtemp(prefix="stackling-demo-"))
    demo = Demo(secrets)
    try:
        demo.all()
    except Untrue:
        print(
            f"\nThe demo failed after {time.time() - demo.started:.0f} s. Logs: /var/log/stackling; `{STACKLING} doctor` looks for causes.",
            file=sys.stderr,
        )
        return 1
    finally:
        shutil.rmtree(secrets, ignore_errors=True)
    demo.summary()
    return 0


if __name__ == "__main__":
    sys.exit(main())
