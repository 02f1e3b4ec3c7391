"""Servers that exist: find, change, lock, switch on and off, delete."""

from typing import Any

import sqlalchemy as sa

from stackling.base import jobs
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, Conflict, Forbidden, NotFound
from stackling.compute.actions import instance_action
from stackling.compute.actions.status import status_of
from stackling.compute.state import server as state
from stackling.compute.state.server import State, Wanted, server

KIND = "compute.server"


def get(tx: Tx, caller: Caller, id: str, rule: str) -> Row:
    """One server, for something that `rule` guards. Raises NotFound, Forbidden."""
    row = state.get(tx, id)
    says = f"Instance {id[:255]} could not be found."
    if row is None:
        raise NotFound(says)
    caller.may_see(row.project_id, rule, says)
    return row


def unlocked(tx: Tx, caller: Caller, id: str, rule: str) -> Row:
    """Like `get`, for something that a lock forbids. Raises Conflict."""
    row = get(tx, caller, id, rule)
    if row.locked_by and not caller.is_admin:
        raise Conflict(f"Instance {row.id} is locked")
    return row


def update(tx: Tx, cloud: Cloud, caller: Caller, id: str, **columns: Any) -> Row:
    """Change what needs no host: name, description, access addresses, disk_config, hostname."""
    row = get(tx, caller, id, "os_compute_api:servers:update")
    if columns:
        state.change(tx, row.id, updated_at=cloud.clock.now(), **columns)
        if "hostname" in columns:
            jobs.start(tx, KIND, row.id, now=cloud.clock.now())
    return tx.execute(sa.select(server).where(server.c.id == row.id)).one()


def wish(tx: Tx, cloud: Cloud, row: Row, wanted: Wanted) -> None:
    """Note what the owner wants now, and have it done."""
    now = cloud.clock.now()
    state.change(tx, row.id, wanted=wanted, wished_at=now, updated_at=now)
    jobs.start(tx, KIND, row.id, now=now)


def delete(
    tx: Tx, cloud: Cloud, caller: Caller, id: str, rule: str = "os_compute_api:servers:delete"
) -> None:
    """From any state. Asking again does no harm."""
    row = unlocked(tx, caller, id, rule)
    if row.wanted == Wanted.DELETED:
        return
    instance_action.record(tx, cloud, caller, row.id, "delete")
    wish(tx, cloud, row, Wanted.DELETED)


def require(
    row: Row,
    action: str,
    *vm_states: str,
    task_states: tuple[str | None, ...] = (None,),
    launched: bool = True,
) -> None:
    """Raises Conflict when a server is in no state for `action`."""
    now = status_of(row)
    if vm_states and now.vm_state not in vm_states:
        raise Conflict(f"Cannot '{action}' instance {row.id} while it is in vm_state {now.vm_state}")
    if now.task_state not in task_states:
        raise Conflict(f"Cannot '{action}' instance {row.id} while it is in task_state {now.task_state}")
    if launched and row.launched_at is None:
        raise Conflict(f"Cannot '{action}' instance {row.id} because it has never been active")


def start(tx: Tx, cloud: Cloud, caller: Caller, id: str) -> None:
    row = unlocked(tx, caller, id, "os_compute_api:servers:start")
    require(row, "start", "stopped")
    instance_action.record(tx, cloud, caller, row.id, "start")
    wish(tx, cloud, row, Wanted.RUNNING)


def stop(tx: Tx, cloud: Cloud, caller: Caller, id: str) -> None:
    row = unlocked(tx, caller, id, "os_compute_api:servers:stop")
    require(row, "stop", "active", "error")
    instance_action.record(tx, cloud, caller, row.id, "stop")
    wish(tx, cloud, row, Wanted.STOPPED)


def reboot(tx: Tx, cloud: Cloud, caller: Caller, id: str, *, hard: bool) -> None:
    row = unlocked(tx, caller, id, "os_compute_api:servers:reboot")
    if hard:
        require(
            row,
            "reboot",
            "active",
            "stopped",
            "paused",
            "suspended",
            "error",
            task_states=(None, "rebooting", "reboot_started", "rebooting_hard"),
        )
    else:
        require(row, "reboot", "active", task_states=(None,))
    instance_action.record(tx, cloud, caller, row.id, "reboot")
    state.change(tx, row.id, rescue=None)
    wish(tx, cloud, row, Wanted.RESET if hard else Wanted.REBOOTED)


def pause(tx: Tx, cloud: Cloud, caller: Caller, id: str) -> None:
    _wish_of(tx, cloud, caller, id, "pause", "os-pause-server:pause", "active", Wanted.PAUSED)


def unpause(tx: Tx, cloud: Cloud, caller: Caller, id: str) -> None:
    _wish_of(tx, cloud, caller, id, "unpause", "os-pause-server:unpause", "paused", Wanted.RUNNING)


def suspend(tx: Tx, cloud: Cloud, caller: Caller, id: str) -> None:
    _wish_of(tx, cloud, caller, id, "suspend", "os-suspend-server:suspend", "active", Wanted.SUSPENDED)


def resume(tx: Tx, cloud: Cloud, caller: Caller, id: str) -> None:
    _wish_of(tx, cloud, caller, id, "resume", "os-suspend-server:resume", "suspended", Wanted.RUNNING)


def _wish_of(
    tx: Tx, cloud: Cloud, caller: Caller, id: str, action: str, rule: str, vm_state: str, wanted: Wanted
) -> None:
    row = unlocked(tx, caller, id, f"os_compute_api:{rule}")
    require(row, action, vm_state)
    instance_action.record(tx, cloud, caller, row.id, action)
    wish(tx, cloud, row, wanted)


def lock(tx: Tx, cloud: Cloud, caller: Caller, id: str, reason: str | None = None) -> None:
    row = get(tx, caller, id, "os_compute_api:os-lock-server:lock")
    owner = row.project_id == caller.project_id
    if row.locked_by == "admin" and owner and not caller.is_admin:
        return  # an admin's lock stays the admin's
    instance_action.record(tx, cloud, caller, row.id, "lock")
    state.change(
        tx,
        row.id,
        locked_by="owner" if owner else "admin",
        locked_reason=reason,
        updated_at=cloud.clock.now(),
    )


def unlock(tx: Tx, cloud: Cloud, caller: Caller, id: str) -> None:
    row = get(tx, caller, id, "os_compute_api:os-lock-server:unlock")
    if row.locked_by == "admin" and not caller.can("os_compute_api:os-lock-server:unlock:unlock_override"):
        raise Forbidden(
            "Policy doesn't allow os_compute_api:os-lock-server:unlock:unlock_override to be performed."
        )
    instance_action.record(tx, cloud, caller, row.id, "unlock")
    state.change(tx, row.id, locked_by=None, locked_reason=None, updated_at=cloud.clock.now())


def reset_state(tx: Tx, cloud: Cloud, caller: Caller, id: str, wanted: str) -> None:
    """An admin says what a server is: `active` has its host looked at again, `error` leaves it alone."""
    row = get(tx, caller, id, "os_compute_api:os-admin-actions:reset_state")
    if row.wanted == Wanted.DELETED:
        raise Conflict(f"Cannot 'reset_state' instance {row.id} while it is in task_state deleting")
    if wanted == "active" and row.host is None:
        raise BadRequest(
            f"Instance {row.id} has no host; it can't be made active. Delete it and create another."
        )
    instance_action.record(tx, cloud, caller, row.id, "resetState")
    now = cloud.clock.now()
    columns: dict[str, Any] = {"state": State.ERROR, "task": None, "updated_at": now, "wished_at": now}
    columns["wanted"] = Wanted.RUNNING
    if wanted == "active":
        columns |= {"state": State.ACTIVE, "rescue": None, "fault": None, "fault_at": None}
        columns["launched_at"] = row.launched_at or now
    state.change(tx, row.id, **columns)
    jobs.start(tx, KIND, row.id, now=now)


def look_again(tx: Tx, cloud: Cloud, id: str) -> None:
    """Something of this server may have changed; for other services and for hosts' news."""
    jobs.start(tx, KIND, id, now=cloud.clock.now())
