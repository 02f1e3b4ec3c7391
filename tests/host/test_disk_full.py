"""Disks of a real cloud are full: it says so, nothing breaks or is left over, and work goes on when there is space."""

import base64
import itertools
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.host.cloud_client import COMMAND, STATE, HostCloud, leaks, nbctl, run, until

# openstacksdk warns of what it will change in itself.
pytestmark = pytest.mark.filterwarnings("default")
MIB = 1 << 20
SIZES = {STATE: 1200, Path("/var/lib/ovn"): 64, Path("/var/log/stackling"): 64}  # MiB
# More than its disk has space for, then less, and a word on the console when all of it is written.
GREEDY = "#!/bin/sh\nyes 0123456789abcdef | head -c 60000000 > /var/big; sync; echo GREEDY WAS FED > /dev/console\n"


@contextmanager
def full(place: Path, but: int = 0) -> Iterator[None]:
    """The file system of `place`, a tmpfs of the simulated host, has no more than `but` MiB free."""
    run("mount", "-o", f"remount,size={SIZES[place]}m", str(place))
    ballast = place / ".ballast"
    with ballast.open("wb") as file:
        found = os.statvfs(place)
        os.posix_fallocate(file.fileno(), 0, found.f_bavail * found.f_frsize - but * MIB)
    try:
        yield
    finally:
        ballast.unlink()


@pytest.fixture(scope="module")
def cloud() -> Iterator[HostCloud]:
    made = HostCloud()
    made.up()
    made.image()
    yield made
    made.command("down", "--purge", ok=False)
    made.forget()


class Plain:
    """Requests without the SDK, which would try again on 503."""

    def __init__(self, cloud: HostCloud) -> None:
        self.token = {"X-Auth-Token": cloud.sdk.auth_token}
        self.base = cloud.base

    def ask(self, method: str, path: str, **more: Any) -> requests.Response:
        headers = self.token | more.pop("headers", {})
        return requests.request(method, self.base + path, headers=headers, timeout=60, **more)


@pytest.fixture
def plain(cloud: HostCloud) -> Plain:
    return Plain(cloud)


def test_a_full_state_directory_is_told_and_reading_goes_on(cloud: HostCloud, plain: Plain) -> None:
    made = []
    with full(STATE):
        for number in range(500):  # SQLite's log has some space of its own
            answer = plain.ask("POST", "/network/v2.0/networks", json={"network": {"name": f"full{number}"}})
            if answer.status_code != 201:
                break
            made.append(answer.json()["network"]["id"])
        assert answer.status_code == 503
        said = answer.json()["NeutronError"]["message"]
        assert "disk of the cloud is full" in said
        assert "stackling doctor" in said
        for path in ("/network/v2.0/networks", "/compute/v2.1/servers/detail", "/image/v2/images"):
            assert plain.ask("GET", path).status_code == 200
        parts = {
            part["name"]: part for part in json.loads(run(COMMAND, "status", "--json", ok=False))["parts"]
        }
        assert not parts["disk"]["healthy"]
        assert "free space there" in parts["disk"]["why"]
        found = {one["name"]: one for one in json.loads(run(COMMAND, "doctor", "--json", ok=False))["host"]}
        assert found["disk"]["severity"] == "error"
        assert "free some" in found["disk"]["do"]
    for id in made:
        assert plain.ask("DELETE", f"/network/v2.0/networks/{id}").status_code == 204
    assert plain.ask("POST", "/network/v2.0/networks", json={"network": {}}).status_code == 201
    cloud.healthy()


def test_an_upload_that_does_not_fit_is_refused_and_leaves_nothing(cloud: HostCloud, plain: Plain) -> None:
    wanted = {"name": "big", "disk_format": "raw", "container_format": "bare"}
    path = f"/image/v2/images/{plain.ask('POST', '/image/v2/images', json=wanted).json()['id']}"
    octets = {"Content-Type": "application/octet-stream"}
    before = sorted(os.listdir(STATE / "images"))
    pieces = itertools.repeat(os.urandom(MIB), 40)
    with full(STATE, but=16):
        answer = plain.ask("PUT", path + "/file", headers=octets, data=pieces)
        assert answer.status_code == 413
        assert "disk is full" in answer.text
        told = plain.ask("PUT", path + "/file", headers=octets, data=os.urandom(40 * MIB))
        assert told.status_code == 413
        assert "not enough disk space" in told.text
        assert plain.ask("GET", path).json()["status"] == "queued"
        assert sorted(os.listdir(STATE / "images")) == before
    pieces = itertools.repeat(os.urandom(MIB), 40)
    assert plain.ask("PUT", path + "/file", headers=octets, data=pieces).status_code == 204
    assert plain.ask("GET", path).json()["status"] == "active"
    assert plain.ask("DELETE", path).status_code == 204


def test_a_snapshot_waits_for_space_and_is_made_then(cloud: HostCloud) -> None:
    storage = cloud.sdk.block_storage
    volume = storage.create_volume(size=1, name="late", image_id=cloud.image().id)
    until(lambda: storage.get_volume(volume.id).status == "available", 60, "the volume")
    with full(STATE, but=16):
        snapshot = storage.create_snapshot(name="late", volume_id=volume.id)
        waits = "SELECT why FROM job WHERE kind = 'volume.snapshot'"
        until(lambda: "No space left" in (cloud.rows(waits)[0][0] or ""), 30, "its job says why it waits")
        assert storage.get_snapshot(snapshot.id).status == "creating"
        until(lambda: not list(STATE.glob("node/volumes/**/*.part")), 10, "what did not fit is gone", 0.01)
    until(lambda: storage.get_snapshot(snapshot.id).status == "available", 60, "the snapshot")
    storage.delete_snapshot(snapshot.id)
    cloud.gone(storage.get_snapshot, snapshot.id)
    storage.delete_volume(volume.id)
    cloud.gone(storage.get_volume, volume.id)


def test_a_volume_that_can_not_fit_fails_with_the_reason(cloud: HostCloud, plain: Plain) -> None:
    storage = cloud.sdk.block_storage
    with full(STATE, but=16):
        volume = storage.create_volume(size=1, name="never")
        until(lambda: storage.get_volume(volume.id).status == "error", 30, "the error")
        headers = {"OpenStack-API-Version": "volume 3.3"}
        said = plain.ask("GET", f"/volume/v3/messages?resource_uuid={volume.id}", headers=headers).json()
        assert "GiB" in said["messages"][0]["user_message"], said
        storage.delete_volume(volume.id)
        cloud.gone(storage.get_volume, volume.id)


def test_a_guest_that_fills_the_disk_pauses_and_goes_on(cloud: HostCloud) -> None:
    sdk = cloud.sdk
    network = sdk.network.create_network(name="full")
    sdk.network.create_subnet(network_id=network.id, ip_version=4, cidr="10.8.0.0/24")
    made = sdk.compute.create_server(
        name="greedy",
        image_id=cloud.image().id,
        flavor_id=sdk.compute.find_flavor("m1.nano").id,
        networks=[{"uuid": network.id}],
        user_data=base64.b64encode(GREEDY.encode()).decode(),
    )
    cloud.wait(made.id, "ACTIVE")

    def paused() -> bool:
        return "paused (I/O error)" in run(
            "virsh", "--connect", "qemu:///system", "domstate", "--reason", made.id
        )

    with full(STATE, but=40):
        until(paused, 90, "the guest paused")
        assert cloud.server(made.id).status == "ACTIVE"
    until(
        lambda: "GREEDY WAS FED" in sdk.compute.get_server_console_output(made.id)["output"],
        120,
        "it went on",
    )
    until(lambda: cloud.server(made.id).power_state == 1, 30, "the cloud knows that it runs")
    sdk.compute.delete_server(made.id)
    cloud.gone(sdk.compute.get_server, made.id)
    sdk.network.delete_network(network.id)
    for left in sdk.network.networks(name=""):
        sdk.network.delete_network(left.id)
    cloud.clean()
    until(lambda: leaks(cloud) == {}, 20, lambda: str(leaks(cloud)))


def test_a_full_disk_of_ovn_is_waited_out(cloud: HostCloud) -> None:
    with full(Path("/var/lib/ovn")):
        made = [cloud.sdk.network.create_network(name=f"ovn-full{number}").id for number in range(20)]
        disks = {part["address"]: part for part in cloud.status() if part["name"] == "disk"}
        assert "/var/lib/ovn has 0 MiB left" in disks["/var/lib/ovn"]["why"]
        stuck = "SELECT why FROM job WHERE kind = 'network.network' AND why LIKE '%No space left%'"
        until(lambda: cloud.rows(stuck), 10, "their jobs say why they wait")
        assert made[-1] not in nbctl("ls-list")
    until(lambda: all(id in nbctl("ls-list") for id in made), 40, "the networks in OVN")
    cloud.healthy()
    for id in made:
        cloud.sdk.network.delete_network(id)
    cloud.clean()


def test_a_full_disk_of_logs_costs_only_logs(cloud: HostCloud, plain: Plain) -> None:
    with full(Path("/var/log/stackling")):
        for _ in range(200):
            assert plain.ask("GET", "/compute/v2.1/flavors").status_code == 200
        network = plain.ask("POST", "/network/v2.0/networks", json={"network": {}}).json()["network"]
        assert plain.ask("DELETE", f"/network/v2.0/networks/{network['id']}").status_code == 204
    cloud.clean()


def test_up_on_a_full_disk_says_which(cloud: HostCloud) -> None:
    cloud.command("down")
    for place in (STATE, Path("/var/log/stackling")):
        with full(place):
            said = run_wrong("up")
            assert f"the disk of {place} is full; free space there" in said
    cloud.up()
    cloud.healthy()


def run_wrong(*arguments: str) -> str:
    """What a command that can't work says."""
    done = subprocess.run([COMMAND, *arguments], capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 1, done
    assert "Traceback" not in done.stderr
    return done.stderr
