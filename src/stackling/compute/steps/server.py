"""The life of a server: one function per state, in the order of its life."""

import functools
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import NotFound, Unavailable
from stackling.base.jobs import Machine, Outcome, Step, Wait, done, move, settle, wait
from stackling.compute.actions import instance_action
from stackling.compute.driver import DomainFailed, DomainMissing, HostUnavailable, Hypervisor, Power, Stopped
from stackling.compute.state import block_device
from stackling.compute.state.server import State, Wanted, server
from stackling.compute.steps import holdings
from stackling.compute.steps.holdings import Holdings
from stackling.image.actions import data
from stackling.image.actions import image as images
from stackling.image.export import Exports, ExportUnavailable
from stackling.placement.actions import allocation
from stackling.volume.actions import attachment as attachments
from stackling.volume.actions import volume as volumes
from stackling.volume.driver import BackendUnavailable, VolumeFailed

machine = Machine("compute.server", server)

_LATER = (HostUnavailable, BackendUnavailable, ExportUnavailable, Unavailable)
_NEVER = (DomainFailed, VolumeFailed)
_AGAIN = 2.0  # seconds between two looks when nobody will wake us
_COPY = 6 * 3600  # seconds that copying a disk into an image may take
_AWAY = 10.0  # … when a host does not answer


def _patient(fn: Step) -> Step:
    """Deletion first; trouble of a host is waited out until the time is up; then the server fails with the reason."""

    @functools.wraps(fn)
    def step(row: Row, cloud: Cloud) -> Outcome:
        if row.wanted == Wanted.DELETED:
            return move(State.DELETING)
        try:
            outcome = fn(row, cloud)
        except _NEVER as e:
            return _fail(row, cloud, str(e))
        except _LATER as e:
            outcome = wait(_AGAIN, _says(e))
        limit = cloud.config.compute.boot_timeout if row.state != State.SHELVING else _COPY
        if isinstance(outcome, Wait) and cloud.clock.now() - row.wished_at > timedelta(seconds=limit):
            return _fail(row, cloud, f"Not done within {limit} seconds: {outcome.why}")
        return outcome

    return step


def _says(error: Exception) -> str:
    return getattr(error, "says", None) or str(error)


def _fail(row: Row, cloud: Cloud, why: str) -> Outcome:
    """To ERROR with the reason. One that never ran gives back what it holds; any other keeps it for a hard reboot."""
    where = f" on host {row.host}" if row.host and row.host not in why else ""
    says = {
        State.BUILDING: "Build of instance failed while its volumes were made",
        State.SPAWNING: f"Build of instance failed{where}",
        State.STARTING: f"Start failed{where}",
        State.RESTARTING: f"Reboot failed{where}",
    }.get(State(row.state), f"Failed{where}")
    message = f"{says}: {why}"
    columns: dict[str, Any] = {
        "fault": {"code": 500, "message": message, "details": f"state={row.state} host={row.host}"},
        "fault_at": cloud.clock.now(),
    }
    never_ran = row.state in (State.BUILDING, State.SPAWNING)

    if row.state == State.SHELVING:
        columns["shelf"] = None

    def then(tx: Tx) -> None:
        instance_action.finish(tx, cloud, row.id, row.host, error=message)
        # What failed is not tried again until its owner asks.
        _grant(tx, row, Wanted.PAUSED, Wanted.SUSPENDED, Wanted.REBUILT, Wanted.RESCUED, Wanted.SHELVED)
        if row.state == State.SHELVING and row.shelf:
            images.forget(tx, cloud, row.shelf)

    return (
        move(State.CLEANING, then=then, **columns) if never_ran else settle(State.ERROR, then=then, **columns)
    )


def _grant(tx: Tx, row: Row, *wishes: Wanted, now_wanted: Wanted = Wanted.RUNNING) -> None:
    """The wish has been taken up, unless there is a newer one."""
    tx.execute(
        sa.update(server).where(server.c.id == row.id, server.c.wanted.in_(wishes)).values(wanted=now_wanted)
    )


def _held(cloud: Cloud, row: Row) -> Holdings:
    with cloud.db.read() as tx:
        return holdings.of(tx, cloud, row)


def _owner(cloud: Cloud, row: Row) -> Caller:
    """The owner, for what the cloud does on its behalf after the request has ended."""
    roles = frozenset({"member", "reader"})
    return Caller(policy=cloud.policy, user_id=row.user_id, project_id=row.project_id, roles=roles)


# -- being built -------------------------------------------------------------------------------------------------------


@machine.step(State.BUILDING, within=None)
@_patient
def build(row: Row, cloud: Cloud) -> Outcome:
    """Wait for the volumes that were ordered with the server, and reserve each when it is there."""
    owner = _owner(cloud, row)
    with cloud.db.begin() as tx:
        for device in block_device.of(tx, row.id):
            if device.destination != "volume" or device.attachment_id:
                continue
            try:
                volume = volumes.get(tx, owner, device.volume_id)
            except NotFound:
                return _fail(row, cloud, f"volume {device.volume_id} was deleted while it was being made")
            if "error" in volume.state:
                return _fail(
                    row, cloud, f"volume {device.volume_id} could not be made: it is in state {volume.state}"
                )
            if volume.state != "available":
                return wait(_AGAIN, f"volume {device.volume_id} is in state {volume.state}")
            held = attachments.reserve(
                tx, cloud, owner, device.volume_id, row.id, device=f"/dev/{device.device}"
            )
            table = block_device.block_device
            tx.execute(sa.update(table).where(table.c.id == device.id).values(attachment_id=held.id))
    return move(State.SPAWNING)


@machine.step(
    *(State.SPAWNING, State.STARTING, State.RESTARTING, State.UNPAUSING, State.RESUMING),
    *(State.RESPAWNING, State.RESCUE_BOOTING, State.UNRESCUE_BOOTING, State.UNSHELVING),
    within=None,
)
@_patient
def switch_on(row: Row, cloud: Cloud) -> Outcome:
    """The domain is there, runs, and its ports are up."""
    if row.wanted == Wanted.RESET:
        return move(State.RESETTING, then=lambda tx: _grant(tx, row, Wanted.RESET))
    held = _held(cloud, row)
    hypervisor = cloud.driver(Hypervisor, row.host)
    hypervisor.ensure(holdings.describe(cloud, row, held))
    power = hypervisor.power(row.id)
    if power is not Power.ON:
        return wait(1, f"the domain is {power or 'missing'} on host {row.host}")
    if down := [p for p in _held(cloud, row).wanted_plugs if not p.up]:
        named = ", ".join(f"{p.port_id} (network {p.network_name})" for p in down)
        return wait(1, f"port {named} is not up on host {row.host}; is the network agent there running?")
    now = cloud.clock.now()

    def then(tx: Tx) -> None:
        holdings.settle(tx, cloud, row, held)
        instance_action.finish(tx, cloud, row.id, row.host)
        if row.shelf:
            images.forget(tx, cloud, row.shelf)  # its host keeps what it stands on

    columns: dict[str, Any] = {
        "power": Power.ON,
        "shelf": None,
        "fault": None,
        "fault_at": None,
        "launched_at": row.launched_at or now,
    }
    if row.launched_at is not None:
        columns["admin_pass"] = None  # the first boot has read it
    # There may be a newer wish, or one that what was done now was only the first half of.
    return move(State.RESCUED if row.state == State.RESCUE_BOOTING else State.ACTIVE, then=then, **columns)


# -- running -----------------------------------------------------------------------------------------------------------


@machine.step(State.ACTIVE, within=None)
def active(row: Row, cloud: Cloud) -> Outcome:
    """Take up what the owner wants, see whether the guest still runs, and have its devices be those wanted."""
    match row.wanted:
        case Wanted.DELETED:
            return move(State.DELETING)
        case Wanted.STOPPED:
            return move(State.STOPPING)
        case Wanted.REBOOTED:
            return move(State.REBOOTING, then=lambda tx: _grant(tx, row, Wanted.REBOOTED))
        case Wanted.RESET:
            return move(State.RESETTING, then=lambda tx: _grant(tx, row, Wanted.RESET))
        case Wanted.PAUSED:
            return move(State.PAUSING)
        case Wanted.SUSPENDED:
            return move(State.SUSPENDING)
        case Wanted.REBUILT | Wanted.RESCUED | Wanted.SHELVED:
            return move(_REMADE[row.wanted])
    try:
        hypervisor = cloud.driver(Hypervisor, row.host)
        power = hypervisor.power(row.id)
        if power in (Power.OFF, Power.CRASHED, None):
            return _found_off(row, cloud, power, hypervisor)
        return _fit_devices(row, cloud, hypervisor, running=True, power=power)
    except _LATER as e:
        return wait(_AWAY if cloud.clock.now() - row.wished_at > timedelta(seconds=60) else _AGAIN, _says(e))


def _found_off(row: Row, cloud: Cloud, power: Power | None, hypervisor: Hypervisor) -> Outcome:
    """Nobody asked, but it does not run: stopped by its guest it stays off, stopped by the host it starts again."""
    seen = hypervisor.observe().get(row.id)
    if seen is not None and seen.power is Power.ON:
        return wait(0, "the domain has started meanwhile")
    now = cloud.clock.now()
    if seen is None or seen.stopped is Stopped.HOST:

        def then(tx: Tx) -> None:
            instance_action.record(tx, cloud, None, row.id, "start")
            _grant(tx, row, Wanted.PAUSED)  # its memory is lost, so there is nothing left to keep still
            tx.execute(sa.update(server).where(server.c.id == row.id).values(wished_at=now))

        if row.state == State.RESCUED:
            return move(State.RESCUE_BOOTING, then=then, power=Power.OFF)
        return move(State.STARTING, then=then, power=Power.OFF)

    def stopped(tx: Tx) -> None:
        instance_action.record(tx, cloud, None, row.id, "stop")
        instance_action.finish(tx, cloud, row.id, row.host, "stop")
        _grant(tx, row, Wanted.RUNNING, Wanted.PAUSED, now_wanted=Wanted.STOPPED)

    return settle(State.STOPPED, then=stopped, power=seen.power)


def _fit_devices(
    row: Row, cloud: Cloud, hypervisor: Hypervisor, *, running: bool, power: Power | None
) -> Outcome:
    """The host's disks and NICs are those wanted; what could never be attached is given back."""
    held = _held(cloud, row)
    try:
        hypervisor.ensure(holdings.describe(cloud, row, held, running=running))
    except _NEVER as e:
        if not held.attaching:
            return wait(_AWAY, str(e))
        says = str(e)

        def refused(tx: Tx) -> None:
            holdings.take_back(tx, cloud, row, held)
            instance_action.finish(tx, cloud, row.id, row.host, "attach_volume", error=says)

        return move(State(row.state), then=refused)

    if (
        running and power is Power.PAUSED
    ):  # nobody can ask for that: QEMU pauses a guest whose disk can't be written
        return wait(_AWAY, f"the guest was paused on host {row.host}; is a disk there full?", power=power)

    def then(tx: Tx) -> None:
        holdings.settle(tx, cloud, row, held)
        instance_action.finish(
            tx,
            cloud,
            row.id,
            row.host,
            "attach_volume",
            "detach_volume",
            "attach_interface",
            "detach_interface",
        )

    return done(then=then, **({"power": power} if power != row.power else {}))


@machine.step(State.REBOOTING, within=None)
@_patient
def shut_down_to_reboot(row: Row, cloud: Cloud) -> Outcome:
    """A soft reboot: the guest powers itself off; one that does not is switched off."""
    if row.wanted == Wanted.RESET:
        return move(State.RESETTING, then=lambda tx: _grant(tx, row, Wanted.RESET))
    return _shut_down(row, cloud) or move(State.RESTARTING)


# Where a wish leads that begins with switching off, and where those go on from there that cut the power.
_REMADE = {
    Wanted.REBUILT: State.REBUILDING,
    Wanted.RESCUED: State.RESCUING,
    Wanted.SHELVED: State.SHELVING,
}
_AFTER_CUT = {
    State.RESETTING: State.RESTARTING,
    State.REBUILDING: State.RESPAWNING,
    State.RESCUING: State.RESCUE_BOOTING,
    State.UNRESCUING: State.UNRESCUE_BOOTING,
}


@machine.step(*_AFTER_CUT, within=None)
@_patient
def cut_power(row: Row, cloud: Cloud) -> Outcome:
    """Off at once, then made anew from its description: a hard reboot, with new disks, or from another image."""
    cloud.driver(Hypervisor, row.host).power_off(row.id)

    def then(tx: Tx) -> None:
        if row.state == State.REBUILDING:
            was_off = row.power == Power.OFF
            _grant(tx, row, Wanted.REBUILT, now_wanted=Wanted.STOPPED if was_off else Wanted.RUNNING)

    # Whether it was off before it is rebuilt is looked up in `power`, so that stays until it runs again.
    columns = {} if row.state == State.REBUILDING else {"power": Power.OFF}
    return move(_AFTER_CUT[State(row.state)], then=then, **columns)


def _shut_down(row: Row, cloud: Cloud) -> Outcome | None:
    """None when it is off."""
    hypervisor = cloud.driver(Hypervisor, row.host)
    if hypervisor.power(row.id) in (Power.OFF, None):
        return None
    if cloud.clock.now() - row.wished_at > timedelta(seconds=cloud.config.compute.shutdown_timeout):
        hypervisor.power_off(row.id)
        return None
    hypervisor.shut_down(row.id)
    return (
        None
        if hypervisor.power(row.id) in (Power.OFF, None)
        else wait(1, "the guest has not powered itself off yet")
    )


# -- paused, suspended, rescued ---------------------------------------------------------------------------------------


@machine.step(State.PAUSING, within=None)
@_patient
def pause(row: Row, cloud: Cloud) -> Outcome:
    """The machine stands still; one that has stopped meanwhile is looked at anew."""
    try:
        cloud.driver(Hypervisor, row.host).pause(row.id)
    except DomainMissing:
        return move(State.ACTIVE, then=lambda tx: _grant(tx, row, Wanted.PAUSED))

    def then(tx: Tx) -> None:
        instance_action.finish(tx, cloud, row.id, row.host, "pause")

    return settle(State.PAUSED, then=then, power=Power.PAUSED)


@machine.step(State.SUSPENDING, within=None)
@_patient
def suspend(row: Row, cloud: Cloud) -> Outcome:
    """Its memory goes to its host's disk; one that has stopped meanwhile is looked at anew."""
    try:
        if not cloud.driver(Hypervisor, row.host).suspend(row.id):
            return wait(1, "the guest's memory is being written")
    except DomainMissing:
        return move(State.ACTIVE, then=lambda tx: _grant(tx, row, Wanted.SUSPENDED))

    def then(tx: Tx) -> None:
        instance_action.finish(tx, cloud, row.id, row.host, "suspend")

    return settle(State.SUSPENDED, then=then, power=Power.OFF)


@machine.step(State.PAUSED, State.RESCUED, within=None)
def still(row: Row, cloud: Cloud) -> Outcome:
    """Stays so, with the devices that are wanted, until its owner wants something else."""
    match row.wanted:
        case Wanted.DELETED:
            return move(State.DELETING)
        case Wanted.RUNNING:
            return move(State.UNPAUSING if row.state == State.PAUSED else State.UNRESCUING)
        case Wanted.SHELVED:
            return move(State.SHELVING)
        case Wanted.RESET:
            return move(State.RESETTING, then=lambda tx: _grant(tx, row, Wanted.RESET))
    try:
        hypervisor = cloud.driver(Hypervisor, row.host)
        power = hypervisor.power(row.id)
        if power in (Power.OFF, Power.CRASHED, None):
            return _found_off(row, cloud, power, hypervisor)
        return _fit_devices(row, cloud, hypervisor, running=False, power=power)
    except _LATER as e:
        return wait(_AWAY, _says(e))


@machine.step(State.SUSPENDED, within=None)
def suspended(row: Row, cloud: Cloud) -> Outcome:
    """Nothing of it may change, for its memory knows its devices."""
    match row.wanted:
        case Wanted.DELETED:
            return move(State.DELETING)
        case Wanted.RUNNING:
            return move(State.RESUMING)
        case Wanted.SHELVED:
            return move(State.SHELVING)
        case Wanted.RESET:
            return move(State.RESETTING, then=lambda tx: _grant(tx, row, Wanted.RESET))
    return done()


# -- shelved -----------------------------------------------------------------------------------------------------------


@machine.step(State.SHELVING, within=None)
@_patient
def shelve(row: Row, cloud: Cloud) -> Outcome:
    """Off, and its root disk copied into its image; a server that boots from a volume has none to copy."""
    hypervisor = cloud.driver(Hypervisor, row.host)
    if row.power != Power.ON:
        hypervisor.power_off(row.id)  # a paused guest hears nothing, and a suspended one's memory goes
    elif waits := _shut_down(row, cloud):
        return waits
    if row.shelf:
        exports = cloud.driver(Exports, row.host)
        with cloud.db.read() as tx:
            image = images.found(tx, row.shelf)
        if image is None:
            return _fail(row, cloud, f"its image {row.shelf} was deleted while it was made")
        if image.state != images.State.ACTIVE and not (
            hypervisor.export_disk(row.id, row.shelf) and data.bring_in(cloud, exports, row.shelf)
        ):
            return wait(1, "its disk is being copied into an image")
        exports.remove(row.shelf)
    return move(State.OFFLOADING, power=Power.OFF)


@machine.step(State.OFFLOADING, within=None)
def offload(row: Row, cloud: Cloud) -> Outcome:
    """Its host is free of it; ports and volumes stay its own."""
    if row.wanted == Wanted.DELETED:
        return move(State.DELETING)
    if waits := _remove_domain(row, cloud):
        return waits

    def then(tx: Tx) -> None:
        allocation.release(tx, row.id)
        instance_action.finish(tx, cloud, row.id, row.host, "shelve")

    return settle(State.SHELVED_OFFLOADED, then=then, host=None, power=None)


@machine.step(State.SHELVED_OFFLOADED, within=None)
def shelved(row: Row, cloud: Cloud) -> Outcome:
    """On no host, until a host was chosen for it."""
    if row.wanted == Wanted.DELETED:
        return move(State.DELETING)
    return move(State.UNSHELVING) if row.wanted == Wanted.RUNNING else done()


# -- stopped -----------------------------------------------------------------------------------------------------------


@machine.step(State.STOPPING, within=None)
@_patient
def stop(row: Row, cloud: Cloud) -> Outcome:
    def then(tx: Tx) -> None:
        instance_action.finish(tx, cloud, row.id, row.host, "stop")

    return _shut_down(row, cloud) or settle(State.STOPPED, then=then, power=Power.OFF)


@machine.step(State.STOPPED, within=None)
def stopped(row: Row, cloud: Cloud) -> Outcome:
    """Off, and ready to be switched on with the devices that are wanted then."""
    match row.wanted:
        case Wanted.DELETED:
            return move(State.DELETING)
        case Wanted.RUNNING:
            return move(State.STARTING)
        case Wanted.RESET:
            return move(State.RESETTING, then=lambda tx: _grant(tx, row, Wanted.RESET))
        case Wanted.REBUILT | Wanted.RESCUED | Wanted.SHELVED:
            return move(_REMADE[row.wanted])
    try:
        hypervisor = cloud.driver(Hypervisor, row.host)
        if hypervisor.power(row.id) is Power.ON:
            hypervisor.power_off(row.id)
        return _fit_devices(row, cloud, hypervisor, running=False, power=hypervisor.power(row.id))
    except _LATER as e:
        return wait(_AWAY, _says(e))


# -- in trouble --------------------------------------------------------------------------------------------------------


@machine.step(State.CLEANING, within=None)
def clean(row: Row, cloud: Cloud) -> Outcome:
    """A server that could not be built gives back what it held; the row stays for its owner to read why."""
    if row.wanted == Wanted.DELETED:
        return move(State.DELETING)
    if waits := _remove_domain(row, cloud):
        return waits
    return settle(State.ERROR, then=lambda tx: holdings.release(tx, cloud, row), host=None, power=None)


@machine.step(State.ERROR, within=None)
def error(row: Row, cloud: Cloud) -> Outcome:
    """A hard reboot or a stop may help; else it waits for its owner."""
    if row.wanted == Wanted.DELETED:
        return move(State.DELETING)
    if row.host and row.wanted == Wanted.RESET:
        return move(State.RESETTING, then=lambda tx: _grant(tx, row, Wanted.RESET))
    if row.host and row.wanted == Wanted.STOPPED:
        return move(State.STOPPING)
    if row.host and row.wanted in _REMADE:
        return move(_REMADE[row.wanted])
    return done()


# -- the end -----------------------------------------------------------------------------------------------------------


@machine.step(State.DELETING, within=None)
def delete(row: Row, cloud: Cloud) -> Outcome:
    """First the domain, so that nothing given back is still in use; then all else in one transaction."""
    if waits := _remove_domain(row, cloud):
        return waits
    now = cloud.clock.now()

    def then(tx: Tx) -> None:
        holdings.release(tx, cloud, row)
        if row.shelf:
            images.forget(tx, cloud, row.shelf)
        instance_action.finish(tx, cloud, row.id, row.host)

    return settle(State.DELETED, then=then, terminated_at=now, power=None, user_data=None, admin_pass=None)


def _remove_domain(row: Row, cloud: Cloud) -> Outcome | None:
    """None when the host has no such domain any more."""
    if row.host is None:
        return None
    try:
        cloud.driver(Hypervisor, row.host).remove(row.id)
    except _LATER as e:
        says = f"Deletion waits for host {row.host}: {_says(e)}. It goes on by itself when the host is back."
        fault: Mapping[str, Any] = row.fault or {"code": 503, "message": says, "details": ""}
        return wait(_AWAY, says, **({} if row.fault else {"fault": fault, "fault_at": cloud.clock.now()}))
    return None
