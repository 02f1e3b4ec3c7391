"""The query of a list of images."""

from datetime import datetime

from falcon import Request

from stackling.base import clock
from stackling.base.errors import BadRequest
from stackling.base.rest import boolean, integer
from stackling.image.actions.search import SORT_KEYS, Search
from stackling.image.state.image import Visibility
from stackling.image.state.member import Status

MOST = 1000
_EQUAL = ("id", "name", "status", "container_format", "disk_format", "owner", "checksum", "os_hash_value")
_ANY_OF = ("id", "name", "status", "container_format", "disk_format")
_NUMBERS = ("min_ram", "min_disk", "size", "virtual_size")
_OPERATORS = ("gt", "gte", "lt", "lte", "eq", "neq")


def search(req: Request) -> Search:
    """The filters that a request names; every name that is no attribute is a property's. Raises BadRequest."""
    want = Search()
    sort_keys: list[str] = []
    sort_dirs: list[str] = []
    pairs: str | None = None
    for name in req.params:
        values = req.get_param_as_list(name) or [""]
        last = values[-1]
        if name == "limit":
            want.limit = min(integer(last, name), MOST)
        elif name == "marker":
            want.marker = last
        elif name == "sort_key":
            sort_keys = values
        elif name == "sort_dir":
            sort_dirs = values
        elif name == "sort":
            pairs = last
        elif name == "visibility":
            if last not in (*Visibility, "all"):
                raise BadRequest(f"Invalid visibility value: {last[:64]!r}")
            want.visibility = last
        elif name == "member_status":
            if last not in (*Status, "all"):
                raise BadRequest(f"Invalid status: {last[:64]!r}")
            want.member_status = last
        elif name == "os_hidden":
            want.hidden = boolean(last, name)
        elif name == "protected":
            want.equal.append((name, [boolean(last, name)]))
        elif name == "tag":
            want.tags = values
        elif name == "size_min":
            want.size_min = integer(last, name, most=2**62)
        elif name == "size_max":
            want.size_max = integer(last, name, most=2**62)
        elif name in ("created_at", "updated_at"):
            want.times += [(name, *_time(name, v)) for v in values]
        elif name in _NUMBERS:
            want.equal.append((name, [integer(last, name, most=2**62)]))
        elif name in _EQUAL:
            any_of = name in _ANY_OF and last.startswith("in:")
            want.equal.append((name, _words(last[3:]) if any_of else [last]))
        else:
            want.properties.append((name, last))
    want.sort = _sort(pairs, sort_keys, sort_dirs)
    return want


def _sort(pairs: str | None, keys: list[str], dirs: list[str]) -> list[tuple[str, bool]]:
    if pairs is not None and (keys or dirs):
        raise BadRequest("Old and new sorting syntax cannot be combined")
    if pairs is not None:
        split = [p.strip().partition(":") for p in pairs.split(",")]
        keys, dirs = [k for k, _, _ in split], [d or "desc" for _, _, d in split]
    if not keys:
        keys = ["created_at"]
    if len(dirs) > 1 and len(dirs) != len(keys):
        raise BadRequest("Number of sort dirs does not match the number of sort keys")
    dirs = dirs * len(keys) if len(dirs) == 1 else dirs or ["desc"] * len(keys)
    for key, way in zip(keys, dirs, strict=True):
        if key not in SORT_KEYS:
            raise BadRequest(f"Invalid sort key: {key[:64]!r}. It must be one of {', '.join(SORT_KEYS)}.")
        if way not in ("asc", "desc"):
            raise BadRequest(f"Invalid sort direction: {way[:64]!r}")
    if len(set(keys)) != len(keys):
        raise BadRequest("A sort key is given twice")
    made = [(key, way == "desc") for key, way in zip(keys, dirs, strict=True)]
    if not {"created_at", "id"} & set(keys):
        made.append(("created_at", made[-1][1]))
    return made


def _time(name: str, text: str) -> tuple[str, datetime]:
    word, colon, rest = text.partition(":")
    if not colon or word not in _OPERATORS:
        word, rest = "eq", text
    try:
        return word, clock.parse(rest)
    except (ValueError, OverflowError):
        raise BadRequest(f"Invalid time in {name}: {text[:64]!r} is not an ISO 8601 time") from None


def _words(text: str) -> list[str]:
    """Comma-separated values; those with a comma inside stand in double quotes."""
    made: list[str] = []
    rest = text
    while rest:
        if rest.startswith('"'):
            word, quote, rest = rest[1:].partition('"')
            if not quote or (rest and not rest.startswith(",")):
                raise BadRequest(f"Invalid filter value {text[:64]!r}: a quote is not closed")
            rest = rest[1:]
        else:
            word, _, rest = rest.partition(",")
            if '"' in word:
                raise BadRequest(f"Invalid filter value {text[:64]!r}: a quote inside a word")
        made.append(word)
    return made
