"""Applying a mapping: which rules match an assertion, and what user, groups and projects come of them."""

import ast
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from stackling.identity.mapping import rules as language
from stackling.identity.mapping.rules import Domain, Local, Remote, Rule

REMOTE_USER = "REMOTE_USER"
_DESCRIBED = "JSON:"
Values = list[list[str]]  # for each remote entry that gives values, those


class MappingRefused(ValueError):
    """The mapping makes no user of this assertion; the text says why."""


class DomainRef(Struct, frozen=True, omit_defaults=True):
    id: str | None = None
    name: str | None = None


class EvaluatedUser(Struct, frozen=True, omit_defaults=True):
    id: str | None = None
    name: str | None = None
    email: str | None = None
    domain: DomainRef | None = None
    type: str = msgspec.field(default_factory=lambda: "ephemeral")  # a factory, so that it is always shown


class EvaluatedGroup(Struct, frozen=True, omit_defaults=True):
    name: str
    domain: DomainRef


class EvaluatedProject(Struct, frozen=True, omit_defaults=True):
    name: str
    roles: tuple[str, ...]
    domain: DomainRef | None = None


class Evaluated(Struct, frozen=True):
    """What a mapping makes of an assertion."""

    user: EvaluatedUser
    group_ids: list[str]
    group_names: list[EvaluatedGroup]
    projects: list[EvaluatedProject]


def evaluate(rules: Iterable[Rule], assertion: Mapping[str, Sequence[str]]) -> Evaluated:
    """What `rules` make of `assertion` (each attribute with its values).

    All rules that match add to the result; the first user that they name is the user, else REMOTE_USER is.
    Raises MappingRefused when no rule matches, or nobody is named.
    """
    user: EvaluatedUser | None = None
    group_ids: dict[str, None] = {}
    group_names: dict[tuple[str, str | None, str | None], EvaluatedGroup] = {}
    projects: list[EvaluatedProject] = []
    matched = False
    for rule in rules:
        values = _match(rule.remote, assertion)
        if values is None:
            continue
        for local in rule.local:
            matched = True
            if user is None and local.user is not None:
                user = _user(local.user, values)
            for id in _group_ids(local, values):
                group_ids[id] = None
            for group in _group_names(local, values):
                group_names[group.name, group.domain.id, group.domain.name] = group
            projects += _projects(local, values)
    if not matched:
        raise MappingRefused("No rule of the mapping matches the assertion.")
    user = user or EvaluatedUser()
    if not user.id and not user.name:
        name = next(iter(assertion.get(REMOTE_USER, ())), "")
        if not name:
            raise MappingRefused(
                "The mapping names no user: neither an id nor a name, and there is no REMOTE_USER."
            )
        user = msgspec.structs.replace(user, name=name)
    return Evaluated(user, list(group_ids), list(group_names.values()), projects)


def try_mapping(rules: Any, assertion: Mapping[str, str | Sequence[str]] | str) -> dict[str, Any]:
    """What a mapping makes of an assertion, as plain values: for an operator who writes one.

    `rules`: the list of rules, or the mapping that holds it. `assertion`: attributes with values (in a text, `;`
    separates several), or lines of `attribute: value`. Raises MappingInvalid, MappingRefused.
    """
    if isinstance(assertion, str):
        pairs = (line.partition(":") for line in assertion.splitlines() if line.strip())
        assertion = {name.strip(): value.strip() for name, _, value in pairs}
    split = {n: v.split(";") if isinstance(v, str) else list(v) for n, v in assertion.items()}
    plain: dict[str, Any] = msgspec.to_builtins(evaluate(language.read(rules), split))
    for project in plain["projects"]:
        project["roles"] = [{"name": name} for name in project["roles"]]
    return plain


# -- remote ------------------------------------------------------------------------------------------------------------


def _match(remotes: Iterable[Remote], assertion: Mapping[str, Sequence[str]]) -> Values | None:
    """The values to substitute if all entries are satisfied, else None. A missing attribute satisfies none."""
    found: Values = []
    for remote in remotes:
        values = list(assertion.get(remote.type, ()))
        if not values:
            return None
        if remote.words is None:
            found.append(values)
            continue
        kind, words = remote.words
        hits = [v for v in values if _hits(v, words, bool(remote.regex))]
        if kind == "any_one_of":
            if not hits:
                return None
        elif kind == "not_any_of":
            if hits:
                return None
        else:
            found.append(hits if kind == "whitelist" else [v for v in values if v not in hits])
    return found


def _hits(value: str, words: Iterable[str], regex: bool) -> bool:
    return any(re.search(w, value) for w in words) if regex else value in words


# -- local -------------------------------------------------------------------------------------------------------------


def _one(text: str, values: Values) -> str:
    """`text` with its places filled; several values of one attribute stand behind one another, with `;` between."""
    return "".join(
        literal + (";".join(_value(values, index)) if index is not None else "")
        for literal, index in language.parts(text)
    )


def _maybe(text: str | None, values: Values) -> str | None:
    return None if text is None else _one(text, values)


def _many(text: str, values: Values) -> list[str]:
    """`text` once for each value of the attributes it refers to. Without any it may be written as a list itself."""
    pieces = list(language.parts(text))
    if all(index is None for _, index in pieces):
        return _listed("".join(literal for literal, _ in pieces))
    choices: list[list[str]] = []
    for literal, index in pieces:
        choices.append([literal])
        if index is not None:
            choices.append(_value(values, index))
    return list(
        dict.fromkeys("".join(chosen) for chosen in itertools.islice(itertools.product(*choices), 10_000))
    )


def _listed(text: str) -> list[str]:
    """The rule's own text: one name, or `['one', 'another']`. Never asked of what an identity provider says."""
    if text.startswith("["):
        try:
            made = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return [text]
        if isinstance(made, list) and all(isinstance(name, str) for name in made):
            return made
    return [text]


def _value(values: Values, index: int) -> list[str]:
    if index >= len(values):
        raise MappingRefused(f"The mapping refers to {{{index}}}, and the rule gives {len(values)} values.")
    return values[index]


def _domain(domain: Domain | None, values: Values) -> DomainRef | None:
    if domain is None or (domain.id is None and domain.name is None):
        return None
    return DomainRef(_maybe(domain.id, values), _maybe(domain.name, values))


def _user(user: language.LocalUser, values: Values) -> EvaluatedUser:
    domain = _domain(user.domain, values)
    # A local user without a domain could be anybody: upstream takes him for an ephemeral one.
    kind = "local" if user.type == "local" and domain is not None else "ephemeral"
    return EvaluatedUser(
        id=_maybe(user.id, values),
        name=_maybe(user.name, values),
        email=_maybe(user.email, values),
        domain=domain,
        type=kind,
    )


def _group_ids(local: Local, values: Values) -> list[str]:
    made = _many(local.group.id, values) if local.group is not None and local.group.id is not None else []
    return [id for id in made + (_many(local.group_ids, values) if local.group_ids is not None else []) if id]


def _group_names(local: Local, values: Values) -> list[EvaluatedGroup]:
    made: list[EvaluatedGroup] = []
    group = local.group
    if group is not None and group.name is not None:
        domain = _domain(group.domain, values) or DomainRef()
        made += [EvaluatedGroup(name, domain) for name in _many(group.name, values) if name]
    if local.groups is not None:
        beside = _domain(local.domain, values)
        names = [name for name in _many(local.groups, values) if name]
        made += [EvaluatedGroup(name, beside) if beside else _described(name) for name in names]
    return made


def _described(text: str) -> EvaluatedGroup:
    """The group that a value without a domain beside it describes, as another Keystone sends them: `JSON:{…}`."""
    try:
        if not text.startswith(_DESCRIBED):
            raise ValueError("it does not describe itself")
        made = msgspec.json.decode(text.removeprefix(_DESCRIBED), type=EvaluatedGroup)
        if not made.name or (made.domain.id is None and made.domain.name is None):
            raise ValueError("it names no group or no domain")
    except (ValueError, msgspec.MsgspecError, RecursionError) as e:
        raise MappingRefused(f"The domain of group {text[:64]!r} is not known: {e}.") from None
    return made


def _projects(local: Local, values: Values) -> list[EvaluatedProject]:
    return [
        EvaluatedProject(
            _one(project.name, values),
            tuple(_one(role.name, values) for role in project.roles),
            _domain(project.domain or local.domain, values),
        )
        for project in local.projects or ()
    ]
