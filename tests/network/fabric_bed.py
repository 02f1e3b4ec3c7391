"""What the tests of fabrics stand on: the fake and OVN behind the same knobs, and a small tenant to ensure."""

import os
import socket
import subprocess
import time
import uuid
from pathlib import Path

from msgspec.structs import replace

from stackling.network.driver import (
    Fabric,
    FixedIP,
    FloatingIP,
    GatewayChassis,
    HostRoute,
    Kind,
    MetadataAddress,
    Network,
    Port,
    PortKind,
    Ref,
    Router,
    RouterGateway,
    RouterInterface,
    SecurityGroup,
    SecurityGroupRule,
    Subnet,
    Thing,
)
from stackling.network.drivers import ovn_acl
from stackling.network.drivers.fake import FakeFabric
from stackling.network.drivers.ovn import OvnFabric

SCHEMAS = Path("/usr/share/ovn")


def new_id() -> str:
    return str(uuid.uuid4())


class FakeBed:
    """The fake, its knobs under the names that the suite uses."""

    real = False

    def __init__(self) -> None:
        self.fabric = FakeFabric()

    def written(self) -> int:
        return len(self.fabric.writes)

    def has(self, kind: Kind, id: str) -> bool:
        return Ref(kind, id) in self.fabric.things

    def forget(self, kind: Kind, id: str) -> None:
        self.fabric.forget(kind, id)

    def spoil(self, port: Port) -> None:
        self.fabric.replace(replace(port, mac_address="02:00:00:00:00:99"))

    def plug(self, port_id: str, up: bool = True) -> None:
        self.fabric.set_up(port_id, up)

    def stop(self) -> None:
        self.fabric.down = True

    def start(self) -> None:
        self.fabric.down = False

    def close(self) -> None:
        self.fabric.close()


TABLES = {
    Kind.NETWORK: "Logical_Switch",
    Kind.PORT: "Logical_Switch_Port",
    Kind.ROUTER: "Logical_Router",
    Kind.FLOATING_IP: "NAT",
    Kind.SECURITY_GROUP: "Port_Group",
}


class OvnBed:
    """OVN's two databases on private sockets, and a fabric that writes them."""

    real = True

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.servers: dict[str, subprocess.Popen[bytes]] = {}
        for name in ("nb", "sb"):
            db = folder / f"{name}.db"
            subprocess.run(
                ["ovsdb-tool", "create", str(db), str(SCHEMAS / f"ovn-{name}.ovsschema")], check=True
            )
        self.start()
        self.nbctl("init")
        self.fabric = OvnFabric(self.remote("nb"), self.remote("sb"), timeout=3.0)

    def remote(self, name: str) -> str:
        return f"unix:{self.folder}/{name}.sock"

    def start(self) -> None:
        for name in ("nb", "sb"):
            sock = self.folder / f"{name}.sock"
            sock.unlink(missing_ok=True)
            command = [
                "ovsdb-server",
                "--no-chdir",
                f"--remote=punix:{sock}",
                f"--unixctl={self.folder}/{name}.ctl",
            ]
            self.servers[name] = subprocess.Popen(
                [*command, "-vconsole:off", str(self.folder / f"{name}.db")],
                env=os.environ | {"OVS_RUNDIR": str(self.folder)},
            )
        until = time.monotonic() + 10
        while not all(self._answers(self.folder / f"{name}.sock") for name in ("nb", "sb")):
            assert time.monotonic() < until
            time.sleep(0.01)

    @staticmethod
    def _answers(path: Path) -> bool:
        """Whether somebody listens; the socket is there a moment before."""
        with socket.socket(socket.AF_UNIX) as wire:
            return wire.connect_ex(str(path)) == 0

    def stop(self) -> None:
        for server in self.servers.values():
            server.kill()
            server.wait()

    def close(self) -> None:
        self.fabric.close()
        self.stop()

    def nbctl(self, *args: str) -> str:
        return self.ctl("ovn-nbctl", "nb", *args)

    def ctl(self, tool: str, name: str, *args: str) -> str:
        command = [tool, f"--db={self.remote(name)}", "--no-leader-only", "--timeout=5", *args]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, (args, done.stderr)
        return done.stdout.strip()

    def column(self, table: str, record: str, column: str) -> str:
        return self.nbctl("--if-exists", "get", table, record, column)

    def written(self) -> int:
        return (self.folder / "nb.db").stat().st_size

    def has(self, kind: Kind, id: str) -> bool:
        return id in self.nbctl("--bare", "--columns=_uuid", "list", TABLES[kind])

    def forget(self, kind: Kind, id: str) -> None:
        match kind:
            case Kind.NETWORK:
                self.nbctl("ls-del", id)
            case Kind.PORT:
                self.nbctl("lsp-del", id)
            case Kind.ROUTER:
                self.nbctl("lr-del", id)
            case Kind.SECURITY_GROUP:
                self.nbctl("pg-del", ovn_acl.group_name(id))
            case Kind.FLOATING_IP:
                router = self.nbctl("--bare", "--columns=name", "find", "Logical_Router", f"nat{{>=}}{id}")
                self.nbctl("remove", "Logical_Router", router, "nat", id)

    def spoil(self, port: Port) -> None:
        self.nbctl("lsp-set-addresses", port.id, "02:00:00:00:00:99")

    def plug(self, port_id: str, up: bool = True) -> None:
        found = self.ctl(
            "ovn-sbctl", "sb", "--bare", "--columns=_uuid", "find", "Port_Binding", f"logical_port={port_id}"
        )
        if found:
            self.ctl("ovn-sbctl", "sb", "set", "Port_Binding", found, f"up={'true' if up else 'false'}")
            return
        key = str(int(port_id[:4], 16) or 1)
        self.ctl(
            "ovn-sbctl", "sb", "--id=@d", "create", "Datapath_Binding", f"tunnel_key={key}",
            "--", "create", "Port_Binding", "datapath=@d", f"logical_port={port_id}", "tunnel_key=1", f"up={'true' if up else 'false'}",
        )  # fmt: skip


class World:
    """A small tenant: a network behind a router with a floating IP, and a security group."""

    def __init__(self) -> None:
        subnet = Subnet(
            id=new_id(), cidr="10.1.0.0/24", ip_version=4, gateway_ip="10.1.0.1", dns_nameservers=("9.9.9.9", "1.1.1.1"),
            host_routes=(HostRoute("10.9.0.0/16", "10.1.0.7"),),
        )  # fmt: skip
        subnet6 = Subnet(
            id=new_id(),
            cidr="fd00:1::/64",
            ip_version=6,
            gateway_ip="fd00:1::1",
            ipv6_address_mode="dhcpv6-stateless",
        )
        metadata = MetadataAddress(mac_address="fa:16:3e:00:00:02", ip_addresses=("10.1.0.2",))
        self.network = Network(
            id=new_id(), dns_domain="example.org.", subnets=(subnet, subnet6), metadata=metadata
        )
        self.outside = Network(
            id=new_id(),
            network_type="vlan",
            physical_network="physnet1",
            segmentation_id=7,
            external=True,
            mtu=1500,
        )
        rules = (
            SecurityGroupRule(id=new_id(), direction="egress"),
            SecurityGroupRule(id=new_id(), direction="egress", ethertype="IPv6"),
            SecurityGroupRule(
                id=new_id(), direction="ingress", protocol="tcp", port_range_min=22, port_range_max=22
            ),
        )
        self.group = SecurityGroup(id=new_id(), rules=rules)
        self.group = replace(
            self.group,
            rules=(
                *rules,
                SecurityGroupRule(id=new_id(), direction="ingress", remote_group_id=self.group.id),
            ),
        )
        self.port = Port(
            id=new_id(), network_id=self.network.id, mac_address="fa:16:3e:00:00:0a",
            fixed_ips=(FixedIP(subnet.id, "10.1.0.10"), FixedIP(subnet6.id, "fd00:1::10")),
            security_group_ids=(self.group.id,), dns_name="Web",
        )  # fmt: skip
        self.leg = Port(
            id=new_id(), network_id=self.network.id, mac_address="fa:16:3e:00:00:01", port_kind=PortKind.ROUTER_INTERFACE,
            fixed_ips=(FixedIP(subnet.id, "10.1.0.1"),),
        )  # fmt: skip
        self.way_out = Port(
            id=new_id(),
            network_id=self.outside.id,
            mac_address="fa:16:3e:00:01:01",
            port_kind=PortKind.ROUTER_GATEWAY,
        )
        self.router = Router(
            id=new_id(),
            interfaces=(
                RouterInterface(
                    port_id=self.leg.id, network_id=self.network.id, mac_address=self.leg.mac_address, networks=("10.1.0.1/24",)
                ),
            ),
            gateway=RouterGateway(
                port_id=self.way_out.id, network_id=self.outside.id, mac_address=self.way_out.mac_address,
                networks=("172.24.4.10/24",), gateway_ips=("172.24.4.1",),
                chassis=(GatewayChassis("host1", 2), GatewayChassis("host2", 1)),
            ),
            snat_cidrs=("10.1.0.0/24",),
            routes=(HostRoute("10.8.0.0/16", "10.1.0.9"),),
        )  # fmt: skip
        self.floating_ip = FloatingIP(
            id=new_id(), router_id=self.router.id, floating_ip_address="172.24.4.20", fixed_ip_address="10.1.0.10",
            port_id=self.port.id,
        )  # fmt: skip

    @property
    def things(self) -> list[Thing]:
        return [
            self.network, self.outside, self.group, self.port, self.leg, self.way_out, self.router, self.floating_ip,
        ]  # fmt: skip

    def ensure(self, fabric: Fabric) -> None:
        for thing in self.things:
            fabric.ensure(thing)
