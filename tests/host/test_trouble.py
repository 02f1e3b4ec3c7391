"""Parts of a real cloud are away for a while: it says which and what to do, and work goes on by itself when they are back."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from stackling.node.services import Services
from tests.host.cloud_client import COMMAND, STATE, HostCloud, leaks, nbctl, run, traces, until

# openstacksdk warns of what it will change in itself.
pytestmark = pytest.mark.filterwarnings("default")
DATABASES = {
    Path("/var/lib/openvswitch/conf.db"): "/usr/share/openvswitch/vswitch.ovsschema",
    Path("/var/lib/ovn/ovnnb_db.db"): "/usr/share/ovn/ovn-nb.ovsschema",
    Path("/var/lib/ovn/ovnsb_db.db"): "/usr/share/ovn/ovn-sb.ovsschema",
}


@contextmanager
def broken(program: str) -> Iterator[None]:
    """A program that ends at once whenever it is started."""
    run("mount", "--bind", "/bin/false", program)
    try:
        yield
    finally:
        run("umount", program)


@pytest.fixture(scope="module")
def before() -> dict[str, set[str]]:
    """The host as it was, with databases of Open vSwitch and OVN that were there before any cloud."""
    # Daemons that other tests of the run share would hold those files.
    Services(Path("/run/stackling"), STATE, host=os.environ["SIMULATED_HOST"]).purge()
    for file, schema in DATABASES.items():
        run("ovsdb-tool", "create", str(file), schema)
        file.with_name(f".{file.name}.~lock~").unlink(missing_ok=True)
    return traces()


@pytest.fixture(scope="module")
def cloud(before: dict[str, set[str]]) -> Iterator[HostCloud]:
    made = HostCloud()
    made.up()
    made.image()
    yield made
    made.command("down", "--purge", ok=False)
    made.forget()


def said_by_status(name: str) -> str:
    """What `stackling status` says of a part that is not well; empty when it is."""
    parts = json.loads(run(COMMAND, "status", "--json", ok=False))["parts"]
    return next((str(part["why"]) for part in parts if part["name"] == name and not part["healthy"]), "")


def order(cloud: HostCloud) -> tuple[Any, Any]:
    """A server on a network of its own, asked for."""
    network = cloud.sdk.network.create_network(name="trouble")
    cloud.sdk.network.create_subnet(network_id=network.id, ip_version=4, cidr="10.5.0.0/24")
    server = cloud.sdk.compute.create_server(
        name="trouble",
        image_id=cloud.image().id,
        flavor_id=cloud.sdk.compute.find_flavor("m1.nano").id,
        networks=[{"uuid": network.id}],
    )
    return network, server


@pytest.mark.parametrize(
    ("name", "program", "part", "says"),
    [
        ("libvirtd", "/usr/sbin/libvirtd", "libvirtd", "libvirtd ended with status 1 while starting"),
        ("ovn-nb", "/usr/sbin/ovsdb-server", "ovn-nb", "ended with status 1 while starting"),
        ("ovs-vswitchd", "/usr/sbin/ovs-vswitchd", "ovs-vswitchd", "ended with status 1 while starting"),
    ],
)
def test_what_is_asked_while_a_daemon_can_not_run_is_done_when_it_can(
    cloud: HostCloud, name: str, program: str, part: str, says: str
) -> None:
    sdk = cloud.sdk
    with broken(str(Path(program).resolve())):
        cloud.kill(name)
        until(lambda: says in said_by_status(part), 30, lambda: f"{part}: {said_by_status(part)}", 0.5)
        network, server = order(cloud)
        status = cloud.server(server.id).status
        assert status == "BUILD"
        cloud.sdk.network.get_network(network.id)
    cloud.wait(server.id, "ACTIVE", within=90)
    cloud.healthy()
    sdk.compute.delete_server(server.id)
    cloud.gone(sdk.compute.get_server, server.id)
    sdk.network.delete_network(network.id)
    cloud.clean()
    until(lambda: leaks(cloud) == {}, 20, lambda: str(leaks(cloud)))


def test_doctor_names_a_kvm_that_only_seems_to_work(cloud: HostCloud) -> None:
    host = {one["name"]: one for one in json.loads(run(COMMAND, "doctor", "--json", ok=False))["host"]}
    found = next(one for name, one in host.items() if "kvm" in name.lower() or "virtual" in name.lower())
    if found["ok"]:
        pytest.skip("KVM works here")
    assert found["severity"] == "warning"
    assert "TCG" in found["says"] + found["do"]


def test_a_purge_killed_half_way_is_finished_by_the_next(
    cloud: HostCloud, before: dict[str, set[str]]
) -> None:
    """What was there before, as databases of Open vSwitch and OVN, stays, without anything of ours in it."""
    network, server = order(cloud)
    cloud.wait(server.id, "ACTIVE", within=90)
    assert network.id in nbctl("ls-list")
    for seconds in (1.0, 2.0, 3.0):
        purge = subprocess.Popen(
            [COMMAND, "down", "--purge"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            purge.wait(seconds)
        except subprocess.TimeoutExpired:
            purge.kill()
            purge.wait()
    assert "Nothing of it is left" in cloud.command("down", "--purge")
    assert not STATE.exists() or not list(STATE.iterdir())
    after = traces()
    assert {kind: sorted(after[kind] - before[kind]) for kind in after} == {kind: [] for kind in after}
    for file in DATABASES:
        assert file.exists(), f"{file} was there before"
    for file, tables in (
        (
            "/var/lib/ovn/ovnnb_db.db",
            ("Logical_Switch", "Logical_Router", "DHCP_Options", "ACL", "Port_Group"),
        ),
        ("/var/lib/ovn/ovnsb_db.db", ("Chassis",)),
        ("/var/lib/openvswitch/conf.db", ("Bridge", "Port", "Interface")),
    ):
        for table in tables:
            assert rows_of(Path(file), table) == [], f"{table} of {file}"


def rows_of(file: Path, table: str) -> list[Any]:
    """What stands in a table of a database file that nobody serves."""
    name = run("ovsdb-tool", "db-name", str(file)).strip()
    query = json.dumps([name, {"op": "select", "table": table, "where": []}])
    return list(json.loads(run("ovsdb-tool", "query", str(file), query))[0]["rows"])
