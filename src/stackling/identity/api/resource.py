"""How identity's bodies look: links in each object, lists with links, extra attributes, filters by comparator."""

from typing import Annotated, Any, TypeVar

import msgspec
import sqlalchemy as sa
from falcon import Request, Response
from msgspec import Meta

from stackling.base import listing, rest
from stackling.base.cloud import Cloud
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, NotFound

T = TypeVar("T", bound=msgspec.Struct)
ROOT = "/identity/v3"

Name = Annotated[str, Meta(min_length=1, max_length=255, pattern=r"\S")]
ShortName = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"\S")]  # of projects and domains
Id = Annotated[str, Meta(max_length=64)]


class Resource:
    """A Falcon resource that knows its cloud, and answers HEAD wherever it answers GET."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.db = cloud.db

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if hasattr(cls, "on_get") and "on_head" not in cls.__dict__:
            cls.on_head = cls.on_get  # type: ignore[attr-defined]

    def url(self, req: Request, path: str) -> str:
        """The URL of `path` below the version."""
        return f"{rest.base_url(req, self.cloud)}{ROOT}{path}"

    def linked(self, req: Request, path: str, shown: dict[str, Any]) -> dict[str, Any]:
        """`shown` with the link to itself."""
        return {**shown, "links": {"self": self.url(req, path)}}

    def listed(
        self, req: Request, key: str, shown: list[Any], *, next_marker: str | None = None
    ) -> dict[str, Any]:
        """A list as identity answers it."""
        here = rest.self_url(req, self.cloud)
        after = None
        if next_marker is not None:
            rest_of = [p for p in (req.query_string or "").split("&") if p and not p.startswith("marker=")]
            after = here + "?" + "&".join([*rest_of, f"marker={next_marker}"])
        made: dict[str, Any] = {key: shown}
        made["links"] = {
            "next": after,
            "self": here + (f"?{req.query_string}" if req.query_string else ""),
            "previous": None,
        }
        if after:
            made["truncated"] = True
        return made


def wanted(req: Request, key: str, kind: type[T]) -> tuple[T, dict[str, Any]]:
    """What stands under `key` as `kind`, and the attributes that `kind` does not know.

    Identity keeps unknown attributes of most things. Raises BadRequest naming the field, and for a PATCH that names
    nothing, or another id.
    """
    value = rest.json_body(req)
    made: T = rest.convert(value, kind, key=key)
    if req.method == "PATCH":
        if not value[key] and key != "project":  # which upstream lets pass, of all
            raise BadRequest(f"Invalid input for field/attribute {key}: nothing to change is named.")
        if value[key].get("id") not in (None, req.path.rpartition("/")[2]):
            raise BadRequest("Cannot change ID")
    known = {f.encode_name for f in msgspec.structs.fields(kind)}
    extra = {k: v for k, v in value[key].items() if k not in known and k not in ("links", "id")}
    for name in extra:
        if len(name) > 255:
            raise BadRequest(
                f"Invalid input for field/attribute {name[:32]}…: the name is longer than 255 characters"
            )
    return made, extra


def given(change: msgspec.Struct) -> dict[str, Any]:
    """The fields that a PATCH names."""
    return {
        n: getattr(change, n) for n in change.__struct_fields__ if getattr(change, n) is not msgspec.UNSET
    }


_COMPARE = {
    "contains": lambda c, v: c.contains(v, autoescape=True),
    "startswith": lambda c, v: c.startswith(v, autoescape=True),
    "endswith": lambda c, v: c.endswith(v, autoescape=True),
    "icontains": lambda c, v: sa.func.lower(c).contains(v.lower(), autoescape=True),
    "istartswith": lambda c, v: sa.func.lower(c).startswith(v.lower(), autoescape=True),
    "iendswith": lambda c, v: sa.func.lower(c).endswith(v.lower(), autoescape=True),
    "iexact": lambda c, v: sa.func.lower(c) == v.lower(),
}


Truth = bool | str  # users, projects and domains take words for booleans as well


def lenient(value: bool | str, name: str) -> bool:
    """A boolean, or a word for one; the empty word is false. Raises BadRequest naming the field."""
    return False if value == "" else rest.boolean(value, name)


def truth(text: str) -> bool:
    """A boolean in a query: whatever is not said to be false is true."""
    return text.strip().lower() not in ("0", "false", "f", "no", "n", "off")


def filtered(req: Request, query: sa.Select[Any], table: sa.Table, *names: str) -> sa.Select[Any]:
    """`query` narrowed by the parameters among `names`, plain or with a comparator (`name__contains`)."""
    for name in names:
        column = table.c[name]
        value = rest.one_param(req, name)
        if value is not None:
            if isinstance(column.type, sa.Boolean):
                query = query.where(column.is_(truth(value)))
            elif value == "" or value.lower() in ("null", "none"):
                query = query.where(sa.or_(column.is_(None), column == value))
            else:
                query = query.where(column == value)
        if isinstance(column.type, sa.Boolean):
            continue
        for comparator, compare in _COMPARE.items():
            text = rest.one_param(req, f"{name}__{comparator}")
            if text is not None:
                query = query.where(compare(column, text))
    return query


def paged(req: Request, tx: Tx, query: sa.Select[Any], table: sa.Table) -> tuple[list[Row], str | None]:
    """The rows of one page by name or id, and the marker of the next one if there is one."""
    column = table.c.get(rest.one_param(req, "sort_key") or "id")
    if column is None:
        raise BadRequest("Invalid input for query parameter sort_key: there is no such attribute")
    down = (rest.one_param(req, "sort_dir") or "asc").lower().startswith("d")
    sort = [(column, down)] if column is table.c.id else [(column, down), (table.c.id, False)]
    text = rest.one_param(req, "limit")
    limit = rest.integer(text, "limit", least=1) if text else None
    marker = rest.one_param(req, "marker")
    after = None
    if marker:
        after = tx.execute(sa.select(table).where(table.c.id == marker)).one_or_none()
        if after is None:
            raise NotFound(f"Could not find marker: {marker[:64]}.")
    rows = listing.page(tx, query, sort, limit=limit + 1 if limit else None, after=after)
    if limit and len(rows) > limit:
        return rows[:limit], rows[limit - 1].id
    return rows, None


def empty(resp: Response) -> None:
    resp.status = "204 No Content"
