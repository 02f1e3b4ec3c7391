"""/v3/domains/{domain_id}/config and its groups, options and defaults"""

from typing import Any

from falcon import Request, Response

from stackling.base import rest
from stackling.identity.actions import domain_config as actions
from stackling.identity.api.resource import Resource, empty


class Config(Resource):
    """/v3/domains/{domain_id}/config[/{group}[/{option}]]"""

    def on_get(
        self,
        req: Request,
        resp: Response,
        domain_id: str,
        group: str | None = None,
        option: str | None = None,
    ) -> None:
        with self.db.read() as tx:
            made = actions.get(tx, self.cloud, rest.caller(req), domain_id, group, option)
        resp.media = {"config": made}

    def on_patch(
        self,
        req: Request,
        resp: Response,
        domain_id: str,
        group: str | None = None,
        option: str | None = None,
    ) -> None:
        want = rest.convert(rest.json_body(req), dict[str, Any], key="config")
        with self.db.begin() as tx:
            made = actions.update(tx, self.cloud, rest.caller(req), domain_id, want, group, option)
        resp.media = {"config": made}

    def on_delete(
        self,
        req: Request,
        resp: Response,
        domain_id: str,
        group: str | None = None,
        option: str | None = None,
    ) -> None:
        with self.db.begin() as tx:
            actions.delete(tx, self.cloud, rest.caller(req), domain_id, group, option)
        empty(resp)


class Whole(Config):
    """/v3/domains/{domain_id}/config"""

    def on_put(self, req: Request, resp: Response, domain_id: str) -> None:
        want = rest.convert(rest.json_body(req), dict[str, dict[str, Any]], key="config")
        with self.db.begin() as tx:
            made, fresh = actions.put(tx, self.cloud, rest.caller(req), domain_id, want)
        resp.status, resp.media = "201 Created" if fresh else "200 OK", {"config": made}


class Defaults(Resource):
    """/v3/domains/config[/{group}[/{option}]]/default"""

    def on_get(
        self, req: Request, resp: Response, group: str | None = None, option: str | None = None
    ) -> None:
        resp.media = {"config": actions.defaults(rest.caller(req), group, option)}


ROUTES = (
    ("/v3/domains/config/default", Defaults),
    ("/v3/domains/config/{group}/default", Defaults),
    ("/v3/domains/config/{group}/{option}/default", Defaults),
    ("/v3/domains/{domain_id}/config", Whole),
    ("/v3/domains/{domain_id}/config/{group}", Config),
    ("/v3/domains/{domain_id}/config/{group}/{option}", Config),
)
