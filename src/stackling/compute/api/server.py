"""Servers: list, show, change, delete."""

from typing import Annotated, Any, Literal

from falcon import Request, Response
from msgspec import UNSET, Meta, field

from stackling.base.cloud import Cloud
from stackling.base.microversion import Body
from stackling.base.microversion import since as from_version
from stackling.base.rest import body, caller
from stackling.compute.actions import server as actions
from stackling.compute.api import new_server, server_list
from stackling.compute.api.body import Hostname, Name, Unset, address_of, name_of
from stackling.compute.api.link import paged
from stackling.compute.api.server_view import Views
from stackling.compute.api.version import only, since


class UpdateServer(Body, kw_only=True):
    name: Name | Unset = UNSET
    access_ip_v4: str | Unset = field(name="accessIPv4", default=UNSET)
    access_ip_v6: str | Unset = field(name="accessIPv6", default=UNSET)
    disk_config: Literal["AUTO", "MANUAL"] | Unset = field(name="OS-DCF:diskConfig", default=UNSET)
    description: Annotated[Annotated[str, Meta(max_length=255)] | Unset | None, from_version("2.19")] = UNSET
    hostname: Annotated[Hostname | Unset, from_version("2.90")] = UNSET


class _Room:
    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud


class Servers(_Room):
    """/servers"""

    def on_get(self, req: Request, resp: Response) -> None:
        views = Views(req, self.cloud)
        with self.cloud.db.read() as tx:
            rows, limit = server_list.search(tx, req, self.cloud, views.columns(detail=False), detail=False)
        resp.media = paged(
            req, self.cloud, "servers", [views.brief(r) for r in rows], [r.id for r in rows], limit
        )

    def on_post(self, req: Request, resp: Response) -> None:
        new_server.create(req, resp, self.cloud)


class ServersDetail(_Room):
    """/servers/detail"""

    def on_get(self, req: Request, resp: Response) -> None:
        views = Views(req, self.cloud)
        with self.cloud.db.read() as tx:
            rows, limit = server_list.search(tx, req, self.cloud, views.columns(detail=True), detail=True)
            made = views.details(tx, rows)
        resp.media = paged(req, self.cloud, "servers", made, [r.id for r in rows], limit)


class Server(_Room):
    """/servers/{server_id}"""

    def on_get(self, req: Request, resp: Response, server_id: str) -> None:
        views = Views(req, self.cloud)
        with self.cloud.db.read() as tx:
            row = actions.get(tx, caller(req), server_id, "os_compute_api:servers:show")
            resp.media = {"server": views.details(tx, [row], one=True)[0]}

    def on_put(self, req: Request, resp: Response, server_id: str) -> None:
        want = body(req, UpdateServer, key="server")
        columns: dict[str, Any] = {}
        if want.name is not UNSET:
            columns["name"] = name_of(want.name)
        if want.access_ip_v4 is not UNSET:
            columns["access_ip_v4"] = address_of(want.access_ip_v4, 4, "accessIPv4")
        if want.access_ip_v6 is not UNSET:
            columns["access_ip_v6"] = address_of(want.access_ip_v6, 6, "accessIPv6")
        if want.disk_config is not UNSET:
            columns["disk_config"] = want.disk_config
        for name in ("description", "hostname"):
            if (value := getattr(want, name)) is not UNSET:
                columns[name] = value
        views = Views(req, self.cloud)
        with self.cloud.db.begin() as tx:
            row = actions.update(tx, self.cloud, caller(req), server_id, **columns)
            resp.media = {"server": views.details(tx, [row], one=True, whole=since(req, "2.75"))[0]}

    def on_delete(self, req: Request, resp: Response, server_id: str) -> None:
        with self.cloud.db.begin() as tx:
            actions.delete(tx, self.cloud, caller(req), server_id)
        resp.status = 204


class Topology(_Room):
    """/servers/{server_id}/topology"""

    def on_get(self, req: Request, resp: Response, server_id: str) -> None:
        only(req, first="2.78")
        with self.cloud.db.read() as tx:
            actions.get(tx, caller(req), server_id, "compute:server:topology:index")
        resp.media = {"nodes": [], "pagesize_kb": None}  # guests have no NUMA layout of their own
