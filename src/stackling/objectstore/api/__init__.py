"""The Object Storage API v1 (Swift's) on the wire."""

from collections.abc import Iterable
from typing import Any

from stackling.base.cloud import Cloud
from stackling.base.rest import Service
from stackling.objectstore.api import account, answer, container, cors, info, object
from stackling.objectstore.api.request import PREFIX, transaction_id


def routes(cloud: Cloud) -> Iterable[tuple[str, Any]]:
    yield "/info", info.Info(cloud)
    yield "/healthcheck", info.Healthcheck()
    yield "/crossdomain.xml", info.Crossdomain()
    yield "/v1/{account}", account.Account(cloud)
    yield "/v1/{account}/{container}", container.Container(cloud)
    yield "/v1/{account}/{container}/{name:path}", object.Object(cloud)


SERVICE = Service(
    name="object-store",
    prefix=PREFIX,
    routes=routes,
    envelope=answer.envelope,
    headers=cors.on_every,
    request_id=transaction_id,
    own_unauthorized=True,
    private_routes=False,
)

__all__ = ["SERVICE"]
