"""Traits and resource classes."""

from typing import Annotated

from falcon import Request, Response
from msgspec import Meta

from stackling.base.cloud import Cloud
from stackling.base.db import Tx
from stackling.base.errors import BadRequest, Conflict, NotFound
from stackling.base.microversion import Body
from stackling.base.rest import base_url, body, boolean, caller, one_param
from stackling.placement.actions import vocabulary as actions
from stackling.placement.actions.problem import BadQuery
from stackling.placement.api import query
from stackling.placement.api.version import only, since, stamp
from stackling.placement.state.inventory import inventory
from stackling.placement.state.provider import provider_trait
from stackling.placement.state.vocabulary import custom_class


class ClassBody(Body):
    name: Annotated[str, Meta(pattern=r"^CUSTOM_[A-Z0-9_]+$", max_length=255)]


class _Room:
    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud


class Traits(_Room):
    """/traits"""

    def on_get(self, req: Request, resp: Response) -> None:
        only(req, 6)
        caller(req).may("placement:traits:list")
        query.check(req, {"name", "associated"})
        with self.cloud.db.read() as tx:
            names = actions.traits(tx)
            if text := one_param(req, "associated"):
                used = _used(tx)
                wanted = boolean(text, "associated")
                names = [n for n in names if (n in used) == wanted]
        if text := one_param(req, "name"):
            how, _, what = text.partition(":")
            if how == "in":
                names = [n for n in names if n in what.split(",")]
            elif how == "startswith":
                names = [n for n in names if n.startswith(what)]
            else:
                raise BadQuery(
                    "Badly formatted name parameter. Expected name query string parameter in form: ?name=[in|startswith]:[name1,name2|prefix]."
                )
        stamp(req, resp, self.cloud)
        resp.media = {"traits": names}


def _used(tx: Tx) -> set[str]:
    return {r.trait for r in tx.execute(provider_trait.select())}


class Trait(_Room):
    """/traits/{name}"""

    def on_get(self, req: Request, resp: Response, name: str) -> None:
        only(req, 6)
        caller(req).may("placement:traits:show")
        with self.cloud.db.read() as tx:
            if not actions.trait_exists(tx, name):
                raise NotFound(f"No such trait(s): {name[:255]}.")
        stamp(req, resp, self.cloud)
        resp.status = 204

    def on_put(self, req: Request, resp: Response, name: str) -> None:
        only(req, 6)
        caller(req).may("placement:traits:update")
        with self.cloud.db.begin() as tx:
            new = actions.make_trait(tx, self.cloud, name)
        resp.status = 201 if new else 204
        stamp(req, resp, self.cloud)
        resp.set_header("Location", f"{base_url(req, self.cloud)}/placement/traits/{name}")

    def on_delete(self, req: Request, resp: Response, name: str) -> None:
        only(req, 6)
        caller(req).may("placement:traits:delete")
        with self.cloud.db.begin() as tx:
            actions.remove_trait(tx, name)
        resp.status = 204


def _class(name: str) -> dict[str, object]:
    return {"name": name, "links": [{"rel": "self", "href": f"/placement/resource_classes/{name}"}]}


class Classes(_Room):
    """/resource_classes"""

    def on_get(self, req: Request, resp: Response) -> None:
        only(req, 2)
        caller(req).may("placement:resource_classes:list")
        with self.cloud.db.read() as tx:
            names = actions.classes(tx)
        stamp(req, resp, self.cloud)
        resp.media = {"resource_classes": [_class(n) for n in names]}

    def on_post(self, req: Request, resp: Response) -> None:
        only(req, 2)
        caller(req).may("placement:resource_classes:create")
        want = body(req, ClassBody)
        with self.cloud.db.begin() as tx:
            if not actions.make_class(tx, self.cloud, want.name):
                raise Conflict(f"Conflicting resource class already exists: {want.name}")
        resp.status = 201
        resp.set_header("Location", f"{base_url(req, self.cloud)}/placement/resource_classes/{want.name}")


class Class(_Room):
    """/resource_classes/{name}"""

    def on_get(self, req: Request, resp: Response, name: str) -> None:
        only(req, 2)
        caller(req).may("placement:resource_classes:show")
        with self.cloud.db.read() as tx:
            if not actions.class_exists(tx, name):
                raise NotFound(f"No such resource class: {name[:255]}")
        stamp(req, resp, self.cloud)
        resp.media = _class(name)

    def on_put(self, req: Request, resp: Response, name: str) -> None:
        only(req, 2)
        caller(req).may("placement:resource_classes:update")
        if since(req, 1, 7):
            with self.cloud.db.begin() as tx:
                new = actions.make_class(tx, self.cloud, name)
            resp.status = 201 if new else 204
            resp.set_header("Location", f"{base_url(req, self.cloud)}/placement/resource_classes/{name}")
            return
        want = body(req, ClassBody)
        with self.cloud.db.begin() as tx:
            if not actions.class_exists(tx, name):
                raise NotFound(f"No such resource class: {name[:255]}")
            if name in actions.standard_classes():
                raise BadRequest(f"Cannot update standard resource class {name}")
            if want.name != name and not actions.make_class(tx, self.cloud, want.name):
                raise Conflict(f"Resource class already exists: {want.name}")
            tx.execute(
                inventory.update().where(inventory.c.resource_class == name).values(resource_class=want.name)
            )
            if want.name != name:
                tx.execute(custom_class.delete().where(custom_class.c.name == name))
        stamp(req, resp, self.cloud)
        resp.media = _class(want.name)

    def on_delete(self, req: Request, resp: Response, name: str) -> None:
        only(req, 2)
        caller(req).may("placement:resource_classes:delete")
        with self.cloud.db.begin() as tx:
            actions.remove_class(tx, name)
        resp.status = 204
