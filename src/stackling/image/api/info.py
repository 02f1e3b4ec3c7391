"""What this image service offers: import methods, stores, usage."""

from typing import Any

from falcon import Request, Response

from stackling.base.cloud import Cloud
from stackling.base.config import ImageStore
from stackling.base.rest import caller
from stackling.image import store
from stackling.image.actions import usage
from stackling.image.actions.image_import import METHODS


class Import:
    """/v2/info/import"""

    def on_get(self, req: Request, resp: Response) -> None:
        resp.media = {
            "import-methods": {
                "description": "Import methods available.",
                "type": "array",
                "value": list(METHODS),
            },
        }


def _view(cloud: Cloud, one: ImageStore) -> dict[str, Any]:
    made: dict[str, Any] = {"id": one.name, "weight": one.weight}
    if one.description:
        made["description"] = one.description
    if one.name == cloud.config.image.default_store:
        made["default"] = "true"
    if one.type == "http":
        made["read-only"] = "true"
    return made


class Stores:
    """/v2/info/stores"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response) -> None:
        stores = store.of(self.cloud)
        resp.media = {"stores": [_view(self.cloud, one) for one in stores.config.values()]}


class StoresDetail:
    """/v2/info/stores/detail"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response) -> None:
        caller(req).may("stores_info_detail")
        stores = store.of(self.cloud)
        resp.media = {
            "stores": [
                {
                    **_view(self.cloud, one),
                    "type": one.type,
                    "properties": stores[one.name].about() if one.name in stores.writable else {},
                }
                for one in stores.config.values()
            ]
        }


class Usage:
    """/v2/info/usage"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response) -> None:
        project = caller(req).project_id or ""
        with self.cloud.db.read() as tx:
            used = usage.of(tx, [project])
            most = usage.QUOTAS.limits(tx, self.cloud, project)
        resp.media = {"usage": {name: {"usage": n, "limit": most[name]} for name, n in used.items()}}
