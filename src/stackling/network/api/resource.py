"""One kind of resource over HTTP: list, create (one or many), show, update, delete, tags. Each noun describes its own."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from falcon import HTTP_201, HTTP_204, Request, Response
from msgspec import Struct
from sqlalchemy import ColumnElement, Table

from stackling.base import clock, rest
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest
from stackling.network.actions import tag as tag_actions
from stackling.network.api import body, query
from stackling.network.state.standard import tags_of

View = Callable[[Tx, Cloud, Caller, Sequence[Row]], list[dict[str, Any]]]


class Kind(Struct, frozen=True, kw_only=True):
    """A kind of resource as the API knows it. `wire` maps wire names of attributes to the structs' where they differ."""

    singular: str
    plural: str
    paths: tuple[str, ...]  # below /v2.0; the first is the canonical one
    noun: str  # as errors say it
    table: Table
    new: type
    changes: type | None
    wire: Mapping[str, str] = {}
    attributes: frozenset[str]  # all that a view can have
    find: Callable[..., Row]
    create: Callable[..., Row]
    update: Callable[..., Row] | None
    remove: Callable[..., None]
    visible: Callable[[Caller], ColumnElement[bool] | None]
    view: View
    conditions: Mapping[str, query.Condition] = {}
    tags: str | None = None  # the collection's name in the rules about tags
    before_list: Callable[[Cloud, Caller], None] | None = None

    def filters(self) -> dict[str, query.Condition]:
        """Attributes that a list may be filtered by: those that are columns, and those with a condition of their own."""
        named = {
            name: query.column(self.table.c[self.wire.get(name, name)], name)
            for name in self.attributes
            if self.wire.get(name, name) in self.table.c
        }
        return {**named, "tenant_id": query.column(self.table.c.project_id, "tenant_id"), **self.conditions}

    def sortable(self) -> dict[str, ColumnElement[Any]]:
        named = {
            n: self.table.c[self.wire.get(n, n)]
            for n in self.attributes
            if self.wire.get(n, n) in self.table.c
        }
        simple = {n: c for n, c in named.items() if str(c.type) not in ("JSON", "JSONB")}
        return {**simple, "tenant_id": self.table.c.project_id}


def standard_view(row: Row, tags: Mapping[str, list[str]]) -> dict[str, Any]:
    """The attributes that every resource shows."""
    return {
        "id": row.id,
        "name": row.name,
        "description": row.description,
        "tenant_id": row.project_id,
        "project_id": row.project_id,
        "created_at": clock.zulu(row.created_at),
        "updated_at": clock.zulu(row.updated_at),
        "revision_number": row.revision_number,
        "tags": tags.get(row.id, []),
    }


STANDARD = frozenset(
    {
        "id",
        "name",
        "description",
        "tenant_id",
        "project_id",
        "created_at",
        "updated_at",
        "revision_number",
        "tags",
    }
)


def tags_for(tx: Tx, rows: Sequence[Row]) -> dict[str, list[str]]:
    return tags_of(tx, [r.id for r in rows])


def only(made: dict[str, Any], fields: Iterable[str]) -> dict[str, Any]:
    """The attributes that were asked for; all when none was."""
    wanted = set(fields)
    return {k: v for k, v in made.items() if k in wanted} if wanted else made


def revision(req: Request) -> int | None:
    """The revision that `If-Match` insists on. Raises BadRequest."""
    header = req.get_header("If-Match")
    if header is None:
        return None
    word, _, number = header.strip().partition("=")
    if word != "revision_number" or not (number.isascii() and number.isdigit() and len(number) < 10):
        raise BadRequest(f"Invalid If-Match header: {header[:64]!r}; it takes revision_number=<number>")
    return int(number)


class Collection:
    """`/v2.0/<plural>`"""

    def __init__(self, cloud: Cloud, kind: Kind) -> None:
        self.cloud, self.kind = cloud, kind
        self._filters, self._sortable = kind.filters(), kind.sortable()

    def on_get(self, req: Request, resp: Response) -> None:
        kind, caller = self.kind, rest.caller(req)
        want = query.asked(req)
        if kind.before_list is not None:
            kind.before_list(self.cloud, caller)
        with self.cloud.db.read() as tx:
            rows = query.page(
                tx, kind.table, want, self._filters, self._sortable, kind.visible(caller), kind.noun
            )
            made = kind.view(tx, self.cloud, caller, rows)
        resp.media = {kind.plural: [only(m, want.fields) for m in made]}
        links = query.links(req, self.cloud, want, rows)
        if links:
            resp.media[f"{kind.plural}_links"] = links

    def on_post(self, req: Request, resp: Response) -> None:
        kind, caller = self.kind, rest.caller(req)
        whole = rest.json_body(req)
        if not isinstance(whole, dict) or len(whole) != 1 or not set(whole) <= {kind.singular, kind.plural}:
            raise BadRequest(
                f"Unable to find '{kind.singular}' in request body, or other keys stand beside it"
            )
        many = kind.plural in whole
        given = whole[kind.plural] if many else [whole[kind.singular]]
        if not isinstance(given, list) or not given:
            raise BadRequest("Resources required")
        if len(given) > 1000:
            raise BadRequest("More than 1000 resources in one request")
        wants: list[Any] = [body.convert(g, kind.new, kind.wire, kind.attributes) for g in given]
        with self.cloud.db.begin() as tx:
            rows = self._create(tx, caller, wants)
            made = kind.view(tx, self.cloud, caller, rows)
        resp.status = HTTP_201
        resp.media = {kind.plural: made} if many else {kind.singular: made[0]}

    def _create(self, tx: Tx, caller: Caller, wants: Sequence[Any]) -> list[Row]:
        made = []
        for want in wants:
            row = self.kind.create(tx, self.cloud, caller, want)
            tags = getattr(want, "tags", [])
            if tags and self.kind.tags:
                tag_actions.check(tags)
                tag_actions.write(tx, self.cloud, row.id, tags)
            made.append(row)
        return made


class Item:
    """`/v2.0/<plural>/{id}`"""

    def __init__(self, cloud: Cloud, kind: Kind) -> None:
        self.cloud, self.kind = cloud, kind
        if kind.update is not None:
            self.on_put = self._put

    def on_get(self, req: Request, resp: Response, id: str) -> None:
        kind, caller = self.kind, rest.caller(req)
        with self.cloud.db.read() as tx:
            row = kind.find(tx, caller, id)
            made = kind.view(tx, self.cloud, caller, [row])[0]
        fields = [f for part in query.values(req, "fields") for f in part.split(",") if f]
        resp.media = {kind.singular: only(made, fields)}

    def _put(self, req: Request, resp: Response, id: str) -> None:
        kind, caller = self.kind, rest.caller(req)
        assert kind.update is not None
        assert kind.changes is not None
        want: Any = body.convert(body.one(req, kind.singular), kind.changes, kind.wire, kind.attributes)
        with self.cloud.db.begin() as tx:
            row = kind.update(tx, self.cloud, caller, id, want, revision=revision(req))
            made = kind.view(tx, self.cloud, caller, [row])[0]
        resp.media = {kind.singular: made}

    def on_delete(self, req: Request, resp: Response, id: str) -> None:
        with self.cloud.db.begin() as tx:
            self.kind.remove(tx, self.cloud, rest.caller(req), id, revision=revision(req))
        resp.status = HTTP_204


class Tags:
    """`/v2.0/<plural>/{id}/tags`"""

    def __init__(self, cloud: Cloud, kind: Kind) -> None:
        self.cloud, self.kind = cloud, kind
        self.collection = kind.tags or ""

    def on_get(self, req: Request, resp: Response, id: str) -> None:
        with self.cloud.db.read() as tx:
            resp.media = {"tags": tag_actions.of(tx, rest.caller(req), self.kind.find, self.collection, id)}

    def on_put(self, req: Request, resp: Response, id: str) -> None:
        texts = self._texts(req)
        with self.cloud.db.begin() as tx:
            made = tag_actions.replace(
                tx, self.cloud, rest.caller(req), self.kind.find, self.kind.table, self.collection, id, texts
            )
        resp.media = {"tags": made}

    def on_post(self, req: Request, resp: Response, id: str) -> None:
        texts = self._texts(req)
        with self.cloud.db.begin() as tx:
            made = tag_actions.add(
                tx, self.cloud, rest.caller(req), self.kind.find, self.kind.table, self.collection, id, texts
            )
        resp.status, resp.media = HTTP_201, {"tags": made}

    def on_delete(self, req: Request, resp: Response, id: str) -> None:
        with self.cloud.db.begin() as tx:
            tag_actions.remove(
                tx, self.cloud, rest.caller(req), self.kind.find, self.kind.table, self.collection, id
            )
        resp.status = HTTP_204

    def _texts(self, req: Request) -> list[str]:
        whole = rest.json_body(req)
        if not isinstance(whole, dict) or set(whole) != {"tags"}:
            raise BadRequest("Invalid tags body")
        return body.words(whole["tags"], "tags")


class Tag:
    """`/v2.0/<plural>/{id}/tags/{tag}`"""

    def __init__(self, cloud: Cloud, kind: Kind) -> None:
        self.cloud, self.kind = cloud, kind
        self.collection = kind.tags or ""

    def on_get(self, req: Request, resp: Response, id: str, tag: str) -> None:
        with self.cloud.db.read() as tx:
            tag_actions.has(tx, rest.caller(req), self.kind.find, self.collection, id, tag)
        resp.status = HTTP_204

    def on_put(self, req: Request, resp: Response, id: str, tag: str) -> None:
        with self.cloud.db.begin() as tx:
            tag_actions.add(
                tx, self.cloud, rest.caller(req), self.kind.find, self.kind.table, self.collection, id, [tag]
            )
        resp.status = HTTP_201

    def on_delete(self, req: Request, resp: Response, id: str, tag: str) -> None:
        with self.cloud.db.begin() as tx:
            tag_actions.remove(
                tx, self.cloud, rest.caller(req), self.kind.find, self.kind.table, self.collection, id, tag
            )
        resp.status = HTTP_204


def routes(cloud: Cloud, kind: Kind) -> Iterable[tuple[str, object]]:
    for path in kind.paths:
        yield f"/v2.0/{path}", Collection(cloud, kind)
        yield f"/v2.0/{path}/{{id}}", Item(cloud, kind)
        if kind.tags:
            yield f"/v2.0/{path}/{{id}}/tags", Tags(cloud, kind)
            yield f"/v2.0/{path}/{{id}}/tags/{{tag}}", Tag(cloud, kind)
