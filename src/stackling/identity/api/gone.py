"""What PKI tokens had, and the list of revocations that other services once asked for."""

import sqlalchemy as sa
from falcon import Request, Response

from stackling.base import clock, rest
from stackling.base.errors import Forbidden, Gone
from stackling.identity.actions.permission import may
from stackling.identity.api.application_credential import instant
from stackling.identity.api.resource import Resource
from stackling.identity.state.credential import revocation


class Certificates(Resource):
    """/v3/OS-SIMPLE-CERT/…"""

    public = True

    def on_get(self, req: Request, resp: Response) -> None:
        raise Gone("This resource is no longer available. PKI tokens no longer exist.")


class Revoked(Resource):
    """/v3/auth/tokens/OS-PKI/revoked"""

    def on_get(self, req: Request, resp: Response) -> None:
        raise Forbidden("The revocation list of PKI tokens is disabled.")


class Events(Resource):
    """/v3/OS-REVOKE/events: the tokens that were revoked by themselves"""

    def on_get(self, req: Request, resp: Response) -> None:
        may(rest.caller(req), "list_revoke_events")
        since = rest.one_param(req, "since")
        query = sa.select(revocation).order_by(revocation.c.revoked_at, revocation.c.audit_id)
        if since:
            query = query.where(revocation.c.revoked_at >= instant(since, "since"))
        with self.db.read() as tx:
            rows = tx.execute(query).all()
        made = [{"audit_id": r.audit_id, "issued_before": clock.zulu_micros(r.revoked_at)} for r in rows]
        resp.media = self.listed(req, "events", made)


ROUTES = (
    ("/v3/OS-SIMPLE-CERT/ca", Certificates),
    ("/v3/OS-SIMPLE-CERT/certificates", Certificates),
    ("/v3/auth/tokens/OS-PKI/revoked", Revoked),
    ("/v3/OS-REVOKE/events", Events),
)
