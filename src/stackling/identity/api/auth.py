"""/v3/auth: tokens, and what a token's bearer can reach."""

from falcon import Request, Response

from stackling.base import peer, rest
from stackling.base.cloud import Cloud
from stackling.base.errors import Forbidden, NotFound
from stackling.identity.actions import authentication, login_rate, permission, token
from stackling.identity.actions import project as project_actions
from stackling.identity.actions.authentication import Auth
from stackling.identity.actions.multi_factor import Unproven
from stackling.identity.api import project as project_api
from stackling.identity.api.oauth1 import signed
from stackling.identity.api.resource import Resource, empty, filtered, truth
from stackling.identity.state import grants
from stackling.identity.state.project import project


class Tokens(Resource):
    """/v3/auth/tokens"""

    public = True  # logging in is how one gets a token
    audited = {"POST": "authenticate"}

    def on_post(self, req: Request, resp: Response) -> None:
        auth = rest.convert(rest.json_body(req), Auth, key="auth")
        for part in (auth.identity.mapped, auth.identity.openid):
            if part is not None and part.access_token is None:
                part.access_token = rest.bearer(req)
        if auth.identity.oauth1 is not None:
            auth.identity.oauth1.signed = signed(req, self.cloud)
        refs = login_rate.named(auth)
        if refs is not None:
            login_rate.check(self.cloud, peer.address(req, self.cloud.config.api), refs)
        try:
            made = authentication.login(self.cloud, auth, req.get_header("OpenStack-Auth-Receipt"))
        except Unproven as e:
            resp.status, resp.media = "401 Unauthorized", e.body
            resp.set_header("OpenStack-Auth-Receipt", e.receipt)
            return
        resp.status = "201 Created"
        self._show(req, resp, made)

    def on_get(self, req: Request, resp: Response) -> None:
        found = self._subject(req, "check_token" if req.method == "HEAD" else "validate_token")
        self._show(req, resp, found)

    def on_delete(self, req: Request, resp: Response) -> None:
        found = self._subject(req, "revoke_token")
        self.cloud.audit.target(found.payload.audit[0])
        with self.db.begin() as tx:
            token.revoke(tx, self.cloud, found)
        empty(resp)

    def _subject(self, req: Request, rule: str) -> token.Token:
        caller = rest.caller(req)
        text = req.get_header("X-Subject-Token")
        if not text:
            permission.may(caller, rule)
            raise NotFound("Could not find token: the header X-Subject-Token is missing.")
        expired = rest.one_param(req, "allow_expired")
        try:
            allow_expired = expired is not None and truth(expired)
            found = token.validate(
                self.cloud, text, allow_expired=allow_expired, revision_now=caller.revision
            )
        except NotFound:
            permission.may(caller, rule, {"target.token.user_id": caller.user_id})
            raise
        permission.may(caller, rule, found.subject)
        return found

    def _show(self, req: Request, resp: Response, found: token.Token) -> None:
        resp.content_type = "application/json"
        resp.data = found.encoded("nocatalog" not in req.params)
        resp.set_header("X-Subject-Token", found.text)


class Projects(Resource):
    """/v3/auth/projects"""

    def on_get(self, req: Request, resp: Response) -> None:
        caller = rest.caller(req)
        with self.db.read() as tx:
            query = project_actions.of_user(tx, caller.user_id, self.cloud.clock.now()).where(
                project.c.enabled.is_(True)
            )
            rows = list(tx.execute(filtered(req, query, project, "name").order_by(project.c.id)))
            made = project_api.many(self, req, tx, rows)
        resp.media = self.listed(req, "projects", made)


class Domains(Resource):
    """/v3/auth/domains"""

    def on_get(self, req: Request, resp: Response) -> None:
        with self.db.read() as tx:
            query = project_actions.domains_of_user(tx, rest.caller(req).user_id, self.cloud.clock.now())
            rows = list(tx.execute(filtered(req, query, project, "name").order_by(project.c.id)))
            made = project_api.many_domains(self, req, tx, rows)
        resp.media = self.listed(req, "domains", made)


class System(Resource):
    """/v3/auth/system"""

    def on_get(self, req: Request, resp: Response) -> None:
        with self.db.read() as tx:
            reaches = grants.roles_of(
                tx, rest.caller(req).user_id, grants.on_system(), self.cloud.clock.now()
            )
        resp.media = {
            "system": [{"all": True}] if reaches else [],
            "links": {"self": rest.self_url(req, self.cloud)},
        }


class Catalog(Resource):
    """/v3/auth/catalog"""

    def on_get(self, req: Request, resp: Response) -> None:
        if rest.caller(req).project_id is None:
            raise Forbidden("A project-scoped token is required to produce a service catalog.")
        found = token.tokens(self.cloud).look(rest.token_of(req) or "")
        resp.media = {"catalog": found.catalog or [], "links": {"self": rest.self_url(req, self.cloud)}}


def routes(cloud: Cloud) -> list[tuple[str, object]]:
    return [
        ("/v3/auth/tokens", Tokens(cloud)),
        ("/v3/auth/projects", Projects(cloud)),
        ("/v3/auth/domains", Domains(cloud)),
        ("/v3/auth/system", System(cloud)),
        ("/v3/auth/catalog", Catalog(cloud)),
        ("/v3/OS-FEDERATION/projects", Projects(cloud)),
        ("/v3/OS-FEDERATION/domains", Domains(cloud)),
    ]
