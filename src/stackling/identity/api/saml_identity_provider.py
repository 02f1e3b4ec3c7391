"""The cloud as a SAML2 identity provider: its metadata, and assertions for service providers (Keystone to Keystone)."""

from falcon import Request, Response
from msgspec import Struct

from stackling.base import rest
from stackling.identity.actions import saml_identity_provider as actions
from stackling.identity.api.resource import Resource

_XML = "text/xml"


class Named(Struct, forbid_unknown_fields=True):
    id: str


class Identity(Struct, forbid_unknown_fields=True):
    token: Named
    methods: list[object] = []


class Scope(Struct, forbid_unknown_fields=True):
    service_provider: Named


class Wanted(Struct, forbid_unknown_fields=True):
    identity: Identity
    scope: Scope


class Metadata(Resource):
    """/v3/OS-FEDERATION/saml2/metadata"""

    public = True  # administrators of other clouds fetch it

    def on_get(self, req: Request, resp: Response) -> None:
        resp.content_type = _XML
        resp.data = actions.identity_provider(self.cloud).metadata()


class Assertion(Resource):
    """/v3/auth/OS-FEDERATION/saml2: the response alone"""

    public = True  # the body holds the token
    audited = {"POST": "authenticate"}
    enveloped = False

    def on_post(self, req: Request, resp: Response) -> None:
        want = rest.body(req, Wanted, key="auth")
        made = actions.assert_bearer(
            self.cloud, want.identity.token.id, want.scope.service_provider.id, enveloped=self.enveloped
        )
        self.cloud.audit.target(want.scope.service_provider.id)
        resp.content_type, resp.data = _XML, made.text
        resp.set_header("X-sp-url", made.sp_url)
        resp.set_header("X-auth-url", made.auth_url)
        resp.set_header("Cache-Control", "no-store")


class EnvelopedAssertion(Assertion):
    """/v3/auth/OS-FEDERATION/saml2/ecp: the response in an envelope, as command lines bring it on"""

    enveloped = True


ROUTES = (
    ("/v3/OS-FEDERATION/saml2/metadata", Metadata),
    ("/v3/auth/OS-FEDERATION/saml2", Assertion),
    ("/v3/auth/OS-FEDERATION/saml2/ecp", EnvelopedAssertion),
)
