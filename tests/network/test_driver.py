"""One suite for every fabric: the fake, and OVN on databases of its own (no northd, no hosts)."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from stackling.network.driver import (
    AddressPair,
    FabricError,
    FabricUnavailable,
    FixedIP,
    Kind,
    NotReady,
    Port,
    PortState,
    ref,
)
from stackling.network.drivers.fake import FakeFabric
from tests.network.fabric_bed import FakeBed, OvnBed, World, new_id


@pytest.fixture(params=["fake", pytest.param("ovn", marks=pytest.mark.host)])
def bed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    made: Any = FakeBed() if request.param == "fake" else OvnBed(tmp_path)
    yield made
    made.close()


@pytest.fixture
def world() -> World:
    return World()


def test_ensured_twice_is_written_once(bed: Any, world: World) -> None:
    world.ensure(bed.fabric)
    assert all(bed.has(*ref(thing)) for thing in world.things)
    written = bed.written()
    world.ensure(bed.fabric)
    bed.fabric.ensure(replace(world.group, rules=tuple(reversed(world.group.rules))))
    assert bed.written() == written


def test_removed_twice_is_gone(bed: Any, world: World) -> None:
    world.ensure(bed.fabric)
    for _ in range(2):
        for thing in reversed(world.things):
            bed.fabric.remove(*ref(thing))
    assert not any(bed.has(*ref(thing)) for thing in world.things)
    assert bed.fabric.resync([]).removed == ()


def test_removal_in_any_order(bed: Any, world: World) -> None:
    world.ensure(bed.fabric)
    for thing in world.things:  # the router still has its floating IP, the network its ports
        bed.fabric.remove(*ref(thing))
    assert not any(bed.has(*ref(thing)) for thing in world.things)


def test_ports_and_floating_ips_wait_for_what_they_stand_on(bed: Any, world: World) -> None:
    with pytest.raises(NotReady, match=world.network.id):
        bed.fabric.ensure(world.port)
    with pytest.raises(NotReady, match=world.router.id):
        bed.fabric.ensure(world.floating_ip)


def test_ensured_in_any_order(bed: Any, world: World) -> None:
    for thing in (
        world.router,
        world.floating_ip,
        world.network,
        world.outside,
        world.way_out,
        world.leg,
        world.port,
        world.group,
    ):
        bed.fabric.ensure(thing)
    report = bed.fabric.resync(world.things)
    assert (report.created, report.changed, report.removed) == ((), (), ())


def test_resync_of_what_is_so_writes_nothing(bed: Any, world: World) -> None:
    world.ensure(bed.fabric)
    written = bed.written()
    report = bed.fabric.resync(world.things)
    assert (report.created, report.changed, report.removed) == ((), (), ())
    assert bed.written() == written


@pytest.mark.parametrize("kind", list(Kind))
def test_resync_brings_back_what_was_deleted_behind_its_back(bed: Any, world: World, kind: Kind) -> None:
    world.ensure(bed.fabric)
    lost = next(thing for thing in world.things if thing.kind is kind)
    bed.forget(kind, lost.id)
    report = bed.fabric.resync(world.things)
    assert ref(lost) in report.created
    assert bed.fabric.resync(world.things).created == ()
    written = bed.written()
    world.ensure(bed.fabric)
    assert bed.written() == written


def test_ensure_brings_back_what_was_deleted_behind_its_back(bed: Any, world: World) -> None:
    world.ensure(bed.fabric)
    bed.forget(Kind.PORT, world.port.id)
    bed.fabric.ensure(world.port)
    report = bed.fabric.resync(world.things)
    assert (report.created, report.changed, report.removed) == ((), (), ())


def test_resync_mends_what_was_altered_and_removes_what_is_not_wanted(bed: Any, world: World) -> None:
    world.ensure(bed.fabric)
    bed.spoil(world.port)
    extra = replace(world.port, id=new_id(), dns_name="")
    bed.fabric.ensure(extra)
    report = bed.fabric.resync(world.things)
    assert report.created == ()
    assert ref(world.port) in report.changed
    assert report.removed == (ref(extra),)
    assert not bed.has(Kind.PORT, extra.id)


def test_changes_are_taken_up(bed: Any, world: World) -> None:
    world.ensure(bed.fabric)
    world.port = replace(
        world.port,
        admin_state_up=False,
        security_group_ids=(),
        dns_name="db",
        allowed_address_pairs=(AddressPair("10.1.0.99"),),
    )
    world.router = replace(world.router, gateway=None, routes=())
    world.group = replace(world.group, rules=world.group.rules[:1])
    world.network = replace(world.network, subnets=world.network.subnets[:1], dns_domain="")
    for thing in (world.port, world.router, world.group, world.network):
        bed.fabric.ensure(thing)
    report = bed.fabric.resync(world.things)
    assert (report.created, report.changed, report.removed) == ((), (), ())


def test_ports_come_up_and_watchers_hear_of_it(bed: Any, world: World) -> None:
    world.ensure(bed.fabric)
    heard: list[tuple[str, bool]] = []
    told = threading.Condition()

    def hear(port_id: str, up: bool) -> None:
        with told:
            heard.append((port_id, up))
            told.notify_all()

    bed.fabric.watch(hear)
    assert bed.fabric.ports().get(world.port.id) is None or not bed.fabric.ports()[world.port.id].up
    for up in (True, False):
        bed.plug(world.port.id, up)
        with told:
            assert told.wait_for(lambda: heard[-1:] == [(world.port.id, up)], timeout=5)  # noqa: B023
        assert bed.fabric.ports()[world.port.id].up is up


def test_while_the_fabric_is_down_calls_say_so_and_go_on_after_it(bed: Any, world: World) -> None:
    bed.fabric.ensure(world.network)
    bed.stop()
    with pytest.raises(FabricUnavailable):
        bed.fabric.ensure(world.port)
    with pytest.raises(FabricUnavailable):
        bed.fabric.ports()
    health = bed.fabric.check()
    assert not health.ok
    assert health.reason
    bed.start()
    until = time.monotonic() + 15
    while not bed.fabric.check().ok and time.monotonic() < until:
        time.sleep(0.05)
    bed.fabric.ensure(world.port)
    assert bed.fabric.check().ok
    assert bed.has(Kind.PORT, world.port.id)


def test_watchers_go_on_after_the_fabric_was_down(bed: Any, world: World) -> None:
    world.ensure(bed.fabric)
    heard = threading.Event()
    bed.fabric.watch(lambda port_id, up: heard.set() if (port_id, up) == (world.port.id, True) else None)
    assert not bed.fabric.ports().get(world.port.id, PortState(up=False)).up
    bed.stop()
    bed.start()
    bed.plug(world.port.id)
    assert heard.wait(10)


def test_legs_and_floating_ips_move_to_another_router(bed: Any, world: World) -> None:
    world.ensure(bed.fabric)
    other = replace(world.router, id=new_id(), gateway=None, snat_cidrs=(), routes=())
    bare = replace(world.router, interfaces=())
    moved = replace(world.floating_ip, router_id=other.id)
    for thing in (other, moved, bare):  # the new router takes the leg before the old one lets it go
        bed.fabric.ensure(thing)
    wanted = [
        world.network,
        world.outside,
        world.group,
        world.port,
        world.leg,
        world.way_out,
        bare,
        other,
        moved,
    ]
    report = bed.fabric.resync(wanted)
    assert (report.created, report.changed, report.removed) == ((), (), ())
    bed.fabric.remove(Kind.ROUTER, world.router.id)
    assert bed.has(*ref(moved))


def test_many_threads_share_it(bed: Any, world: World) -> None:
    world.ensure(bed.fabric)
    ports = [
        replace(
            world.port,
            id=new_id(),
            dns_name="",
            fixed_ips=(FixedIP(world.network.subnets[0].id, f"10.1.0.{n}"),),
        )
        for n in range(20, 60)
    ]
    failed: list[BaseException] = []

    def work(mine: list[Port]) -> None:
        try:
            for port in mine:
                bed.fabric.ensure(port)
        except FabricError as wrong:
            failed.append(wrong)

    threads = [threading.Thread(target=work, args=(ports[n::4],)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    report = bed.fabric.resync([*world.things, *ports])
    assert (report.created, report.changed, report.removed) == ((), (), ())


# --- the fake's knobs -------------------------------------------------------------------------------------


def test_the_fake_fails_and_loses_replies_when_told(world: World) -> None:
    fabric = FakeFabric()
    fabric.fail_next(2)
    for _ in range(2):
        with pytest.raises(FabricUnavailable):
            fabric.ensure(world.network)
    assert fabric.things == {}
    fabric.lose_reply()
    with pytest.raises(FabricUnavailable):
        fabric.ensure(world.network)
    assert list(fabric.things) == [ref(world.network)]
    fabric.plug(world.port.id, "host1")
    fabric.ensure(replace(world.port, requested_chassis=("host2",)))
    assert not fabric.ports()[world.port.id].up
    fabric.ensure(world.port)
    assert fabric.ports()[world.port.id].chassis == "host1"


def test_a_comparison_says_what_a_resync_would_do_and_changes_nothing(bed: Any, world: World) -> None:
    for thing in world.things:
        bed.fabric.ensure(thing)
    assert bed.fabric.resync(world.things, repair=False) == bed.fabric.resync(world.things)
    fewer = [thing for thing in world.things if thing.kind is not Kind.FLOATING_IP]
    said = bed.fabric.resync(fewer, repair=False)
    assert {key.kind for key in said.removed} == {Kind.FLOATING_IP}
    assert bed.fabric.resync(world.things, repair=False).created == ()
    assert bed.fabric.resync(fewer) == said
