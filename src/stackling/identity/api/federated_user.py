"""/v3/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}/auth: logging in with a provider's token, or by ECP"""

from falcon import Request, Response

from stackling.base import rest
from stackling.base.errors import Unauthorized
from stackling.identity.actions import authentication, saml
from stackling.identity.actions.authentication import Auth, ByMapped, Identity
from stackling.identity.api import page
from stackling.identity.api.resource import Resource
from stackling.identity.api.saml import PAOS, SESSION


class FederatedAuth(Resource):
    """/v3/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}/auth"""

    public = True  # the header Authorization carries the provider's token instead of one of ours
    audited = {"GET": "authenticate", "POST": "authenticate"}

    def on_get(self, req: Request, resp: Response, idp_id: str, protocol_id: str) -> None:
        text = rest.bearer(req)
        if text is None and (PAOS in (req.get_header("Accept") or "") or req.get_header("PAOS")):
            page.private(resp)
            resp.content_type = PAOS  # exactly so: clients compare
            resp.data = saml.ask(self.cloud, idp_id, protocol_id)
            return
        cookies = req.get_cookie_values(SESSION)
        if text is None and cookies:
            page.show_token(resp, saml.resume(self.cloud, idp_id, protocol_id, cookies[0]))
            return
        if text is None:
            raise Unauthorized("The request you have made requires authentication.")
        proof = ByMapped(identity_provider=idp_id, protocol=protocol_id, access_token=text)
        auth = Auth(identity=Identity(methods=["mapped"], mapped=proof), scope="unscoped")
        made = authentication.login(self.cloud, auth)
        page.show_token(resp, made)

    on_post = on_get


ROUTES = (("/v3/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}/auth", FederatedAuth),)
