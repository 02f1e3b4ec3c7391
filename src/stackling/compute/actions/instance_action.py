"""The record of what was done to servers: written with each action, finished by the step that did it."""

import sqlalchemy as sa

from stackling.base import ids
from stackling.base.clock import bare_micros
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import NotFound
from stackling.compute.state.instance_action import instance_action

# The events of actions that a host works on. Their names are upstream's; clients wait for some of them.
_EVENTS = {
    "create": "compute__do_build_and_run_instance",
    "delete": "compute_terminate_instance",
    "reboot": "compute_reboot_instance",
    "start": "compute_start_instance",
    "pause": "compute_pause_instance",
    "unpause": "compute_unpause_instance",
    "suspend": "compute_suspend_instance",
    "resume": "compute_resume_instance",
    "rebuild": "compute_rebuild_instance",
    "rescue": "compute_rescue_instance",
    "unrescue": "compute_unrescue_instance",
    "stop": "compute_stop_instance",
    "shelve": "compute_shelve_instance",
    "unshelve": "compute_unshelve_instance",
    "createBackup": "compute_backup_instance",
    "createImage": "compute_snapshot_instance",
    "attach_volume": "compute_attach_volume",
    "detach_volume": "compute_detach_volume",
    "extend_volume": "compute_extend_volume",
    "attach_interface": "compute_attach_interface",
    "detach_interface": "compute_detach_interface",
}


def record(tx: Tx, cloud: Cloud, caller: Caller | None, server_id: str, action: str) -> None:
    """Somebody (None: the cloud itself) does `action` to a server."""
    now = cloud.clock.now()
    event = {
        "event": _EVENTS.get(action),
        "start": bare_micros(now),
        "finish": None,
        "result": None,
        "host": None,
        "details": None,
    }
    values = {
        "server_id": server_id,
        "request_id": caller.request_id if caller and caller.request_id else f"req-{ids.uuid4()}",
        "action": action,
        "user_id": caller.user_id if caller else None,
        "project_id": caller.project_id if caller else None,
        "started_at": now,
        "updated_at": now,
        "events": [event] if event["event"] else [],
    }
    tx.execute(sa.insert(instance_action).values(**values))


def finish(
    tx: Tx, cloud: Cloud, server_id: str, host: str | None, *actions: str, error: str | None = None
) -> None:
    """What was begun of `actions` (all of them, if none is named) is done, or has failed with `error`."""
    now = cloud.clock.now()
    c = instance_action.c
    query = sa.select(instance_action).where(c.server_id == server_id)
    if actions:
        query = query.where(c.action.in_(actions))
    for row in tx.execute(query.order_by(c.number.desc()).limit(8)).all():
        if not any(e["finish"] is None for e in row.events):
            continue
        ended = {
            "finish": bare_micros(now),
            "result": "Error" if error else "Success",
            "host": host,
            "details": error,
        }
        events = [{**e, **ended} if e["finish"] is None else e for e in row.events]
        values = {"events": events, "updated_at": now, "message": "Error" if error else row.message}
        tx.execute(sa.update(instance_action).where(c.number == row.number).values(**values))


def of(tx: Tx, server_id: str) -> list[Row]:
    """The newest first."""
    query = sa.select(instance_action).where(instance_action.c.server_id == server_id)
    return list(tx.execute(query.order_by(instance_action.c.number.desc())))


def get(tx: Tx, server_id: str, request_id: str) -> Row:
    """Raises NotFound."""
    c = instance_action.c
    query = sa.select(instance_action).where(c.server_id == server_id, c.request_id == request_id)
    found = tx.execute(query.order_by(c.number.desc()).limit(1)).first()
    if found is None:
        raise NotFound(f"Action for request_id {request_id[:64]} on instance {server_id} not found")
    return found
