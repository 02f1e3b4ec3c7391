"""QoS specs."""

from typing import Annotated, Any

from falcon import Request, Response
from msgspec import Meta

from stackling.base.cloud import Cloud
from stackling.base.db import Row
from stackling.base.errors import BadRequest, NotFound
from stackling.base.rest import boolean, caller, convert, json_body, one_param
from stackling.volume.actions import qos
from stackling.volume.api import listing
from stackling.volume.api.body import Items, Key
from stackling.volume.state.qos import Consumer, qos_specs

_SORT_KEYS = {"id": "id", "name": "name", "created_at": "created_at", "consumer": "consumer"}


def view(row: Row) -> dict[str, Any]:
    return {"id": row.id, "name": row.name, "consumer": row.consumer, "specs": row.specs}


def _links(req: Request, cloud: Cloud, row: Row) -> list[dict[str, str]]:
    return listing.links(req, cloud, "qos-specs", row.id)


def _given(req: Request) -> dict[str, str]:
    given = json_body(req)
    # Numbers are common here and kept as their digits.
    inside = given.get("qos_specs") if isinstance(given, dict) else None
    if isinstance(inside, dict):
        inside = {
            k: str(v) if isinstance(v, int) and not isinstance(v, bool) else v for k, v in inside.items()
        }
    return convert({"qos_specs": inside}, Items, key="qos_specs")


def _consumer(word: str) -> Consumer:
    if word not in list(Consumer):
        raise BadRequest(
            f"Invalid input for field/attribute consumer: {word[:64]!r} is none of {', '.join(Consumer)}"
        )
    return Consumer(word)


class QosSpecs:
    """/v3/qos-specs"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response) -> None:
        want = listing.paging(req, _SORT_KEYS)
        sort = [(qos_specs.c[key], down) for key, down in want.sort if key != "id"] + [
            (qos_specs.c.id, want.sort[-1][1])
        ]
        with self.cloud.db.read() as tx:
            rows = qos.listed(tx, caller(req), sort, limit=want.limit, marker=want.marker)
        resp.media = listing.collection(req, self.cloud, "qos_specs", [view(r) for r in rows], rows, want)

    def on_post(self, req: Request, resp: Response) -> None:
        specs = _given(req)
        name = specs.pop("name", "").strip()
        if not name:
            raise BadRequest("Invalid input for field/attribute name: 'name' is a required property")
        consumer = _consumer(specs.pop("consumer", Consumer.BACK_END))
        with self.cloud.db.begin() as tx:
            row = qos.create(tx, self.cloud, caller(req), name, consumer, specs)
        resp.media = {"qos_specs": view(row), "links": _links(req, self.cloud, row)}


class QosSpec:
    """/v3/qos-specs/{qos_id}"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response, qos_id: str) -> None:
        with self.cloud.db.read() as tx:
            row = qos.get(tx, caller(req), qos_id)
        resp.media = {"qos_specs": view(row), "links": _links(req, self.cloud, row)}

    def on_put(self, req: Request, resp: Response, qos_id: str) -> None:
        specs = _given(req)
        word = specs.pop("consumer", None)
        with self.cloud.db.begin() as tx:
            qos.update(tx, caller(req), qos_id, _consumer(word) if word else None, specs)
        resp.media = {"qos_specs": {**specs, **({"consumer": word} if word else {})}}

    def on_delete(self, req: Request, resp: Response, qos_id: str) -> None:
        force = boolean(one_param(req, "force") or "false", "force")
        with self.cloud.db.begin() as tx:
            qos.delete(tx, caller(req), qos_id, force=force)
        resp.status = "202 Accepted"


class Keys:
    """/v3/qos-specs/{qos_id}/delete_keys"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_put(self, req: Request, resp: Response, qos_id: str) -> None:
        keys = convert(json_body(req), list[Annotated[Key, Meta()]], key="keys")
        with self.cloud.db.begin() as tx:
            qos.remove_keys(tx, caller(req), qos_id, keys)
        resp.status = "202 Accepted"


class Association:
    """/v3/qos-specs/{qos_id}/associations, …/associate, …/disassociate and …/disassociate_all, all by GET"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response, qos_id: str, verb: str) -> None:
        who = caller(req)
        if verb == "associations":
            with self.cloud.db.read() as tx:
                rows = qos.associations(tx, who, qos_id)
            resp.media = {
                "qos_associations": [
                    {"association_type": "volume_type", "name": r.name, "id": r.id} for r in rows
                ]
            }
            return
        if verb not in ("associate", "disassociate", "disassociate_all"):
            raise NotFound("The resource could not be found.")
        type_id = one_param(req, "vol_type_id")
        if verb != "disassociate_all" and not type_id:
            raise BadRequest("Volume Type id must not be None.")
        with self.cloud.db.begin() as tx:
            if verb == "associate":
                qos.associate(tx, who, qos_id, type_id or "")
            else:
                qos.disassociate(tx, who, qos_id, type_id if verb == "disassociate" else None)
        resp.status = "202 Accepted"
