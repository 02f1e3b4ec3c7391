"""/v3/policies and OS-ENDPOINT-POLICY (legacy)"""

from typing import Any

import msgspec
from falcon import Request, Response
from msgspec import UNSET, UnsetType

from stackling.base import rest
from stackling.base.cloud import Cloud
from stackling.base.db import Row
from stackling.identity.actions import policy_document as actions
from stackling.identity.api.catalog import Word, many_endpoints
from stackling.identity.api.resource import Resource, empty, filtered, given, wanted
from stackling.identity.state.policy import policy


class Create(msgspec.Struct, kw_only=True):
    type: Word
    blob: str


class Update(msgspec.Struct, kw_only=True):
    type: Word | UnsetType = UNSET
    blob: str | UnsetType = UNSET


class _Policies(Resource):
    def shown(self, req: Request, row: Row) -> dict[str, Any]:
        return self.linked(
            req, f"/policies/{row.id}", {**row.extra, "id": row.id, "type": row.type, "blob": row.blob}
        )


class Policies(_Policies):
    """/v3/policies"""

    def on_get(self, req: Request, resp: Response) -> None:
        with self.db.read() as tx:
            query = filtered(req, actions.listing(rest.caller(req)), policy, "type")
            rows = tx.execute(query.order_by(policy.c.id)).all()
        resp.media = self.listed(req, "policies", [self.shown(req, r) for r in rows])

    def on_post(self, req: Request, resp: Response) -> None:
        want, extra = wanted(req, "policy", Create)
        with self.db.begin() as tx:
            row = actions.create(tx, rest.caller(req), want.type, want.blob, extra)
        resp.status, resp.media = "201 Created", {"policy": self.shown(req, row)}


class Policy(_Policies):
    """/v3/policies/{policy_id}"""

    def on_get(self, req: Request, resp: Response, policy_id: str) -> None:
        with self.db.read() as tx:
            row = actions.get(tx, rest.caller(req), policy_id)
        resp.media = {"policy": self.shown(req, row)}

    def on_patch(self, req: Request, resp: Response, policy_id: str) -> None:
        want, extra = wanted(req, "policy", Update)
        change = given(want)
        if extra:
            change["extra"] = extra
        with self.db.begin() as tx:
            row = actions.update(tx, rest.caller(req), policy_id, change)
        resp.media = {"policy": self.shown(req, row)}

    def on_delete(self, req: Request, resp: Response, policy_id: str) -> None:
        with self.db.begin() as tx:
            actions.delete(tx, rest.caller(req), policy_id)
        empty(resp)


class Association(Resource):
    """/v3/policies/{policy_id}/OS-ENDPOINT-POLICY/…: with an endpoint, a service, or a service in a region"""

    def _aim(self, params: dict[str, str]) -> actions.Aim:
        return params.get("endpoint_id"), params.get("service_id"), params.get("region_id")

    def on_get(self, req: Request, resp: Response, policy_id: str, **params: str) -> None:
        with self.db.read() as tx:
            actions.check(tx, rest.caller(req), policy_id, self._aim(params))
        empty(resp)

    def on_put(self, req: Request, resp: Response, policy_id: str, **params: str) -> None:
        with self.db.begin() as tx:
            actions.associate(tx, rest.caller(req), policy_id, self._aim(params))
        empty(resp)

    def on_delete(self, req: Request, resp: Response, policy_id: str, **params: str) -> None:
        with self.db.begin() as tx:
            actions.dissociate(tx, rest.caller(req), policy_id, self._aim(params))
        empty(resp)


class Endpoints(Resource):
    """/v3/policies/{policy_id}/OS-ENDPOINT-POLICY/endpoints"""

    def on_get(self, req: Request, resp: Response, policy_id: str) -> None:
        with self.db.read() as tx:
            rows = actions.endpoints(tx, rest.caller(req), policy_id)
        resp.media = self.listed(req, "endpoints", many_endpoints(self, req, rows))


class EndpointPolicy(_Policies):
    """/v3/endpoints/{endpoint_id}/OS-ENDPOINT-POLICY/policy"""

    def on_get(self, req: Request, resp: Response, endpoint_id: str) -> None:
        with self.db.read() as tx:
            row = actions.for_endpoint(tx, rest.caller(req), endpoint_id)
        resp.media = {"policy": self.shown(req, row)}


def routes(cloud: Cloud) -> list[tuple[str, object]]:
    below = "/v3/policies/{policy_id}/OS-ENDPOINT-POLICY"
    return [
        ("/v3/policies", Policies(cloud)),
        ("/v3/policies/{policy_id}", Policy(cloud)),
        (f"{below}/endpoints", Endpoints(cloud)),
        (f"{below}/endpoints/{{endpoint_id}}", Association(cloud)),
        (f"{below}/services/{{service_id}}", Association(cloud)),
        (f"{below}/services/{{service_id}}/regions/{{region_id}}", Association(cloud)),
        ("/v3/endpoints/{endpoint_id}/OS-ENDPOINT-POLICY/policy", EndpointPolicy(cloud)),
    ]
