"""One cloud put together: services, policy, steps. The only place where all of them meet.

Every process is made here: the API serves `application`, the worker runs `machines`. Which drivers are plugged in
is the caller's choice (real ones in `boot.node`, fake ones in `boot.fake` and the tests).
"""

from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

from stackling.base import rest
from stackling.base.application import wsgi_app
from stackling.base.clock import Clock
from stackling.base.cloud import Cloud
from stackling.base.config import Config
from stackling.base.db import Database, Tx
from stackling.base.jobs import Machine
from stackling.base.policy import Policy, Rule
from stackling.base.rest import Service

# In the order of the floors: those below are prepared first.
SERVICES = ("identity", "placement", "objectstore", "image", "network", "volume", "compute")


def _room(service: str, room: str) -> Any:
    return import_module(f"stackling.{service}.{room}")


def rules() -> list[Rule]:
    return [rule for service in SERVICES for rule in _room(service, "policy").RULES]


def services() -> list[Service]:
    return [_room(service, "api").SERVICE for service in SERVICES]


def machines() -> list[Machine]:
    """The lives of all resources."""
    return [machine for service in SERVICES for machine in _room(service, "steps").MACHINES]


def load_tables() -> None:
    """Have every table hang on `db.metadata`: those of `base` come with its modules, the services' with their rooms."""
    for module in ("audit", "jobs"):
        import_module(f"stackling.base.{module}")
    for service in SERVICES:
        _room(service, "state")


def assemble(config: Config, database: Database, *, clock: Clock | None = None) -> Cloud:
    """A cloud without drivers."""
    load_tables()
    return Cloud(config, database, Policy(rules(), Path(config.paths.config_dir) / "policy.yaml"), clock)


def prepare(cloud: Cloud) -> None:
    """Make what a cloud has from its first start: admin, roles, catalog, external networks, flavors. Idempotent."""
    for service in SERVICES:
        bootstrap: Callable[[Tx, Cloud], None] = _room(service, "actions.bootstrap").bootstrap
        with cloud.db.begin() as tx:
            bootstrap(tx, cloud)


def application(cloud: Cloud, extra: Iterable[tuple[str, object]] = ()) -> Callable[..., Any]:
    """The WSGI app of all services, and `extra` routes beside them."""
    authenticate = _room("identity", "actions.token").authenticator(cloud)
    rooted = [*_room("identity", "api.audit").routes(cloud), *_room("identity", "api.saml").outside(cloud)]
    return wsgi_app(cloud, services(), authenticate, extra=[("/", Root(cloud)), *rooted, *extra])


class Root:
    """`GET /`: where each service is."""

    public = True

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Any, resp: Any) -> None:
        base = rest.base_url(req, self.cloud)
        resp.media = {"services": {s.name: base + s.prefix for s in services()}}
