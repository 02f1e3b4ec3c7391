"""SAML2: how a provider speaks it (ours), our metadata for it, and where its answers arrive."""

import base64
import binascii
import urllib.parse

import msgspec
from falcon import Request, Response

from stackling.base import rest
from stackling.base.cloud import Cloud
from stackling.base.errors import BadRequest
from stackling.identity.actions import saml as actions
from stackling.identity.api import page
from stackling.identity.api.resource import ROOT, Resource, empty
from stackling.identity.saml import Options

COOKIE, SESSION = "stackling_saml", "stackling_saml_session"
PAOS = "application/vnd.paos+xml"
_LARGEST = 512 << 10


class Saml(Resource):
    """/v3/OS-FEDERATION/identity_providers/{idp_id}/saml2"""

    def on_get(self, req: Request, resp: Response, idp_id: str) -> None:
        with self.db.read() as tx:
            found = actions.get(tx, rest.caller(req), idp_id)
        self._show(req, resp, idp_id, found)

    def on_put(self, req: Request, resp: Response, idp_id: str) -> None:
        want = rest.body(req, Options, key="saml2")
        with self.db.begin() as tx:
            made = actions.put(tx, rest.caller(req), idp_id, want)
        self._show(req, resp, idp_id, made)

    def on_delete(self, req: Request, resp: Response, idp_id: str) -> None:
        with self.db.begin() as tx:
            actions.delete(tx, rest.caller(req), idp_id)
        empty(resp)

    def _show(self, req: Request, resp: Response, idp_id: str, options: Options) -> None:
        path = f"/OS-FEDERATION/identity_providers/{idp_id}/saml2"
        resp.media = {"saml2": self.linked(req, path, msgspec.to_builtins(options))}


class Metadata(Resource):
    """/v3/auth/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}/saml2/metadata"""

    public = True  # the provider's administrator, or the provider itself, fetches it

    def on_get(self, req: Request, resp: Response, idp_id: str, protocol_id: str) -> None:
        resp.content_type = "application/samlmetadata+xml"
        resp.data = actions.metadata(self.cloud, idp_id, protocol_id)


class Consumer(Resource):
    """/v3/auth/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}/saml2/acs: assertions arrive here"""

    public = True  # what arrives proves who it is

    def on_post(self, req: Request, resp: Response, idp_id: str, protocol_id: str) -> None:
        page.private(resp)
        text = rest.raw_body(req, _LARGEST)
        if (req.content_type or "").partition(";")[0].strip() == PAOS:
            made = actions.enter(self.cloud, idp_id, protocol_id, text)
            page.show_token(resp, made)
            return
        form = dict(urllib.parse.parse_qsl(text.decode("ascii", errors="replace"), max_num_fields=8))
        try:
            response = base64.b64decode("".join(form["SAMLResponse"].split()), validate=True)
        except (KeyError, ValueError, binascii.Error):
            raise BadRequest("Expecting to find SAMLResponse in the form.") from None
        cookies = req.get_cookie_values(COOKIE)
        if not cookies and "again" not in form:
            # Sent by a page of another site, the form came without our cookie. Sent once more by ours, it has it.
            page.form(resp, "", {"SAMLResponse": form["SAMLResponse"], "again": "1"})
            return
        cookie = cookies[0] if cookies else None
        made, origin = actions.finish(self.cloud, idp_id, protocol_id, cookie, response)
        resp.unset_cookie(COOKIE, path=f"{ROOT}/auth/OS-FEDERATION", same_site="Lax")
        page.form(resp, origin, {"token": made.text})


class Shibboleth(Resource):
    """/Shibboleth.sso/SAML2/ECP: where clouds with mod_shib take assertions, and other clouds bring ours

    The client goes on to its provider's and protocol's `auth`, whatever Location says, and brings the cookie there.
    """

    public = True  # what arrives proves who it is

    def on_post(self, req: Request, resp: Response) -> None:
        page.private(resp)
        made = actions.arrive(self.cloud, rest.raw_body(req, _LARGEST))
        secure = self.cloud.config.base_url.startswith("https:")
        path = f"{ROOT}/OS-FEDERATION"
        page.cookie(resp, SESSION, made, path=path, seconds=actions.PATIENCE, secure=secure)
        resp.status = "302 Found"
        resp.set_header("Location", f"{self.cloud.config.base_url}{ROOT}")


_AT = "/v3/auth/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}/saml2"
ROUTES = (
    ("/v3/OS-FEDERATION/identity_providers/{idp_id}/saml2", Saml),
    (f"{_AT}/metadata", Metadata),
    (f"{_AT}/acs", Consumer),
)


def outside(cloud: Cloud) -> list[tuple[str, object]]:
    """Routes that are not below the service."""
    return [(actions.SHIBBOLETH, Shibboleth(cloud))]
