"""One struct per body, whose fields know since and until which microversion they exist.

    class ServerView(Body):
        id: str
        description: Annotated[str | None, since("2.19")] = UNSET
        flavor_link: Annotated[Link, until("2.46"), wire("flavor")] = UNSET
        flavor: Annotated[Embedded, since("2.47")] = UNSET

`at(CreateServer, version)` is the struct that decodes a request at that version and refuses every other field;
`render(view, version)` is the dict that an answer at that version consists of.
"""

import functools
import typing
from typing import Any, NamedTuple, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct

from stackling.base.errors import BadRequest, NotAcceptable

T = TypeVar("T")


class Version(NamedTuple):
    """A microversion; compares as numbers."""

    major: int
    minor: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"

    @classmethod
    def parse(cls, text: str) -> "Version":
        """Raises BadRequest when `text` is no microversion."""
        major, dot, minor = text.partition(".")
        if not (dot and major.isascii() and major.isdigit() and minor.isascii() and minor.isdigit()) or (
            len(text) > 16 or (len(minor) > 1 and minor[0] == "0")
        ):
            raise BadRequest(
                f"API Version String {text[:64]!r} is of invalid format. Must be of format MajorNum.MinorNum."
            )
        return cls(int(major), int(minor))


class Microversions(Struct, frozen=True):
    """The range that a service speaks. `word` is its name in `OpenStack-API-Version`; `legacy` an older header."""

    word: str
    lowest: Version
    highest: Version
    legacy: str | None = None
    aliases: tuple[str, ...] = ()

    def asked(self, header: str | None, legacy: str | None) -> Version:
        """The version that a request asks for by its headers; the lowest when it asks for none.

        Raises BadRequest for a malformed one and NotAcceptable for one out of range.
        """
        text = None
        for part in (header or "").split(","):
            word, _, number = part.strip().partition(" ")
            if word.lower() in (self.word, *self.aliases):
                text = number.strip()
        if text is None:
            text = (legacy or "").strip() or None
        if text is None:
            return self.lowest
        if text.lower() == "latest":
            return self.highest
        version = Version.parse(text)
        if not self.lowest <= version <= self.highest:
            raise NotAcceptable(
                f"Version {version} is not supported by the API. Minimum is {self.lowest} and maximum is {self.highest}."
            )
        return version


def since(text: str) -> Meta:
    return Meta(extra={"since": Version.parse(text)})


def until(text: str) -> Meta:
    """The last version that has the field."""
    return Meta(extra={"until": Version.parse(text)})


def wire(name: str) -> Meta:
    """The field's name in the body, where two fields of different versions share one."""
    return Meta(extra={"wire": name})


class Body(Struct, kw_only=True, forbid_unknown_fields=True):
    """Base of request and answer bodies. Unset fields are left out of answers."""


class _Slot(NamedTuple):
    attr: str
    wire: str
    type: Any
    first: Version
    last: Version
    field: msgspec.structs.FieldInfo


_EVER = Version(0, 0), Version(999, 999)


@functools.cache
def _slots(cls: type[Struct]) -> tuple[_Slot, ...]:
    found = []
    for f in msgspec.structs.fields(cls):
        first, last = _EVER
        name, kept = f.encode_name, []
        kind = f.type
        if typing.get_origin(kind) is typing.Annotated:
            kind, *notes = typing.get_args(kind)
            for meta in notes:
                extra = (meta.extra or {}) if isinstance(meta, Meta) else {}
                first, last = extra.get("since", first), extra.get("until", last)
                name = extra.get("wire", name)
                if not extra.keys() & {"since", "until", "wire"}:
                    kept.append(meta)
            for meta in kept:
                kind = typing.Annotated[kind, meta]
        found.append(_Slot(f.name, name, kind, first, last, f))
    return tuple(found)


@functools.cache
def _view(cls: type[Struct], version: Version) -> tuple[tuple[str, str, bool], ...]:
    """(attribute, name in the body, whether its type rules out structs inside) of each field."""
    return tuple((s.attr, s.wire, _plain(s.type)) for s in _slots(cls) if s.first <= version <= s.last)


_ATOMS = frozenset({str, int, float, bool, type(None)})


def _plain(kind: Any) -> bool:
    """Whether values of this type are their own rendering: a list of dicts of texts is, `Any` may not be."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return _plain(args[0])
    if origin is typing.Literal:
        return True
    if args:
        return all(_plain(a) for a in args if a is not Ellipsis)
    return kind in _ATOMS or kind is msgspec.UnsetType


@functools.lru_cache(maxsize=4096)
def at(cls: type[T], version: Version) -> type[T]:
    """`cls` with just the fields that exist at `version`, wherever a struct stands inside a struct as well."""
    here = [s for s in _slots(cls) if s.first <= version <= s.last]  # type: ignore[arg-type]
    fields: list[Any] = []
    for s in here:
        default = s.field.default
        factory = s.field.default_factory
        options: dict[str, Any] = {"name": s.wire} if s.wire != s.attr else {}
        if factory is not msgspec.NODEFAULT:
            fields.append(
                (s.attr, _at_type(s.type, version), msgspec.field(default_factory=factory, **options))
            )
        elif default is not msgspec.NODEFAULT:
            fields.append((s.attr, _at_type(s.type, version), msgspec.field(default=default, **options)))
        else:
            fields.append((s.attr, _at_type(s.type, version), msgspec.field(**options)))
    config = cls.__struct_config__  # type: ignore[attr-defined]
    made = msgspec.defstruct(
        cls.__name__,
        fields,
        kw_only=True,
        forbid_unknown_fields=config.forbid_unknown_fields,
        namespace={"__getattr__": _absent(frozenset(s.attr for s in _slots(cls)))},  # type: ignore[arg-type]
        module=cls.__module__,
        tag=config.tag,
        tag_field=config.tag_field,
    )
    return typing.cast(type[T], made)


def _absent(names: frozenset[str]) -> Any:
    """A field that does not exist at the version asked for reads as UNSET."""

    def __getattr__(self: Any, name: str) -> Any:
        if name in names:
            return UNSET
        raise AttributeError(name)

    return __getattr__


def _at_type(kind: Any, version: Version) -> Any:
    if isinstance(kind, type) and issubclass(kind, Struct):
        return at(kind, version)
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return typing.Annotated[(_at_type(args[0], version), *args[1:])]
    if not args or origin is typing.Literal:
        return kind
    inner = tuple(_at_type(a, version) if a is not Ellipsis else a for a in args)
    if inner == args:
        return kind
    if origin in (typing.Union, type(int | str)):
        return typing.Union[inner]  # noqa: UP007 (built from a tuple)
    return origin[inner]


def render(view: Any, version: Version = _EVER[1]) -> Any:
    """`view`, and all structs inside it, as plain values with only the fields that exist at `version`."""
    if isinstance(view, Struct):
        made = {}
        for attr, name, plain in _view(type(view), version):
            value = getattr(view, attr)
            if value is not UNSET:
                made[name] = value if plain or type(value) in _ATOMS else render(value, version)
        return made
    if isinstance(view, list):
        return [v if type(v) in _ATOMS else render(v, version) for v in view]
    if isinstance(view, dict):
        return {k: v if type(v) in _ATOMS else render(v, version) for k, v in view.items()}
    return view
