"""Accounts on the wire."""

from falcon import Request, Response

from stackling.base.db import Row
from stackling.objectstore import store
from stackling.objectstore.actions import account
from stackling.objectstore.actions.account import Usage
from stackling.objectstore.actions.object import stamp
from stackling.objectstore.api import answer, bulk, listing
from stackling.objectstore.api.cors import Door
from stackling.objectstore.api.request import given, params_of, place_of, visitor

_QUOTAS = ("X-Account-Quota-",)


class Account(Door):
    """/v1/{account}"""

    methods = ("GET", "HEAD", "PUT", "POST", "DELETE")

    def on_get(self, req: Request, resp: Response, **_: str) -> None:
        found = self._tell(req, resp)
        window = listing.window(params_of(req))
        entries = []
        if found is not None:
            with self.cloud.db.read() as tx:
                entries = [listing.of_container(row) for row in account.containers(tx, found.id, window)]
        listing.send(req, resp, entries, "account", place_of(req).account, "container")

    def on_head(self, req: Request, resp: Response, **_: str) -> None:
        self._tell(req, resp)
        resp.status = "204 No Content"
        resp.content_type = f"{listing.form_of(req)}; charset=utf-8"

    def _tell(self, req: Request, resp: Response) -> Row | None:
        at = place_of(req)
        who = visitor(req, self.cloud, at)
        with self.cloud.db.read() as tx:
            found, usage, standing = account.look(tx, self.cloud, who, at.account)
        if found is not None:
            answer.put_headers(resp, answer.visible(found.headers, standing))
        _totals(resp, "X-Account-", list(usage.values()))
        for name in store.of(self.cloud).names:
            if name in usage:
                _totals(resp, f"X-Account-Storage-Policy-{name}-", [usage[name]])
        resp.set_header("X-Timestamp", stamp(found.created_at if found else self.cloud.clock.now()))
        resp.set_header("Accept-Ranges", "bytes")
        return found

    def on_post(self, req: Request, resp: Response, **_: str) -> None:
        at = place_of(req)
        if "bulk-delete" in params_of(req):
            bulk.delete(self.cloud, req, resp, at)
            return
        who = visitor(req, self.cloud, at)
        with self.cloud.db.begin() as tx:
            account.update(tx, self.cloud, who, at.account, given(req, "Account", _QUOTAS))
        answer.empty(resp, "204 No Content")

    def on_put(self, req: Request, resp: Response, **_: str) -> None:
        at = place_of(req)
        if "extract-archive" in params_of(req):
            bulk.extract(self.cloud, req, resp, at)
            return
        who = visitor(req, self.cloud, at)
        with self.cloud.db.begin() as tx:
            new = account.create(tx, self.cloud, who, at.account, given(req, "Account", _QUOTAS))
        answer.empty(resp, "201 Created" if new else "202 Accepted")

    def on_delete(self, req: Request, resp: Response, **_: str) -> None:
        at = place_of(req)
        if "bulk-delete" in params_of(req):
            bulk.delete(self.cloud, req, resp, at)
            return
        who = visitor(req, self.cloud, at)
        with self.cloud.db.begin() as tx:
            account.delete(tx, self.cloud, who, at.account)
        answer.empty(resp, "204 No Content")


def _totals(resp: Response, prefix: str, usage: list[Usage]) -> None:
    resp.set_header(f"{prefix}Container-Count", str(sum(u.containers for u in usage)))
    resp.set_header(f"{prefix}Object-Count", str(sum(u.objects for u in usage)))
    resp.set_header(f"{prefix}Bytes-Used", str(sum(u.bytes for u in usage)))
