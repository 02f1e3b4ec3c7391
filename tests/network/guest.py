"""Guests made of network namespaces, the daemons they need, and the raw packets they send."""

import subprocess
import sys
import textwrap


def sh(*command: str, check: bool = True) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    assert not check or done.returncode == 0, (command, done.stderr)
    return done.stdout


def start_daemons() -> None:
    """Open vSwitch and OVN at their default paths; they end with the simulated host."""
    quiet = ("--pidfile", "--detach", "--log-file", "-vconsole:off")
    databases = {
        "/etc/openvswitch/conf.db": ("/usr/share/openvswitch/vswitch.ovsschema", "/run/openvswitch/db.sock"),
        "/var/lib/ovn/nb.db": ("/usr/share/ovn/ovn-nb.ovsschema", "/run/ovn/ovnnb_db.sock"),
        "/var/lib/ovn/sb.db": ("/usr/share/ovn/ovn-sb.ovsschema", "/run/ovn/ovnsb_db.sock"),
    }
    sh("mkdir", "-p", "/run/openvswitch", "/run/ovn")
    for database, (schema, sock) in databases.items():
        sh("ovsdb-tool", "create", database, schema)
        name = sock.rsplit("/", 1)[1].removesuffix(".sock")
        own = () if name == "db" else (f"--pidfile=/run/ovn/{name}.pid", f"--unixctl=/run/ovn/{name}.ctl")
        sh("ovsdb-server", database, f"--remote=punix:{sock}", *quiet, *own)
    chassis = (
        "system-id=host1",
        "hostname=host1",
        "ovn-remote=unix:/run/ovn/ovnsb_db.sock",
        "ovn-encap-type=geneve",
    )
    chassis += (
        "ovn-encap-ip=127.0.0.1",
        "ovn-bridge-datapath-type=netdev",
        "ovn-bridge-mappings=physnet1:br-ex",
    )
    sh(
        "ovs-vsctl",
        "--no-wait",
        "init",
        "--",
        "set",
        "open",
        ".",
        *(f"external_ids:{pair}" for pair in chassis),
    )
    sh("ovs-vswitchd", "unix:/run/openvswitch/db.sock", *quiet)
    for daemon in ("ovn-northd", "ovn-controller"):
        sh(daemon, *quiet, f"--log-file=/var/log/ovn/{daemon}.log")


class Guest:
    """A network namespace behind an OVS internal port."""

    def __init__(
        self, name: str, bridge: str, mac: str, *addresses: str, port: str = "", gateway: str = ""
    ) -> None:
        self.name = name
        sh("ip", "netns", "add", name)
        link = f"i-{name}"
        add = ["ovs-vsctl", "add-port", bridge, link, "--", "set", "interface", link, "type=internal"]
        sh(*add, *([f"external_ids:iface-id={port}"] if port else []))
        sh("ip", "link", "set", link, "netns", name)
        self.run("ip", "link", "set", link, "name", "eth0", check=False)
        self.run("ip", "link", "set", "eth0", "address", mac, "mtu", "1442", "up")
        self.run("ip", "link", "set", "lo", "up")
        for address in addresses:
            self.run("ip", "address", "add", address, "dev", "eth0")
        if gateway:
            self.run("ip", "route", "add", "default", "via", gateway)

    def run(self, *command: str, check: bool = True) -> str:
        return sh("ip", "netns", "exec", self.name, *command, check=check)

    def pings(self, address: str, *options: str, tries: int = 3) -> bool:
        return "bytes from" in self.run(
            "ping", "-c", str(tries), "-i", "0.2", "-W", "1", *options, address, check=False
        )

    def python(self, code: str, *args: str) -> str:
        return self.run(sys.executable, "-c", textwrap.dedent(code), *args).strip()

    def serve(self, port: int, address: str = "") -> "subprocess.Popen[bytes]":
        """A server that tells each caller which address it sees."""
        code = """
            import socket, sys
            with socket.create_server((sys.argv[2], int(sys.argv[1]))) as s:
                print("ready", flush=True)
                while True:
                    c, peer = s.accept()
                    c.sendall(peer[0].encode()); c.close()
        """
        command = [
            "ip",
            "netns",
            "exec",
            self.name,
            sys.executable,
            "-c",
            textwrap.dedent(code),
            str(port),
            address,
        ]
        server = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert server.stdout is not None
        server.stdout.readline()
        return server

    def seen_by(self, address: str, port: int) -> str:
        """The address under which a server there sees us; empty when it can't be reached."""
        code = """
            import socket, sys
            try:
                with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=1.5) as c:
                    print(c.makefile().read())
            except OSError:
                pass
        """
        return self.python(code, address, str(port))


DHCP = """
    import json, os, socket, struct, sys, time
    mac = bytes.fromhex(sys.argv[1].replace(":", ""))
    def checksum(data):
        s = sum(struct.unpack("!%dH" % (len(data) // 2), data))
        while s >> 16:
            s = (s & 0xFFFF) + (s >> 16)
        return ~s & 0xFFFF
    xid = os.urandom(4)
    bootp = struct.pack("!BBBB4sHH", 1, 1, 6, 0, xid, 0, 0x8000) + bytes(16) + mac + bytes(10) + bytes(192)
    bootp += bytes.fromhex("63825363") + bytes([53, 1, 1, 55, 7, 1, 3, 6, 15, 26, 51, 121, 255])
    udp = struct.pack("!HHHH", 68, 67, 8 + len(bootp), 0) + bootp
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, bytes(4), b"\\xff" * 4)
    head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
    s.bind(("eth0", 0)); s.settimeout(1)
    until = time.time() + 8
    while time.time() < until:
        s.send(b"\\xff" * 6 + mac + b"\\x08\\x00" + head + udp)
        try:
            frame = s.recv(2000)
            while frame[46:50] != xid or frame[42] != 2:
                frame = s.recv(2000)
        except TimeoutError:
            continue
        options, at = {}, 42 + 240
        while frame[at] != 255:
            if frame[at] == 0:
                at += 1
                continue
            options[frame[at]] = frame[at + 2 : at + 2 + frame[at + 1]].hex()
            at += 2 + frame[at + 1]
        print(json.dumps({"ip": socket.inet_ntoa(frame[42 + 16 : 42 + 20]), "options": options}))
        break
"""

DNS = """
    import socket, sys
    name = b"".join(bytes([len(p)]) + p.encode() for p in sys.argv[1].split(".")) + b"\\0"
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(1)
    for _ in range(4):
        s.sendto(b"\\x12\\x34\\x01\\0\\0\\x01\\0\\0\\0\\0\\0\\0" + name + b"\\0\\x01\\0\\x01", ("9.9.9.9", 53))
        try:
            print(socket.inet_ntoa(s.recv(500)[-4:]))
            break
        except TimeoutError:
            pass
"""
