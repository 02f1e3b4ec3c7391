"""Kill any process of a real cloud at any moment: what was asked for is done or fails with a reason, and nothing leaks.

STACKLING_CHAOS_SECONDS says how long (60), STACKLING_CHAOS_SEED repeats a run; every failure names its seed.
"""

import contextlib
import os
import random
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openstack
import pytest

from tests.host.cloud_client import PIDFILES, STATE, HostCloud, leaks, run, until

SECONDS = float(os.environ.get("STACKLING_CHAOS_SECONDS", "60"))
SEED = int(os.environ.get("STACKLING_CHAOS_SEED", random.SystemRandom().randrange(10**6)))
# virtlogd holds the other end of consoles: without it guests live on, but their later output is lost.
VICTIMS = ["supervisor", "worker", "qemu", *(name for name in PIDFILES if name != "virtlogd")]
NAME = "chaos"
# openstacksdk warns of what it will change in itself.
pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(scope="module")
def cloud() -> Iterator[HostCloud]:
    made = HostCloud()
    made.up()
    made.image()
    yield made
    made.command("down", "--purge", ok=False)
    made.forget()


class Life:
    """What a user does with a cloud in a few seconds, in spite of everything."""

    def __init__(self, cloud: HostCloud, chance: random.Random) -> None:
        self.cloud, self.sdk, self.chance = cloud, cloud.sdk, chance
        self.wrong: list[str] = []  # answers that a cloud must never give

    def live(self) -> None:
        """Create, use and delete. A step that fails is left out, as are those that need it."""
        sdk = self.sdk
        public = self.do(lambda: sdk.network.find_network("public"))
        network = self.do(lambda: sdk.network.create_network(name=NAME))
        subnet = network and self.do(
            lambda: sdk.network.create_subnet(
                name=NAME, network_id=network.id, ip_version=4, cidr="10.7.0.0/24"
            )
        )
        volume = self.do(
            lambda: sdk.block_storage.create_volume(size=1, name=NAME, image_id=self.cloud.image().id)
        )
        server = network and self.do(lambda: self.server(network.id))
        router = public and self.do(
            lambda: sdk.network.create_router(name=NAME, external_gateway_info={"network_id": public.id})
        )
        if router and subnet:
            self.do(lambda: sdk.network.add_interface_to_router(router, subnet_id=subnet.id))
        if server:
            self.soon(lambda: sdk.compute.get_server(server.id).status == "ACTIVE")
        if server and volume:
            self.soon(lambda: sdk.block_storage.get_volume(volume.id).status == "available")
            self.do(lambda: sdk.compute.create_volume_attachment(server.id, volume_id=volume.id))
            port = self.do(lambda: next(iter(sdk.network.ports(device_id=server.id)), None))
            if port and public:
                self.do(lambda: sdk.network.create_ip(floating_network_id=public.id, port_id=port.id))
            self.do(lambda: sdk.block_storage.create_snapshot(name=NAME, volume_id=volume.id, force=True))
            self.do(lambda: sdk.compute.reboot_server(server.id, "HARD"))
            self.soon(lambda: sdk.compute.get_server(server.id).status == "ACTIVE")
            self.do(lambda: sdk.compute.delete_volume_attachment(server.id, volume.id))
        if server and self.chance.random() < 0.5:
            self.do(lambda: sdk.compute.delete_server(server.id))

    def server(self, network: str) -> Any:
        flavor = self.sdk.compute.find_flavor("m1.nano").id
        return self.sdk.compute.create_server(
            name=NAME, image_id=self.cloud.image().id, flavor_id=flavor, networks=[{"uuid": network}]
        )

    def do(self, act: Callable[[], Any]) -> Any:
        """One request. The cloud may be away or refuse; it may not break."""
        try:
            return act()
        except openstack.exceptions.HttpException as e:
            if (getattr(e, "status_code", None) or 0) >= 500 and e.status_code != 503:
                self.wrong.append(str(e))
        except (openstack.exceptions.SDKException, AssertionError, ConnectionError):
            pass
        except Exception as e:
            if "ConnectFailure" not in type(e).__name__ and "Connection" not in type(e).__name__:
                raise
        return None

    def soon(self, true: Callable[[], bool]) -> None:
        """Wait a little; what doesn't come in time is not waited for."""
        deadline = time.monotonic() + 4
        while time.monotonic() < deadline and not self.do(true):
            time.sleep(0.1)

    # -- afterwards ------------------------------------------------------------------------------------------------

    def unfinished(self) -> list[str]:
        """What is neither done nor failed with a reason."""
        found = []
        for server in self.sdk.compute.servers(name=NAME):
            if server.status not in ("ACTIVE", "SHUTOFF", "ERROR") or server.task_state:
                found.append(f"server {server.id} {server.status} {server.task_state}")
            elif server.status == "ERROR" and not (server.fault or {}).get("message"):
                found.append(f"server {server.id} failed without a reason")
        for volume in self.sdk.block_storage.volumes(name=NAME):
            if volume.status not in ("available", "in-use", "error"):
                found.append(f"volume {volume.id} {volume.status}")
        for snapshot in self.sdk.block_storage.snapshots(name=NAME):
            if snapshot.status not in ("available", "error"):
                found.append(f"snapshot {snapshot.id} {snapshot.status}")
        return found

    def delete_all(self) -> bool:
        """Delete what is there; whether nothing was."""
        sdk, left = self.sdk, 0
        for listed, delete in (
            (sdk.compute.servers(name=NAME), sdk.compute.delete_server),
            (sdk.block_storage.snapshots(name=NAME), sdk.block_storage.delete_snapshot),
            (sdk.block_storage.volumes(name=NAME), sdk.block_storage.delete_volume),
            (sdk.network.ips(), sdk.network.delete_ip),
            (sdk.network.routers(name=NAME), self._delete_router),
            (sdk.network.networks(name=NAME), sdk.network.delete_network),
        ):
            for one in listed:
                left += 1
                with contextlib.suppress(
                    openstack.exceptions.ConflictException, openstack.exceptions.BadRequestException
                ):
                    delete(one.id)  # what others still use goes in the next turn
        return left == 0

    def _delete_router(self, id: str) -> None:
        for port in self.sdk.network.ports(device_id=id, device_owner="network:router_interface"):
            self.sdk.network.remove_interface_from_router(id, port_id=port.id)
        self.sdk.network.delete_router(id)


def kill(cloud: HostCloud, victim: str) -> None:
    if victim == "qemu":
        for pid in cloud.guests().values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    else:
        cloud.kill(victim)


@pytest.mark.timeout(SECONDS + 200)
def test_whatever_is_killed_nothing_is_lost_and_nothing_leaks(cloud: HostCloud) -> None:
    sys.stdout.write(f"STACKLING_CHAOS_SEED={SEED}\n")
    chance = random.Random(SEED)
    end, victims, turn = time.monotonic() + SECONDS, [], 0
    while time.monotonic() < end:
        victims = victims or chance.sample(VICTIMS, len(VICTIMS))
        turn += 1
        # Mostly one; sometimes two at once.
        dying = {victims.pop() for _ in range(1 if chance.random() < 0.7 else 2) if victims}
        moment = chance.uniform(0, 3)
        says = f"seed {SEED}, turn {turn}, killed {sorted(dying)} after {moment:.2f} s"
        sys.stdout.write(f"{time.strftime('%H:%M:%S')} {says}\n")
        life = Life(cloud, chance)
        killers = [threading.Timer(moment, kill, (cloud, victim)) for victim in dying]
        for killer in killers:
            killer.start()
        life.live()
        for killer in killers:
            killer.join()
        cloud.command("up")
        assert life.wrong == [], says
        until(
            lambda life=life: life.unfinished() == [],
            60,
            lambda life=life, says=says: f"{says}: {life.unfinished()}",
        )
        until(life.delete_all, 60, lambda says=says: f"{says}: all deleted", 0.3)
        until(lambda: leaks(cloud) == {}, 30, lambda says=says: f"{says}: {leaks(cloud)}", 0.3)
        cloud.clean()


def test_what_a_cloud_had_running_ends_with_it(cloud: HostCloud, tmp_path: Path) -> None:
    """A download of packages for the ready image, which here never ends."""
    endless = tmp_path / "apt-get"
    endless.write_text("#!/bin/sh\nexec sleep 4321\n")
    endless.chmod(0o755)

    def downloads() -> set[str]:
        return set(run("pgrep", "-f", "sleep 4321", ok=False).split())

    run("mount", "--bind", str(endless), "/usr/bin/apt-get")
    try:
        cloud.command("down")
        shutil.rmtree(STATE / "ready-image")
        cloud.command("up")
        until(downloads, 10, "a download")
        cloud.command("down")
        assert downloads() == set()
        cloud.command("up")
        for victim in ("worker", "supervisor"):
            old = until(downloads, 10, "a download")
            cloud.kill(victim)
            if victim == "supervisor":
                cloud.command("up")
            until(
                lambda was=old: downloads() and not downloads() & was,
                15,
                "another download in place of the one before",
            )
        cloud.command("down")
        assert downloads() == set()
    finally:
        run("umount", "/usr/bin/apt-get")
