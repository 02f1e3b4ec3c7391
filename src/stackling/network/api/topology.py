"""`/v2.0/auto-allocated-topology/{project_id}`"""

from falcon import HTTP_204, Request, Response

from stackling.base import rest
from stackling.base.cloud import Cloud
from stackling.base.errors import BadRequest
from stackling.network.actions import topology


class Topology:
    """The project's network for the asking; `fields=dry-run` only says whether it could be had."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def _project(self, req: Request, project_id: str) -> str:
        own = rest.caller(req).project_id
        if project_id in ("None", "null") and own:
            return own
        if not project_id:
            raise BadRequest("Names no project")
        return project_id

    def on_get(self, req: Request, resp: Response, project_id: str) -> None:
        caller, whose = rest.caller(req), self._project(req, project_id)
        if "dry-run" in (req.get_param_as_list("fields") or []):
            with self.cloud.db.read() as tx:
                topology.check(tx, caller, whose)
            resp.media = {
                "auto_allocated_topology": {"id": "dry-run=pass", "tenant_id": whose, "project_id": whose}
            }
            return
        with self.cloud.db.begin() as tx:
            network_id = topology.ensure(tx, self.cloud, caller, whose)
        resp.media = {"auto_allocated_topology": {"id": network_id, "tenant_id": whose, "project_id": whose}}

    def on_delete(self, req: Request, resp: Response, project_id: str) -> None:
        with self.cloud.db.begin() as tx:
            topology.remove(tx, self.cloud, rest.caller(req), self._project(req, project_id))
        resp.status = HTTP_204
