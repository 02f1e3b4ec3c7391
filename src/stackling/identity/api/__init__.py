"""The Identity API v3: routes, errors, and what every answer carries."""

from collections.abc import Iterable

from falcon import Request, Response

from stackling.base import rest
from stackling.base.cloud import Cloud
from stackling.base.rest import Envelope, Problem, Service
from stackling.identity.api import (
    application_credential,
    assignment,
    auth,
    catalog,
    credential,
    domain_config,
    endpoint_group,
    federated_user,
    federation,
    gone,
    group,
    limit,
    membership,
    oauth1,
    oauth2,
    oidc,
    policy_document,
    project,
    role,
    role_assignment,
    saml,
    saml_identity_provider,
    trust,
    user,
    version,
    websso,
)

_ROOMS = (
    version,
    user,
    group,
    membership,
    project,
    domain_config,
    role,
    role_assignment,
    catalog,
    endpoint_group,
    credential,
    application_credential,
    trust,
    oauth1,
    oauth2,
    limit,
    federation,
    gone,
    oidc,
    federated_user,
    saml,
    saml_identity_provider,
    websso,
)
_NO_SUCH_PAGE = (
    "<!doctype html>\n<html lang=en>\n<title>404 Not Found</title>\n<h1>Not Found</h1>\n"
    "<p>There is nothing at this URL. Check its spelling and try again.</p>\n"
)


def routes(cloud: Cloud) -> Iterable[tuple[str, object]]:
    made = [(path, kind(cloud)) for room in _ROOMS for path, kind in room.ROUTES]
    for built in (auth, assignment, policy_document):
        made += built.routes(cloud)
    for _, resource in made:
        if isinstance(resource, (version.Versions, version.Version)):
            resource.paths = [path for path, _ in made]
    return made


def envelope(problem: Problem) -> Envelope:
    if problem.kind == "route":
        return Envelope(text=_NO_SUCH_PAGE, content_type="text/html; charset=utf-8", headers=_VARY)
    if problem.kind == "method":
        return Envelope({"message": problem.error.says}, headers=_VARY)
    error = problem.error
    return Envelope(
        {"error": {"code": problem.status, "message": error.says, "title": error.title}}, headers=_VARY
    )


_VARY = {"Vary": "X-Auth-Token"}


def headers(req: Request, resp: Response) -> None:
    resp.set_header("Vary", "X-Auth-Token")


SERVICE = Service(
    name="identity",
    private_routes=False,
    prefix="/identity",
    routes=routes,
    envelope=envelope,
    headers=headers,
    before=rest.early_json,  # malformed JSON is refused before the route is looked for
)
