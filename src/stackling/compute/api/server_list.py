"""Lists of servers: filters, sort keys and pages."""

import json
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from falcon import Request
from sqlalchemy import ColumnElement

from stackling.base import listing, pattern
from stackling.base.clock import parse
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, Forbidden
from stackling.base.rest import boolean, caller, integer, one_param
from stackling.compute.actions.status import POWER, STATUSES, VM_STATES
from stackling.compute.api.link import known_queries, limit_of
from stackling.compute.api.version import since
from stackling.compute.state import aggregate
from stackling.compute.state.server import State, Wanted, live, server, server_tag
from stackling.network.actions import server_port

c = server.c
# Filters that are a column's value, and whether everybody may use them.
_EQUAL: dict[str, tuple[ColumnElement[Any], bool]] = {
    "image": (c.image_id, True),
    "flavor": (c.flavor_id, True),
    "reservation_id": (c.reservation_id, True),
    "uuid": (c.id, False),
    "host": (c.host, False),
    "node": (c.host, False),
    "hypervisor_hostname": (c.host, False),
    "user_id": (c.user_id, False),
    "key_name": (c.key_name, False),
    "hostname": (c.hostname, False),
    "access_ip_v4": (c.access_ip_v4, True),
    "access_ip_v6": (c.access_ip_v6, True),
}
_LIKE: dict[str, tuple[ColumnElement[Any], bool]] = {
    "name": (c.name, True),
    "display_name": (c.name, True),
    "description": (c.description, False),
    "display_description": (c.description, False),
}
_TIMES = {"created_at": c.created_at, "launched_at": c.launched_at, "terminated_at": c.terminated_at}
# Known words that no server of this cloud differs in, or that upstream accepts and ignores here.
_IDLE = [
    "auto_disk_config",
    "block_device_mapping",
    "cell_name",
    "changes-before",
    "changes-since",
    "default_ephemeral_device",
    "default_swap_device",
    "deleted",
    "ephemeral_gb",
    "fixed_ip",
    "id",
    "image_ref",
    "instance_type_id",
    "kernel_id",
    "locked_by",
    "memory_mb",
    "name",
    "project_id",
    "ramdisk_id",
    "root_device_name",
    "root_gb",
    "services",
    "soft_deleted",
    "sort_dir",
    "sort_key",
    "system_metadata",
    "tags",
    "updated_at",
    "vcpus",
    "vm_mode",
]
_QUERIES = (
    *_EQUAL, *_LIKE, *_TIMES, *_IDLE, "limit", "marker", "all_tenants", "status", "vm_state", "task_state", "power_state", "ip", "ip6", "tenant_id",
    "metadata", "not-tags", "not-tags-any", "tags-any", "availability_zone", "config_drive", "locked", "launch_index", "progress", "info_cache",
    "metadata", "changes-before",
)  # fmt: skip
_OPENED = (
    "availability_zone",
    "config_drive",
    "key_name",
    "created_at",
    "launched_at",
    "terminated_at",
    "power_state",
    "task_state",
    "vm_state",
    "progress",
    "user_id",
)

_SORT: dict[str, ColumnElement[Any]] = {
    "access_ip_v4": c.access_ip_v4,
    "access_ip_v6": c.access_ip_v6,
    "auto_disk_config": c.disk_config,
    "availability_zone": c.availability_zone,
    "config_drive": c.config_drive,
    "created_at": c.created_at,
    "display_description": c.description,
    "display_name": c.name,
    "host": c.host,
    "hostname": c.hostname,
    "image_ref": c.image_id,
    "instance_type_id": c.flavor_id,
    "key_name": c.key_name,
    "launch_index": c.launch_index,
    "launched_at": c.launched_at,
    "node": c.host,
    "power_state": c.power,
    "progress": c.launch_index,
    "project_id": c.project_id,
    "root_device_name": c.root_device,
    "task_state": c.wanted,
    "terminated_at": c.terminated_at,
    "updated_at": c.updated_at,
    "user_id": c.user_id,
    "uuid": c.id,
    "vm_state": c.state,
}


def search(
    tx: Tx, req: Request, cloud: Cloud, columns: list[sa.Column[Any]], *, detail: bool
) -> tuple[list[Row], int]:
    """`columns` of the page that a query asks for, and the limit that was used. Raises BadRequest, Forbidden."""
    who = caller(req)
    verb = "detail" if detail else "index"
    who.may(f"os_compute_api:servers:{verb}")
    if since(req, "2.75"):
        known_queries(req, *_QUERIES)
    everywhere = _all_tenants(req, who, verb)
    where = _where(tx, req, cloud, who, everywhere)
    sort = _sort(req)
    limit, after = limit_of(req), None
    if marker := one_param(req, "marker"):
        scope = [] if everywhere else [c.project_id == who.project_id]
        after = tx.execute(sa.select(server).where(c.id == marker, *scope)).first()
        if after is None:
            raise BadRequest(f"marker [{marker[:64]}] not found")
    return listing.page(tx, sa.select(*columns).where(*where), sort, limit=limit, after=after), limit


def _all_tenants(req: Request, who: Caller, verb: str) -> bool:
    text = one_param(req, "all_tenants")
    if text is None or (text and not boolean(text, "all_tenants")):
        return False
    rule = f"os_compute_api:servers:{verb}:get_all_tenants"
    if not who.can(rule):
        raise Forbidden(f"Policy doesn't allow {rule} to be performed.")
    return True


def _sort(req: Request) -> list[tuple[ColumnElement[Any], bool]]:
    keys = req.get_param_as_list("sort_key") or []
    ways = req.get_param_as_list("sort_dir") or []
    if any(w not in ("asc", "desc") for w in ways):
        raise BadRequest("Invalid input for query parameter sort_dir: it is asc or desc")
    made: list[tuple[ColumnElement[Any], bool]] = []
    for i, key in enumerate(keys):
        if key == "locked" and since(req, "2.73"):
            column: ColumnElement[Any] = c.locked_by
        elif key in _SORT:
            column = _SORT[key]
        else:
            raise BadRequest(f"Invalid input for query parameter sort_key: {key[:64]!r} is not a sort key")
        if all(column is not other for other, _ in made):
            made.append((column, (ways[i] if i < len(ways) else ways[-1] if ways else "desc") == "desc"))
    falling = made[-1][1] if made else True
    for column in (c.created_at, c.id):
        if all(column is not other for other, _ in made):
            made.append((column, falling))
    return made


def _where(tx: Tx, req: Request, cloud: Cloud, who: Caller, everywhere: bool) -> list[ColumnElement[bool]]:
    where: list[ColumnElement[bool]] = []
    project = one_param(req, "tenant_id") or one_param(req, "project_id")
    if not everywhere:
        where.append(c.project_id == who.project_id)
    elif project:
        where.append(c.project_id == project.replace("-", ""))
    any_filter = who.can("os_compute_api:servers:allow_all_filters")
    where += _life(req, any_filter)

    def given(name: str, everybody: bool) -> list[str]:
        values = req.get_param_as_list(name) or []
        return values if everybody or any_filter or (name in _OPENED and since(req, "2.83")) else []

    for name, (column, everybody) in _EQUAL.items():
        if values := given(name, everybody):
            where.append(column.in_(values))
    for name, (column, everybody) in _LIKE.items():
        where += [column.regexp_match(pattern.checked(v, name)) for v in given(name, everybody) if v]
    for name, column in _TIMES.items():
        for v in given(name, False):
            where.append(_in_second(column, _moment(v, name)))
    where += [sa.literal(v == "0") for v in given("progress", False)]  # what each server's view says
    where += _states(req, given)
    if values := given("availability_zone", False):
        zones = aggregate.zones(tx, cloud.config.compute.availability_zone)
        named = [h for h, zone in zones.named.items() if zone in values]
        other = c.host.notin_(list(zones.named)) if zones.default in values else sa.false()
        where.append(
            sa.or_(c.host.in_(named), other, sa.and_(c.host.is_(None), c.availability_zone.in_(values)))
        )
    for v in given("config_drive", False):
        where.append(c.config_drive.is_(boolean(v, "config_drive")))
    for v in given("launch_index", False):
        where.append(c.launch_index == integer(v, "launch_index"))
    if since(req, "2.73") and (text := one_param(req, "locked")):
        where.append(c.locked_by.isnot(None) if boolean(text, "locked") else c.locked_by.is_(None))
    if since(req, "2.26"):
        where += _tags(req)
    where += _addresses(req)
    where += _metadata(req)
    return where


def _life(req: Request, any_filter: bool) -> list[ColumnElement[bool]]:
    """Deleted servers are shown to those who ask what changed, and to admins who ask for them."""
    where: list[ColumnElement[bool]] = []
    after, before = _time(req, "changes-since"), _time(req, "changes-before") if since(req, "2.66") else None
    if after and before and after > before:
        raise BadRequest("The value of changes-since must be less than or equal to changes-before.")
    if after:
        where.append(c.updated_at >= after)
    if before:
        where.append(c.updated_at <= before)
    deleted = one_param(req, "deleted") if any_filter else None
    status = (one_param(req, "status") or "").upper()
    if status == "DELETED" and not any_filter:
        raise Forbidden("Only administrators may list deleted instances")
    if (deleted is not None and boolean(deleted, "deleted")) or status == "DELETED":
        where.append(c.state == State.DELETED)
    elif not (after or before) or deleted is not None:
        where.append(live)
    return where


def _time(req: Request, name: str) -> Any:
    text = one_param(req, name)
    return None if text is None else _moment(text, name)


def _in_second(column: ColumnElement[Any], moment: datetime) -> ColumnElement[bool]:
    """Of the very microsecond when one was named, else of that second."""
    return column.between(moment, moment if moment.microsecond else moment.replace(microsecond=999_999))


def _moment(text: str, name: str) -> datetime:
    try:
        return parse(text.replace(" ", "+"))
    except (ValueError, OverflowError):
        raise BadRequest(
            f"Invalid input for query parameter {name}: {text[:64]!r} is not a 'date-time'"
        ) from None


def _states(req: Request, given: Any) -> list[ColumnElement[bool]]:
    where: list[ColumnElement[bool]] = []
    if values := [v for v in req.get_param_as_list("status") or [] if v]:
        words = [v.upper() for v in values]
        if unknown := [w for w in words if w not in STATUSES]:
            if since(req, "2.38"):
                raise BadRequest(f"Invalid status value: {unknown[0][:64]}")
            words = [w for w in words if w in STATUSES]
        where.append(sa.or_(sa.false(), *(_shows(w) for w in words)))
    for name in given("vm_state", False):
        where.append(c.state.in_(VM_STATES.get(name.lower(), ())))
    for name in given("power_state", False):
        wanted = [word for word, number in POWER.items() if str(number) == name]
        where.append(
            sa.or_(c.power.in_([w for w in wanted if w]), c.power.is_(None) if None in wanted else sa.false())
        )
    for name in given("task_state", False):
        tasks = {
            "deleting": c.wanted == Wanted.DELETED,
            "spawning": c.state == State.SPAWNING,
            "block_device_mapping": c.state == State.BUILDING,
            "rebooting": c.state == State.REBOOTING,
            "powering-off": c.state == State.STOPPING,
            "powering-on": c.state == State.STARTING,
        }
        where.append(tasks.get(name, sa.false()))
    return where


def _shows(word: str) -> ColumnElement[bool]:
    """Servers whose status is `word`, as `status_of` tells it."""
    by_state = c.state.in_(STATUSES[word])
    if word == "ACTIVE":
        return sa.or_(
            sa.and_(by_state, c.wanted.notin_((Wanted.REBOOTED, Wanted.RESET))), c.state == State.DELETING
        )
    if word == "SHUTOFF":
        return sa.and_(by_state, c.wanted != Wanted.RESET)
    return by_state


def _tags(req: Request) -> list[ColumnElement[bool]]:
    def having(tags: list[str], every: bool) -> ColumnElement[bool]:
        each = [c.id.in_(sa.select(server_tag.c.server_id).where(server_tag.c.tag == t)) for t in tags]
        return sa.and_(*each) if every else sa.or_(*each)

    where = []
    for name, every, without in (
        ("tags", True, False),
        ("tags-any", False, False),
        ("not-tags", True, True),
        ("not-tags-any", False, True),
    ):
        if text := one_param(req, name):
            found = having([t for t in text.split(",")[:50] if t], every)
            where.append(~found if without else found)
    return where


def _addresses(req: Request) -> list[ColumnElement[bool]]:
    where: list[ColumnElement[bool]] = []
    for name in ("ip", "ip6"):
        if (text := one_param(req, name)) and (name == "ip" or since(req, "2.5") or caller(req).is_admin):
            where.append(
                c.id.in_(
                    server_port.devices_with_address(pattern.checked(text, name), 6 if name == "ip6" else 4)
                )
            )
    return where


def _metadata(req: Request) -> list[ColumnElement[bool]]:
    text = one_param(req, "metadata")
    if not text:
        return []
    try:
        wanted = json.loads(text.replace("'", '"'))
    except ValueError:
        wanted = None
    if not isinstance(wanted, dict):
        raise BadRequest("Invalid input for query parameter metadata: it is a JSON object")
    return [c.meta[str(k)[:255]].as_string() == str(v) for k, v in list(wanted.items())[:50]]
