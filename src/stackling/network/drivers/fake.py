"""A fabric in memory, for tests of the whole cloud: behaves as OVN does, and fails when told to."""

from __future__ import annotations

import threading
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeAlias

import msgspec

from stackling.network.driver import (
    Chassis,
    FabricUnavailable,
    FloatingIP,
    Health,
    Kind,
    NotReady,
    Port,
    PortKind,
    PortState,
    PortWatcher,
    Ref,
    Report,
    Router,
    Thing,
    ref,
)

Write: TypeAlias = tuple[str, Ref]
"""("ensure" or "remove", which thing): a call that changed something."""


class FakeFabric:
    """A `Fabric` in memory. Watchers are called by the thread that caused the change, so tests need not wait.

    Knobs: `down`, `fail_next`, `lose_reply`, `forget` and `replace` (behind its back), `plug`, `unplug`,
    `set_up`. What happened: `things`, `writes`.
    """

    def __init__(self, chassis: Iterable[Chassis] = ()) -> None:
        self.things: dict[Ref, Thing] = {}
        self.writes: list[Write] = []
        self.down = False
        self.chassis: dict[str, Chassis] = {host.name: host for host in chassis}
        self._plugged: dict[str, str | None] = {}
        self._failures: list[Exception] = []
        self._lost_replies = 0
        self._watchers: list[PortWatcher] = []
        self._lock = threading.RLock()

    # --- knobs --------------------------------------------------------------------------------------------

    def fail_next(self, times: int = 1, error: Exception | None = None) -> None:
        """The next calls do nothing and raise `error` (FabricUnavailable by default)."""
        with self._lock:
            self._failures += [error or FabricUnavailable("the fake fabric was told to fail")] * times

    def lose_reply(self, times: int = 1) -> None:
        """The next changing calls do their work, and then raise FabricUnavailable."""
        with self._lock:
            self._lost_replies += times

    def forget(self, kind: Kind, id: str) -> None:
        """Somebody deleted a thing behind the driver's back."""
        with self._lock:
            with self._telling([id]):
                del self.things[Ref(kind, id)]

    def replace(self, thing: Thing) -> None:
        """Somebody altered or added a thing behind the driver's back."""
        with self._lock:
            self.things[ref(thing)] = thing

    def plug(self, port_id: str, chassis: str | None = "fake") -> None:
        """A host plugs a port: it is up as soon as the port exists and may be on that chassis."""
        with self._lock:
            with self._telling([port_id]):
                self._plugged[port_id] = chassis

    def unplug(self, port_id: str) -> None:
        """A host unplugs a port. Not plugged: nothing happens."""
        with self._lock:
            with self._telling([port_id]):
                self._plugged.pop(port_id, None)

    def set_up(self, port_id: str, up: bool = True) -> None:
        """Make a port up or down, as a host would."""
        self.plug(port_id) if up else self.unplug(port_id)

    def ports_up(self) -> dict[str, PortState]:
        """What is true of every port, even while the fabric is down."""
        with self._lock:
            carriers = self._carriers()
            ports = [thing for thing in self.things.values() if isinstance(thing, Port)]
            return {port.id: self._state(port, carriers) for port in ports}

    # --- the protocol -------------------------------------------------------------------------------------

    def ensure(self, thing: Thing) -> None:
        """The thing is exactly as described."""
        with self._lock:
            self._answer()
            self._require(thing, self.things.keys())
            if not self._has(thing, self.things):
                with self._telling([thing.id]):
                    self.things[ref(thing)] = thing
                self.writes.append(("ensure", ref(thing)))
            self._reply()

    def remove(self, kind: Kind, id: str) -> None:
        """The thing is gone, and with a network its ports, with a router its floating IPs."""
        with self._lock:
            self._answer()
            gone = [Ref(kind, id)] if Ref(kind, id) in self.things else []
            if gone:
                self.writes.append(("remove", gone[0]))
            if kind in (Kind.NETWORK, Kind.ROUTER):
                gone += [found for found, thing in self.things.items() if self._needs(thing) == Ref(kind, id)]
            with self._telling([found.id for found in gone]):
                for found in gone:
                    del self.things[found]
            self._reply()

    def ports(self) -> dict[str, PortState]:
        """What is true of every port now."""
        with self._lock:
            self._answer()
            return self.ports_up()

    def resync(self, things: Iterable[Thing], *, repair: bool = True) -> Report:
        """The fabric holds exactly these things."""
        with self._lock:
            self._answer()
            wanted = {ref(thing): thing for thing in things}
            for thing in wanted.values():
                self._require(thing, wanted.keys())
            had = self.things
            if repair:
                with self._telling([key.id for key in wanted.keys() | had.keys() if key.kind is Kind.PORT]):
                    self.things = wanted
                self._reply()
            return Report(
                created=tuple(sorted(wanted.keys() - had.keys())),
                changed=tuple(
                    sorted(key for key in wanted.keys() & had.keys() if not self._has(wanted[key], had))
                ),
                removed=tuple(sorted(had.keys() - wanted.keys())),
            )

    def watch(self, callback: PortWatcher) -> None:
        """Call back with (port id, up) after each change."""
        with self._lock:
            self._watchers.append(callback)

    def check(self) -> Health:
        """Whether the fabric answers."""
        with self._lock:
            if self.down:
                return Health(northbound=False, southbound=False, reason="the fake fabric is down")
            return Health(northbound=True, southbound=True, chassis=tuple(self.chassis.values()))

    def synchronize(self, timeout: float = 10.0) -> None:
        """Everything is in force at once."""
        with self._lock:
            self._answer()

    def close(self) -> None:
        """Forget the watchers; a closed fake can go on being used, as OVN does without us."""
        with self._lock:
            self._watchers.clear()

    # --- inside -------------------------------------------------------------------------------------------

    def _answer(self) -> None:
        if self.down:
            raise FabricUnavailable("the fake fabric is down")
        if self._failures:
            raise self._failures.pop(0)

    def _reply(self) -> None:
        if self._lost_replies:
            self._lost_replies -= 1
            raise FabricUnavailable("the fake fabric did its work and lost the reply")

    def _needs(self, thing: Thing) -> Ref | None:
        if isinstance(thing, Port):
            return Ref(Kind.NETWORK, thing.network_id)
        if isinstance(thing, FloatingIP):
            return Ref(Kind.ROUTER, thing.router_id)
        return None

    def _require(self, thing: Thing, present: Container[Ref]) -> None:
        needs = self._needs(thing)
        if needs is not None and needs not in present:
            raise NotReady(f"{thing.kind} {thing.id} needs {needs.kind} {needs.id}, which is not there yet")

    def _has(self, thing: Thing, things: Mapping[Ref, Thing]) -> bool:
        had = things.get(ref(thing))
        return had is not None and (had == thing or _unordered(had) == _unordered(thing))

    def _state(self, port: Port, carriers: Mapping[str, str]) -> PortState:
        if port.port_kind is PortKind.ROUTER_GATEWAY:
            return PortState(up=True, chassis=carriers.get(port.id))
        if port.port_kind in (PortKind.ROUTER_INTERFACE, PortKind.METADATA):
            return PortState(up=True)
        if port.id not in self._plugged:
            return PortState(up=False)
        chassis = self._plugged[port.id]
        if port.requested_chassis and chassis not in port.requested_chassis:
            return PortState(up=False)
        return PortState(up=True, chassis=chassis)

    def _carriers(self) -> dict[str, str]:
        """Gateway port → the chassis that carries it."""
        gateways = [
            thing.gateway for thing in self.things.values() if isinstance(thing, Router) and thing.gateway
        ]
        return {
            gateway.port_id: max(gateway.chassis, key=lambda chassis: chassis.priority).name
            for gateway in gateways
            if gateway.chassis
        }

    @contextmanager
    def _telling(self, port_ids: Iterable[str]) -> Iterator[None]:
        """Tell the watchers which of these ports a change brought up or down."""
        before = {id: self._is_up(id) for id in port_ids}
        yield
        for id, was in before.items():
            if self._is_up(id) != was:
                for watcher in list(self._watchers):
                    watcher(id, not was)

    def _is_up(self, port_id: str) -> bool:
        port = self.things.get(Ref(Kind.PORT, port_id))
        plugged = isinstance(port, Port) and port.port_kind in (PortKind.SERVER, PortKind.OTHER)
        return plugged and isinstance(port, Port) and self._state(port, {}).up


def _unordered(value: object) -> object:
    """A description without the order of its parts, which means nothing to a fabric."""
    if isinstance(value, msgspec.Struct):
        return type(value), tuple(_unordered(part) for part in msgspec.structs.astuple(value))
    return frozenset(_unordered(part) for part in value) if isinstance(value, tuple) else value
