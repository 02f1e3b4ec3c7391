"""A server's state in upstream's words: made of what it is and what its owner wants."""

from typing import Any, NamedTuple

from stackling.compute.state.server import State, Wanted

POWER = {None: 0, "on": 1, "paused": 3, "off": 4, "crashed": 6}


class Status(NamedTuple):
    """`status` is what most clients look at; the other two are the OS-EXT-STS attributes."""

    status: str
    vm_state: str
    task_state: str | None


_TASKS = {
    (State.ACTIVE, Wanted.STOPPED): Status("ACTIVE", "active", "powering-off"),
    (State.ACTIVE, Wanted.REBOOTED): Status("REBOOT", "active", "rebooting"),
    (State.ACTIVE, Wanted.RESET): Status("HARD_REBOOT", "active", "rebooting_hard"),
    (State.STOPPED, Wanted.RUNNING): Status("SHUTOFF", "stopped", "powering-on"),
    (State.STOPPED, Wanted.RESET): Status("HARD_REBOOT", "stopped", "rebooting_hard"),
    (State.ACTIVE, Wanted.PAUSED): Status("ACTIVE", "active", "pausing"),
    (State.PAUSED, Wanted.RUNNING): Status("PAUSED", "paused", "unpausing"),
    (State.ACTIVE, Wanted.SUSPENDED): Status("ACTIVE", "active", "suspending"),
    (State.SUSPENDED, Wanted.RUNNING): Status("SUSPENDED", "suspended", "resuming"),
    (State.PAUSED, Wanted.RESET): Status("HARD_REBOOT", "paused", "rebooting_hard"),
    (State.SUSPENDED, Wanted.RESET): Status("HARD_REBOOT", "suspended", "rebooting_hard"),
    (State.ACTIVE, Wanted.RESCUED): Status("ACTIVE", "active", "rescuing"),
    (State.STOPPED, Wanted.RESCUED): Status("SHUTOFF", "stopped", "rescuing"),
    (State.ERROR, Wanted.RESCUED): Status("ERROR", "error", "rescuing"),
    (State.ACTIVE, Wanted.SHELVED): Status("ACTIVE", "active", "shelving"),
    (State.STOPPED, Wanted.SHELVED): Status("SHUTOFF", "stopped", "shelving"),
    (State.PAUSED, Wanted.SHELVED): Status("PAUSED", "paused", "shelving"),
    (State.SUSPENDED, Wanted.SHELVED): Status("SUSPENDED", "suspended", "shelving"),
    (State.SHELVED_OFFLOADED, Wanted.RUNNING): Status("SHELVED_OFFLOADED", "shelved_offloaded", "unshelving"),
    (State.RESCUED, Wanted.RUNNING): Status("RESCUE", "rescued", "unrescuing"),
    (State.ACTIVE, Wanted.REBUILT): Status("REBUILD", "active", "rebuilding"),
    (State.STOPPED, Wanted.REBUILT): Status("REBUILD", "stopped", "rebuilding"),
    (State.ERROR, Wanted.REBUILT): Status("REBUILD", "error", "rebuilding"),
    (State.ERROR, Wanted.RESET): Status("HARD_REBOOT", "error", "rebooting_hard"),
    (State.ERROR, Wanted.STOPPED): Status("ERROR", "error", "powering-off"),
}
_PLAIN = {
    State.BUILDING: Status("BUILD", "building", "block_device_mapping"),
    State.SPAWNING: Status("BUILD", "building", "spawning"),
    State.ACTIVE: Status("ACTIVE", "active", None),
    State.REBOOTING: Status("REBOOT", "active", "rebooting"),
    State.RESETTING: Status("HARD_REBOOT", "active", "rebooting_hard"),
    State.RESTARTING: Status("REBOOT", "active", "reboot_started"),
    State.STOPPING: Status("ACTIVE", "active", "powering-off"),
    State.PAUSING: Status("ACTIVE", "active", "pausing"),
    State.PAUSED: Status("PAUSED", "paused", None),
    State.UNPAUSING: Status("PAUSED", "paused", "unpausing"),
    State.SUSPENDING: Status("ACTIVE", "active", "suspending"),
    State.SUSPENDED: Status("SUSPENDED", "suspended", None),
    State.RESUMING: Status("SUSPENDED", "suspended", "resuming"),
    State.REBUILDING: Status("REBUILD", "active", "rebuilding"),
    State.RESPAWNING: Status("REBUILD", "active", "rebuild_spawning"),
    State.RESCUING: Status("ACTIVE", "active", "rescuing"),
    State.RESCUE_BOOTING: Status("ACTIVE", "active", "rescuing"),
    State.RESCUED: Status("RESCUE", "rescued", None),
    State.UNRESCUING: Status("RESCUE", "rescued", "unrescuing"),
    State.UNRESCUE_BOOTING: Status("RESCUE", "rescued", "unrescuing"),
    State.SHELVING: Status("ACTIVE", "active", "shelving"),
    State.OFFLOADING: Status("SHELVED", "shelved", "shelving_offloading"),
    State.SHELVED_OFFLOADED: Status("SHELVED_OFFLOADED", "shelved_offloaded", None),
    State.UNSHELVING: Status("SHELVED_OFFLOADED", "shelved_offloaded", "spawning"),
    State.STOPPED: Status("SHUTOFF", "stopped", None),
    State.STARTING: Status("SHUTOFF", "stopped", "powering-on"),
    State.CLEANING: Status("ERROR", "error", None),
    State.ERROR: Status("ERROR", "error", None),
    State.DELETED: Status("DELETED", "deleted", None),
}


def status_of(row: Any) -> Status:
    """`row` has state, wanted, task, launched_at, fault and power of a server."""
    if row.state == State.DELETED:
        return _PLAIN[State.DELETED]
    if row.state == State.DELETING:
        before = (
            State.ERROR
            if row.fault
            else State.SPAWNING
            if row.launched_at is None
            else State.STOPPED
            if row.power == "off"
            else State.ACTIVE
        )
        return _PLAIN[before]._replace(task_state="deleting")
    if row.wanted == Wanted.DELETED:
        return _PLAIN[row.state]._replace(task_state="deleting")
    status = _TASKS.get((row.state, row.wanted)) or _PLAIN[row.state]
    return status._replace(task_state=row.task) if row.task and status.task_state is None else status


# Which states a `status` filter means. Ones that no server of this cloud has are known words as well.
STATUSES: dict[str, tuple[State, ...]] = {
    "ACTIVE": (
        State.ACTIVE,
        State.STOPPING,
        State.PAUSING,
        State.SUSPENDING,
        State.RESCUING,
        State.RESCUE_BOOTING,
        State.SHELVING,
    ),
    "SHELVED": (State.OFFLOADING,),
    "SHELVED_OFFLOADED": (State.SHELVED_OFFLOADED, State.UNSHELVING),
    "PAUSED": (State.PAUSED, State.UNPAUSING),
    "SUSPENDED": (State.SUSPENDED, State.RESUMING),
    "REBUILD": (State.REBUILDING, State.RESPAWNING),
    "RESCUE": (State.RESCUED, State.UNRESCUING, State.UNRESCUE_BOOTING),
    "BUILD": (State.BUILDING, State.SPAWNING),
    "DELETED": (State.DELETED,),
    "ERROR": (State.ERROR, State.CLEANING),
    "HARD_REBOOT": (State.RESETTING,),
    "REBOOT": (State.REBOOTING, State.RESTARTING),
    "SHUTOFF": (State.STOPPED, State.STARTING),
    **dict.fromkeys(
        [
            "MIGRATING",
            "PASSWORD",
            "RESIZE",
            "REVERT_RESIZE",
            "SOFT_DELETED",
            "UNKNOWN",
            "VERIFY_RESIZE",
        ],
        (),
    ),
}
VM_STATES: dict[str, tuple[State, ...]] = {
    "active": (
        State.ACTIVE,
        State.STOPPING,
        State.REBOOTING,
        State.RESETTING,
        State.RESTARTING,
        State.PAUSING,
        State.SUSPENDING,
        State.REBUILDING,
        State.RESPAWNING,
        State.RESCUING,
        State.RESCUE_BOOTING,
        State.SHELVING,
    ),
    "shelved": (State.OFFLOADING,),
    "shelved_offloaded": (State.SHELVED_OFFLOADED, State.UNSHELVING),
    "paused": (State.PAUSED, State.UNPAUSING),
    "suspended": (State.SUSPENDED, State.RESUMING),
    "rescued": (State.RESCUED, State.UNRESCUING, State.UNRESCUE_BOOTING),
    "building": (State.BUILDING, State.SPAWNING),
    "stopped": (State.STOPPED, State.STARTING),
    "error": (State.ERROR, State.CLEANING),
    "deleted": (State.DELETED,),
}
