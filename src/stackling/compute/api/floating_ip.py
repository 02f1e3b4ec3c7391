"""Floating IPs as compute spoke of them before 2.36; all of it is the network's."""

from typing import Annotated, Any

from falcon import Request, Response
from msgspec import UNSET, Meta

from stackling.base.cloud import Cloud
from stackling.base.db import Row
from stackling.base.errors import NotFound
from stackling.base.microversion import Body
from stackling.base.rest import caller, convert, json_body
from stackling.compute.actions import interface
from stackling.compute.api.body import Unset, or_none
from stackling.compute.api.version import only
from stackling.network.actions import floating_ip as floating_ips
from stackling.network.actions.floating_ip import NewFloatingIP

LAST = "2.35"


class NewBody(Body, kw_only=True):
    pool: str | Unset | None = UNSET


class AddFloatingIp(Body, kw_only=True):
    address: Annotated[str, Meta(min_length=1, max_length=64)]
    fixed_address: Annotated[str, Meta(min_length=1, max_length=64)] | Unset | None = UNSET


class RemoveFloatingIp(Body, kw_only=True):
    address: Annotated[str, Meta(min_length=1, max_length=64)]


def _shown(row: Row) -> dict[str, Any]:
    return {
        "id": row.id,
        "ip": row.floating_ip_address,
        "fixed_ip": row.fixed_ip_address,
        "instance_id": row.device_id,
        "pool": row.pool,
    }


class _Room:
    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud


class FloatingIps(_Room):
    """/os-floating-ips"""

    def on_get(self, req: Request, resp: Response) -> None:
        only(req, last=LAST)
        who = caller(req)
        who.may("os_compute_api:os-floating-ips:list")
        with self.cloud.db.read() as tx:
            resp.media = {
                "floating_ips": [_shown(r) for r in floating_ips.of_project(tx, who.project_id or "")]
            }

    def on_post(self, req: Request, resp: Response) -> None:
        only(req, last=LAST)
        who = caller(req)
        who.may("os_compute_api:os-floating-ips:create")
        want = convert(json_body(req) or {}, NewBody)
        name = or_none(want.pool)
        with self.cloud.db.begin() as tx:
            pool = next((p for p in floating_ips.pools(tx, who) if name in (None, p.name, p.id)), None)
            if pool is None:
                raise NotFound("Floating IP pool not found.")
            made = floating_ips.create(tx, self.cloud, who, NewFloatingIP(floating_network_id=pool.id))
            resp.media = {"floating_ip": _shown(floating_ips.shown(tx, who, made.id))}


class FloatingIp(_Room):
    """/os-floating-ips/{id}"""

    def on_get(self, req: Request, resp: Response, id: str) -> None:
        only(req, last=LAST)
        caller(req).may("os_compute_api:os-floating-ips:show")
        with self.cloud.db.read() as tx:
            resp.media = {"floating_ip": _shown(floating_ips.shown(tx, caller(req), id))}

    def on_delete(self, req: Request, resp: Response, id: str) -> None:
        only(req, last=LAST)
        caller(req).may("os_compute_api:os-floating-ips:delete")
        with self.cloud.db.begin() as tx:
            floating_ips.remove(tx, self.cloud, caller(req), id)
        resp.status = 202


class Pools(_Room):
    """/os-floating-ip-pools"""

    def on_get(self, req: Request, resp: Response) -> None:
        only(req, last=LAST)
        caller(req).may("os_compute_api:os-floating-ip-pools")
        with self.cloud.db.read() as tx:
            resp.media = {
                "floating_ip_pools": [{"name": p.name or p.id} for p in floating_ips.pools(tx, caller(req))]
            }


def add(req: Request, resp: Response, cloud: Cloud, id: str, value: Any) -> None:
    want = convert(value, AddFloatingIp)
    with cloud.db.begin() as tx:
        interface.add_floating_ip(tx, cloud, caller(req), id, want.address, or_none(want.fixed_address))


def remove(req: Request, resp: Response, cloud: Cloud, id: str, value: Any) -> None:
    want = convert(value, RemoveFloatingIp)
    with cloud.db.begin() as tx:
        interface.remove_floating_ip(tx, cloud, caller(req), id, want.address)
