"""/v3/auth/OS-FEDERATION/…/websso: logging in with a browser, on behalf of a trusted dashboard"""

from falcon import Request, Response

from stackling.base import rest
from stackling.base.errors import Unauthorized
from stackling.identity.actions import saml
from stackling.identity.actions import websso as actions
from stackling.identity.api import page
from stackling.identity.api.resource import ROOT, Resource
from stackling.identity.api.saml import COOKIE as SAML_COOKIE

_COOKIE = "stackling_websso"


class _Websso(Resource):
    public = True  # the browser has no token yet
    audited = {"GET": "authenticate", "POST": "authenticate"}

    def answer(self, req: Request, resp: Response, idp_id: str, protocol_id: str) -> None:
        """Begin a login, or finish the one that the provider sends the browser back from."""
        path = f"/auth/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}/websso"
        here = f"{rest.base_url(req, self.cloud)}{ROOT}{path}"
        secure = here.startswith("https:")
        page.private(resp)
        if actions.by_saml(self.cloud, idp_id, protocol_id):
            origin = rest.one_param(req, "origin")
            there, fresh = saml.begin(self.cloud, idp_id, protocol_id, origin)
            self._leave(resp, there, SAML_COOKIE, fresh, secure)
            return
        state, code = rest.one_param(req, "state"), rest.one_param(req, "code")
        if rest.one_param(req, "error") is not None:
            raise Unauthorized(
                "The identity provider did not let you in.", detail=str(rest.one_param(req, "error"))[:200]
            )
        if state is None or code is None:
            self.cloud.audit.drop()  # nobody is logged in yet
            origin = rest.one_param(req, "origin")
            there, fresh = actions.begin(self.cloud, idp_id, protocol_id, origin, here)
            self._leave(resp, there, _COOKIE, fresh, secure)
            return
        cookies = req.get_cookie_values(_COOKIE)
        cookie = cookies[0] if cookies else None
        made, origin = actions.finish(self.cloud, idp_id, protocol_id, cookie, state, code)
        resp.unset_cookie(_COOKIE, path=f"{ROOT}/auth/OS-FEDERATION", same_site="Lax")
        page.form(resp, origin, {"token": made.text})

    def _leave(self, resp: Response, there: str, name: str, fresh: str, secure: bool) -> None:
        """Send the browser to its provider, with what it is to bring back."""
        page.cookie(
            resp, name, fresh, path=f"{ROOT}/auth/OS-FEDERATION", seconds=actions.PATIENCE, secure=secure
        )
        resp.status = "302 Found"
        resp.set_header("Location", there)


class ProviderWebsso(_Websso):
    """/v3/auth/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}/websso"""

    def on_get(self, req: Request, resp: Response, idp_id: str, protocol_id: str) -> None:
        self.answer(req, resp, idp_id, protocol_id)

    on_post = on_get


class Websso(_Websso):
    """/v3/auth/OS-FEDERATION/websso/{protocol_id}: where only one provider has the protocol"""

    def on_get(self, req: Request, resp: Response, protocol_id: str) -> None:
        self.answer(req, resp, actions.only_provider(self.cloud, protocol_id), protocol_id)

    on_post = on_get


ROUTES = (
    (
        "/v3/auth/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}/websso",
        ProviderWebsso,
    ),
    ("/v3/auth/OS-FEDERATION/websso/{protocol_id}", Websso),
)
