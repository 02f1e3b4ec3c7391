"""A whole real cloud: its first five minutes, what breaks it, and its end."""

import base64
import http.server
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from stackling.node.daemon import executable
from tests.host.cloud_client import LOG, HostCloud, leaks, nbctl, run, traces, until

# openstacksdk warns of what it will change in itself.
pytestmark = pytest.mark.filterwarnings("default")
USER_DATA = '#!/bin/sh\necho "user data ran on $(hostname)" > /run/seen-user-data\n'
METADATA = "timeout 5 wget -q -O - http://169.254.169.254/openstack/latest/meta_data.json"


class Guest:
    """A server that can be reached, and what it stands on."""

    def __init__(self, cloud: HostCloud) -> None:
        self.cloud, sdk = cloud, cloud.sdk
        cloud.key.touch(mode=0o600)
        cloud.key.write_text(sdk.compute.create_keypair(name="life").private_key)
        self.network = sdk.network.create_network(name="life")
        self.subnet = sdk.network.create_subnet(
            network_id=self.network.id, ip_version=4, cidr="10.20.30.0/24"
        )
        self.external = sdk.network.find_network("public", ignore_missing=False)
        gateway = {"network_id": self.external.id}
        self.router = sdk.network.create_router(name="life", external_gateway_info=gateway)
        sdk.network.add_interface_to_router(self.router, subnet_id=self.subnet.id)
        self.group = sdk.network.create_security_group(name="life")
        for more in ({"protocol": "tcp", "port_range_min": 22, "port_range_max": 22}, {"protocol": "icmp"}):
            sdk.network.create_security_group_rule(
                security_group_id=self.group.id, direction="ingress", **more
            )
        self.began = time.monotonic()
        made = sdk.compute.create_server(
            name="life",
            image_id=cloud.image().id,
            flavor_id=sdk.compute.find_flavor("m1.nano").id,
            networks=[{"uuid": self.network.id}],
            key_name="life",
            security_groups=[{"name": "life"}],
            user_data=base64.b64encode(USER_DATA.encode()).decode(),
            metadata={"purpose": "test"},
        )
        self.id = made.id
        cloud.wait(self.id, "ACTIVE")
        self.port = next(iter(sdk.network.ports(device_id=self.id))).id
        self.floating = sdk.network.create_ip(floating_network_id=self.external.id, port_id=self.port)
        self.address = self.floating.floating_ip_address
        self.volume = sdk.block_storage.create_volume(size=1, name="life")

    def answers(self, within: float = 90) -> None:
        until(lambda: self.ssh("echo in", ok=False) == "in", within, f"ssh to {self.address}", 0.5)

    def ssh(self, command: str, *, ok: bool = True) -> str:
        return self.cloud.ssh(self.address, command, ok=ok)

    def metadata(self) -> Any:
        return json.loads(self.ssh(METADATA))

    @property
    def pid(self) -> int:
        return self.cloud.guests()[self.id]


@pytest.fixture(scope="module")
def before() -> dict[str, set[str]]:
    return traces()


@pytest.fixture(scope="module")
def cloud(before: dict[str, set[str]]) -> Iterator[HostCloud]:
    made = HostCloud()
    yield made
    made.command("down", "--purge", ok=False)
    made.forget()
    made.key.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def guest(cloud: HostCloud) -> Guest:
    return Guest(cloud)


# The tests below are one life, told in order.


def test_an_empty_host_comes_up_and_a_second_up_changes_nothing(cloud: HostCloud) -> None:
    assert "is up" in cloud.up()
    pids = {part["name"]: part["address"] for part in cloud.status()}
    began = time.monotonic()
    assert "is up already" in cloud.command("up")
    assert time.monotonic() - began < 3
    assert {part["name"]: part["address"] for part in cloud.status()} == pids


def test_status_and_doctor_find_all_well(cloud: HostCloud) -> None:
    parts = {part["name"]: part for part in json.loads(cloud.command("status", "--json"))["parts"]}
    assert {"stackling", "database", "worker", "network", "host host1", "libvirtd", "ovs-vswitchd"} <= set(
        parts
    )
    assert all(part["healthy"] for part in parts.values())
    found = json.loads(cloud.command("doctor", "--json"))
    assert found["cloud"] == []
    assert found["running"]


def test_a_server_answers_ssh_at_its_floating_ip(guest: Guest) -> None:
    guest.answers()
    assert time.monotonic() - guest.began < 60
    until(
        lambda: guest.ssh("cat /run/seen-user-data", ok=False) == "user data ran on life", 20, "the user data"
    )
    run("ping", "-c", "1", "-W", "3", guest.address)


def test_it_learns_of_itself_from_the_metadata_service(guest: Guest) -> None:
    told = guest.metadata()
    assert (told["uuid"], told["name"], told["meta"]) == (guest.id, "life", {"purpose": "test"})
    assert len(told["public_keys"]) == 1


def test_without_a_floating_ip_it_reaches_the_outside_as_its_router(cloud: HostCloud, guest: Guest) -> None:
    seen: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.client_address[0])
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"hello\n")

        def log_message(self, *_: Any) -> None:
            pass

    outside = next(iter(cloud.sdk.network.subnets(network_id=guest.external.id))).gateway_ip
    router = cloud.sdk.network.get_router(guest.router.id)
    mine = router.external_gateway_info["external_fixed_ips"][0]["ip_address"]
    with http.server.ThreadingHTTPServer((outside, 0), Handler) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        fetch = f"while sleep 1; do timeout 5 wget -q -O - http://{outside}:{web.server_port}/ >> /tmp/outside; done"
        guest.ssh(f"(trap '' HUP; {fetch}) > /dev/null 2>&1 &")
        cloud.sdk.network.update_ip(guest.floating.id, port_id=None)
        try:
            until(lambda: mine in seen, 15, f"a request from {mine}")
        finally:
            cloud.sdk.network.update_ip(guest.floating.id, port_id=guest.port)
        web.shutdown()
    guest.answers(20)
    guest.ssh("killall sh", ok=False)
    assert "hello" in guest.ssh("cat /tmp/outside")


def test_its_console_is_kept(cloud: HostCloud, guest: Guest) -> None:
    log = cloud.sdk.compute.get_server_console_output(guest.id)["output"]
    assert "stackling:" in log


def test_a_volume_comes_and_goes_under_it(cloud: HostCloud, guest: Guest) -> None:
    storage, compute = cloud.sdk.block_storage, cloud.sdk.compute
    id = guest.volume.id
    until(lambda: storage.get_volume(id).status == "available", 20, "the volume")
    compute.create_volume_attachment(guest.id, volume_id=id)
    until(lambda: storage.get_volume(id).status == "in-use", 20, "the attachment")
    find = f'for d in /sys/block/*; do [ "$(cat $d/serial 2>/dev/null)" = {id[:20]} ] && basename $d; done'
    device = until(lambda: guest.ssh(find, ok=False), 20, "the disk in the guest")
    write = f"dd if=/dev/urandom of=/tmp/d bs=64k count=4 2>/dev/null; sudo dd if=/tmp/d of=/dev/{device} bs=64k conv=fsync 2>/dev/null"
    sums = guest.ssh(
        f"{write}; md5sum < /tmp/d; sudo dd if=/dev/{device} bs=64k count=4 iflag=direct 2>/dev/null | md5sum"
    ).split()
    assert sums[0] == sums[2]
    compute.delete_volume_attachment(guest.id, id)
    until(lambda: storage.get_volume(id).status == "available", 40, "the detach")
    assert guest.ssh(f"cat /sys/block/{device}/serial 2>/dev/null || echo gone") == "gone"
    cloud.clean()


def test_what_is_changed_in_ovn_behind_its_back_is_named_and_repaired(cloud: HostCloud, guest: Guest) -> None:
    port = guest.port
    nbctl("--if-exists", "lsp-del", port)
    nbctl(
        "lr-nat-del",
        f"neutron-{guest.router.id}" if f"neutron-{guest.router.id}" in nbctl("lr-list") else guest.router.id,
    )
    nbctl("ls-add", "of-nobody", "--", "set", "logical_switch", "of-nobody", "external_ids:mine=yes")
    found = cloud.findings()
    assert any(port in one["says"] and "missing" in one["says"] for one in found), found
    assert any(guest.floating.id in one["says"] or guest.router.id in one["says"] for one in found), found
    assert all(one["fixed"] for one in cloud.findings(fix=True))
    cloud.clean()
    guest.answers(20)
    assert "of-nobody" in nbctl("ls-list"), "rows of others in OVN stay"
    nbctl("ls-del", "of-nobody")


@pytest.mark.parametrize(
    "name",
    [
        "worker",
        "libvirtd",
        "ovs-vswitchd",
        "ovsdb-server",
        "ovn-nb",
        "ovn-sb",
        "ovn-northd",
        "ovn-controller",
    ],
)
def test_what_dies_comes_back_by_itself_and_work_goes_on(cloud: HostCloud, guest: Guest, name: str) -> None:
    old, qemu = cloud.pid(name), guest.pid
    assert old is not None
    cloud.kill(name)
    until(lambda: cloud.pid(name) not in (None, old), 30, f"{name} again", 0.2)
    cloud.healthy()
    network = cloud.sdk.network.create_network(name="later")
    cloud.sdk.network.create_subnet(network_id=network.id, ip_version=4, cidr="10.99.0.0/24")
    cloud.sdk.network.delete_network(network.id)
    cloud.clean()
    guest.answers(30)
    assert guest.pid == qemu


def test_its_process_comes_back_however_often_it_is_killed(cloud: HostCloud, guest: Guest) -> None:
    for _ in range(3):
        old = cloud.pid("worker")
        cloud.kill("worker")
        until(lambda was=old: cloud.pid("worker") not in (None, was), 15, "another worker")
    until(lambda: cloud.findings() == [], 20, "answers")
    assert LOG.read_text().count('"worker.died"') >= 3


def test_a_guest_whose_qemu_is_killed_runs_again(cloud: HostCloud, guest: Guest) -> None:
    old = guest.pid
    os.kill(old, signal.SIGKILL)
    until(lambda: cloud.guests().get(guest.id) not in (None, old), 15, "another QEMU")
    cloud.wait(guest.id, "ACTIVE")
    guest.answers()
    cloud.clean()


def test_down_leaves_the_guest_running_and_up_adopts_it(cloud: HostCloud, guest: Guest) -> None:
    pid = guest.pid
    assert "1 guest goes on running" in cloud.command("down")
    assert cloud.pid("supervisor") is None
    assert guest.pid == pid
    assert guest.ssh("echo still in") == "still in"
    cloud.up()
    cloud.wait(guest.id, "ACTIVE")
    assert guest.pid == pid
    assert guest.metadata()["uuid"] == guest.id
    cloud.clean()


def test_a_guest_that_powers_itself_off_is_shut_off(cloud: HostCloud, guest: Guest) -> None:
    guest.ssh("(sleep 1; sudo poweroff -f) > /dev/null 2>&1 &")  # ssh must not wait for a guest that is gone
    cloud.wait(guest.id, "SHUTOFF", within=20)
    assert guest.id not in cloud.guests()


def test_all_is_deleted_and_nothing_stays_on_the_host(cloud: HostCloud, guest: Guest) -> None:
    sdk = cloud.sdk
    sdk.compute.delete_server(guest.id)
    cloud.gone(sdk.compute.get_server, guest.id)
    sdk.network.delete_ip(guest.floating)
    sdk.network.remove_interface_from_router(guest.router, subnet_id=guest.subnet.id)
    sdk.network.delete_router(guest.router)
    sdk.network.delete_network(guest.network)
    sdk.network.delete_security_group(guest.group)
    sdk.block_storage.delete_volume(guest.volume.id)
    cloud.gone(sdk.block_storage.get_volume, guest.volume.id)
    sdk.compute.delete_keypair("life")
    cloud.key.unlink()
    cloud.clean()
    until(lambda: leaks(cloud) == {}, 20, lambda: str(leaks(cloud)))


def test_purge_leaves_the_host_as_it_was(cloud: HostCloud, before: dict[str, set[str]]) -> None:
    sdk = cloud.sdk
    network = sdk.network.create_network(name="left")
    sdk.network.create_subnet(network_id=network.id, ip_version=4, cidr="10.1.0.0/24")
    sdk.block_storage.create_volume(size=1, name="left")
    made = sdk.compute.create_server(
        name="left",
        image_id=cloud.image().id,
        flavor_id=sdk.compute.find_flavor("m1.nano").id,
        networks=[{"uuid": network.id}],
    )
    cloud.wait(made.id, "ACTIVE")
    qemu = cloud.guests()[made.id]
    assert "Nothing of it is left" in cloud.command("down", "--purge")
    assert executable(qemu) is None
    after = traces()
    assert {kind: sorted(after[kind] - before[kind]) for kind in after} == {kind: [] for kind in after}
    assert {kind: sorted(before[kind] - after[kind]) for kind in after if kind != "processes"} == {
        kind: [] for kind in after if kind != "processes"
    }
