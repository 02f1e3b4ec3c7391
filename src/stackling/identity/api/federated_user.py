"""/v3/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}/auth: logging in with a provider's token"""

from falcon import Request, Response

from stackling.base import rest
from stackling.base.errors import Unauthorized
from stackling.identity.actions import authentication
from stackling.identity.actions.authentication import Auth, ByMapped, Identity
from stackling.identity.api.resource import Resource


class FederatedAuth(Resource):
    """/v3/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}/auth"""

    public = True  # the header Authorization carries the provider's token instead of one of ours
    audited = {"GET": "authenticate", "POST": "authenticate"}

    def on_get(self, req: Request, resp: Response, idp_id: str, protocol_id: str) -> None:
        text = rest.bearer(req)
        if text is None:
            raise Unauthorized("The request you have made requires authentication.")
        proof = ByMapped(identity_provider=idp_id, protocol=protocol_id, access_token=text)
        auth = Auth(identity=Identity(methods=["mapped"], mapped=proof), scope="unscoped")
        made = authentication.login(self.cloud, auth)
        resp.status, resp.content_type = "201 Created", "application/json"
        resp.data = made.encoded(True)
        resp.set_header("X-Subject-Token", made.text)

    on_post = on_get


ROUTES = (("/v3/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}/auth", FederatedAuth),)
