"""/v3/OS-FEDERATION/identity_providers/{idp_id}/oidc: how the provider speaks OpenID Connect (ours, not upstream's)"""

from typing import Any

import msgspec
from falcon import Request, Response

from stackling.base import rest
from stackling.identity.actions import oidc as actions
from stackling.identity.api.resource import Resource, empty
from stackling.identity.oidc.provider import Options


class Oidc(Resource):
    """/v3/OS-FEDERATION/identity_providers/{idp_id}/oidc"""

    def on_get(self, req: Request, resp: Response, idp_id: str) -> None:
        with self.db.read() as tx:
            found = actions.get(tx, self.cloud, rest.caller(req), idp_id)
        resp.media = {"oidc": self._shown(req, idp_id, found)}

    def on_put(self, req: Request, resp: Response, idp_id: str) -> None:
        want = rest.body(req, Options, key="oidc")
        with self.db.begin() as tx:
            made = actions.put(tx, self.cloud, rest.caller(req), idp_id, want)
        resp.media = {"oidc": self._shown(req, idp_id, made)}

    def on_delete(self, req: Request, resp: Response, idp_id: str) -> None:
        with self.db.begin() as tx:
            actions.delete(tx, rest.caller(req), idp_id)
        empty(resp)

    def _shown(self, req: Request, idp_id: str, options: Options) -> dict[str, Any]:
        made = msgspec.to_builtins(options)
        del made["client_secret"]  # which is told to nobody again
        return self.linked(req, f"/OS-FEDERATION/identity_providers/{idp_id}/oidc", made)


ROUTES = (("/v3/OS-FEDERATION/identity_providers/{idp_id}/oidc", Oidc),)
