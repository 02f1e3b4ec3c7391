"""/v3/OS-EP-FILTER: which project sees which endpoints"""

from typing import Any, Literal

import msgspec
from falcon import Request, Response
from msgspec import UNSET, UnsetType

from stackling.base import rest
from stackling.base.db import Row
from stackling.base.errors import BadRequest
from stackling.identity.actions import endpoint_group as actions
from stackling.identity.api import project as project_api
from stackling.identity.api.catalog import many_endpoints
from stackling.identity.api.resource import Name, Resource, empty, filtered, given
from stackling.identity.state.catalog import endpoint_group

_BELOW = "/OS-EP-FILTER/endpoint_groups"


class Filters(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    service_id: str | UnsetType = UNSET
    region_id: str | UnsetType | None = UNSET
    interface: Literal["public", "internal", "admin"] | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET


class CreateGroup(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    name: Name
    filters: Filters
    description: str | None = None


class UpdateGroup(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    # The `openstack` command sends null for what it does not change.
    name: Name | UnsetType | None = UNSET
    filters: Filters | UnsetType | None = UNSET
    description: str | UnsetType | None = UNSET


def _check_filters(filters: Filters) -> None:
    if not given(filters):
        raise BadRequest("filters field is required and cannot be empty")


class _Groups(Resource):
    def shown(self, req: Request, row: Row) -> dict[str, Any]:
        made = {"id": row.id, "name": row.name, "description": row.description, "filters": row.filters}
        return self.linked(req, f"{_BELOW}/{row.id}", made)


class Groups(_Groups):
    """/v3/OS-EP-FILTER/endpoint_groups"""

    def on_get(self, req: Request, resp: Response) -> None:
        with self.db.read() as tx:
            query = filtered(req, actions.listing(rest.caller(req)), endpoint_group, "name")
            rows = list(tx.execute(query.order_by(endpoint_group.c.id)))
        resp.media = self.listed(req, "endpoint_groups", [self.shown(req, r) for r in rows])

    def on_post(self, req: Request, resp: Response) -> None:
        want = rest.body(req, CreateGroup, key="endpoint_group")
        _check_filters(want.filters)
        with self.db.begin() as tx:
            row = actions.create(tx, rest.caller(req), want.name, want.description, given(want.filters))
        resp.status, resp.media = "201 Created", {"endpoint_group": self.shown(req, row)}


class Group(_Groups):
    """/v3/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}"""

    def on_get(self, req: Request, resp: Response, endpoint_group_id: str) -> None:
        with self.db.read() as tx:
            row = actions.get(tx, rest.caller(req), endpoint_group_id)
        resp.media = {"endpoint_group": self.shown(req, row)}

    def on_patch(self, req: Request, resp: Response, endpoint_group_id: str) -> None:
        want = rest.body(req, UpdateGroup, key="endpoint_group")
        if not given(want):
            raise BadRequest("Invalid input for field/attribute endpoint_group: nothing to change is named.")
        change = {n: v for n, v in given(want).items() if v is not None or n == "description"}
        if "filters" in change:
            _check_filters(change["filters"])
            change["filters"] = given(change["filters"])
        with self.db.begin() as tx:
            row = actions.update(tx, rest.caller(req), endpoint_group_id, change)
        resp.media = {"endpoint_group": self.shown(req, row)}

    def on_delete(self, req: Request, resp: Response, endpoint_group_id: str) -> None:
        with self.db.begin() as tx:
            actions.delete(tx, rest.caller(req), endpoint_group_id)
        empty(resp)


class GroupEndpoints(Resource):
    """/v3/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}/endpoints"""

    def on_get(self, req: Request, resp: Response, endpoint_group_id: str) -> None:
        with self.db.read() as tx:
            rows = actions.endpoints(tx, rest.caller(req), endpoint_group_id)
        resp.media = self.listed(req, "endpoints", many_endpoints(self, req, rows))


class GroupProjects(Resource):
    """/v3/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}/projects"""

    def on_get(self, req: Request, resp: Response, endpoint_group_id: str) -> None:
        with self.db.read() as tx:
            rows = actions.projects_of(tx, rest.caller(req), endpoint_group_id)
            made = project_api.many(self, req, tx, rows)
        resp.media = self.listed(req, "projects", made)


class GroupProject(Resource):
    """/v3/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}/projects/{project_id}"""

    def on_get(self, req: Request, resp: Response, endpoint_group_id: str, project_id: str) -> None:
        with self.db.read() as tx:
            actions.GROUPS.check(tx, rest.caller(req), project_id, endpoint_group_id)
        made = {"endpoint_group_id": endpoint_group_id, "project_id": project_id}
        path = f"{_BELOW}/{endpoint_group_id}/projects/{project_id}"
        resp.media = {"project_endpoint_group": self.linked(req, path, made)}

    def on_put(self, req: Request, resp: Response, endpoint_group_id: str, project_id: str) -> None:
        with self.db.begin() as tx:
            actions.GROUPS.add(tx, rest.caller(req), project_id, endpoint_group_id)
        empty(resp)

    def on_delete(self, req: Request, resp: Response, endpoint_group_id: str, project_id: str) -> None:
        with self.db.begin() as tx:
            actions.GROUPS.remove(tx, rest.caller(req), project_id, endpoint_group_id)
        empty(resp)


class ProjectGroups(_Groups):
    """/v3/OS-EP-FILTER/projects/{project_id}/endpoint_groups"""

    def on_get(self, req: Request, resp: Response, project_id: str) -> None:
        with self.db.read() as tx:
            rows = actions.groups_of(tx, rest.caller(req), project_id)
        resp.media = self.listed(req, "endpoint_groups", [self.shown(req, r) for r in rows])


class ProjectEndpoints(Resource):
    """/v3/OS-EP-FILTER/projects/{project_id}/endpoints"""

    def on_get(self, req: Request, resp: Response, project_id: str) -> None:
        with self.db.read() as tx:
            rows = actions.endpoints_of_project(tx, rest.caller(req), project_id)
        resp.media = self.listed(req, "endpoints", many_endpoints(self, req, rows))


class ProjectEndpoint(Resource):
    """/v3/OS-EP-FILTER/projects/{project_id}/endpoints/{endpoint_id}"""

    def on_get(self, req: Request, resp: Response, project_id: str, endpoint_id: str) -> None:
        with self.db.read() as tx:
            actions.ENDPOINTS.check(tx, rest.caller(req), project_id, endpoint_id)
        empty(resp)

    def on_put(self, req: Request, resp: Response, project_id: str, endpoint_id: str) -> None:
        with self.db.begin() as tx:
            actions.ENDPOINTS.add(tx, rest.caller(req), project_id, endpoint_id)
        empty(resp)

    def on_delete(self, req: Request, resp: Response, project_id: str, endpoint_id: str) -> None:
        with self.db.begin() as tx:
            actions.ENDPOINTS.remove(tx, rest.caller(req), project_id, endpoint_id)
        empty(resp)


class EndpointProjects(Resource):
    """/v3/OS-EP-FILTER/endpoints/{endpoint_id}/projects"""

    def on_get(self, req: Request, resp: Response, endpoint_id: str) -> None:
        with self.db.read() as tx:
            rows = actions.projects_of_endpoint(tx, rest.caller(req), endpoint_id)
            made = project_api.many(self, req, tx, rows)
        resp.media = self.listed(req, "projects", made)


_ROOT = "/v3/OS-EP-FILTER"
ROUTES = (
    (f"{_ROOT}/endpoint_groups", Groups),
    (f"{_ROOT}/endpoint_groups/{{endpoint_group_id}}", Group),
    (f"{_ROOT}/endpoint_groups/{{endpoint_group_id}}/endpoints", GroupEndpoints),
    (f"{_ROOT}/endpoint_groups/{{endpoint_group_id}}/projects", GroupProjects),
    (f"{_ROOT}/endpoint_groups/{{endpoint_group_id}}/projects/{{project_id}}", GroupProject),
    (f"{_ROOT}/projects/{{project_id}}/endpoint_groups", ProjectGroups),
    (f"{_ROOT}/projects/{{project_id}}/endpoints", ProjectEndpoints),
    (f"{_ROOT}/projects/{{project_id}}/endpoints/{{endpoint_id}}", ProjectEndpoint),
    (f"{_ROOT}/endpoints/{{endpoint_id}}/projects", EndpointProjects),
)
