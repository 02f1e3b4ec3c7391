"""What this image service offers: import methods, stores, usage."""

from falcon import Request, Response

from stackling.base.cloud import Cloud
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


class Stores:
    """/v2/info/stores"""

    def on_get(self, req: Request, resp: Response) -> None:
        resp.media = {"stores": [{"id": "file", "default": "true"}]}


class StoresDetail:
    """/v2/info/stores/detail"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response) -> None:
        caller(req).may("stores_info_detail")
        directory = str(store.of(self.cloud).directory)
        properties = {"data_dir": directory, "chunk_size": 1 << 20, "thin_provisioning": True}
        resp.media = {
            "stores": [
                {"id": "file", "type": "file", "default": "true", "weight": 0, "properties": properties}
            ]
        }


class Usage:
    """/v2/info/usage"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response) -> None:
        who = caller(req)
        with self.cloud.db.read() as tx:
            used = usage.of(tx, [who.project_id or ""])
            most = usage.QUOTAS.limits(tx, self.cloud, who.project_id or "")
        resp.media = {"usage": {name: {"usage": n, "limit": most[name]} for name, n in used.items()}}
