"""/v3/auth/OS-FEDERATION/…/websso: logging in with a browser, on behalf of a trusted dashboard"""

import base64
import hashlib
import html

from falcon import Request, Response

from stackling.base import rest
from stackling.base.errors import Unauthorized
from stackling.identity.actions import websso as actions
from stackling.identity.api.resource import ROOT, Resource

_COOKIE = "stackling_websso"
_SCRIPT = "document.forms[0].submit()"
_SCRIPT_HASH = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
# The dashboard takes the token as a form that the browser sends, as Keystone's own page does.
_PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>Logging in</title></head>
<body>
<form method="post" action="{origin}">
<input type="hidden" name="token" value="{token}">
<noscript><button type="submit">Go on</button></noscript>
</form>
<script>{script}</script>
</body>
</html>
"""


class _Websso(Resource):
    public = True  # the browser has no token yet
    audited = {"GET": "authenticate", "POST": "authenticate"}

    def answer(self, req: Request, resp: Response, idp_id: str, protocol_id: str) -> None:
        """Begin a login, or finish the one that the provider sends the browser back from."""
        path = f"/auth/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}/websso"
        here = f"{rest.base_url(req, self.cloud)}{ROOT}{path}"
        secure = here.startswith("https:")
        resp.set_header("Cache-Control", "no-store")
        resp.set_header("Referrer-Policy", "no-referrer")
        state, code = rest.one_param(req, "state"), rest.one_param(req, "code")
        if rest.one_param(req, "error") is not None:
            raise Unauthorized(
                "The identity provider did not let you in.", detail=str(rest.one_param(req, "error"))[:200]
            )
        if state is None or code is None:
            self.cloud.audit.drop()  # nobody is logged in yet
            origin = rest.one_param(req, "origin")
            there, fresh = actions.begin(self.cloud, idp_id, protocol_id, origin, here)
            # Lax, as the way back is a link from another site. Strict would not be sent along.
            resp.set_cookie(
                _COOKIE,
                fresh,
                max_age=actions.PATIENCE,
                path=f"{ROOT}/auth/OS-FEDERATION",
                secure=secure,
                http_only=True,
                same_site="Lax",
            )
            resp.status = "302 Found"
            resp.set_header("Location", there)
            return
        cookies = req.get_cookie_values(_COOKIE)
        cookie = cookies[0] if cookies else None
        made, origin = actions.finish(self.cloud, idp_id, protocol_id, cookie, state, code)
        resp.unset_cookie(_COOKIE, path=f"{ROOT}/auth/OS-FEDERATION", same_site="Lax")
        resp.content_type = "text/html; charset=utf-8"
        resp.set_header("Content-Security-Policy", f"default-src 'none'; script-src 'sha256-{_SCRIPT_HASH}'")
        resp.text = _PAGE.format(
            origin=html.escape(origin, quote=True), token=html.escape(made.text, quote=True), script=_SCRIPT
        )


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
