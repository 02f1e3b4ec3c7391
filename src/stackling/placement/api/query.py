"""Queries of placement: resources, traits and aggregates in their little languages."""

import re
import uuid
from collections.abc import Collection

import falcon

from stackling.base.errors import BadRequest
from stackling.base.rest import integer
from stackling.placement.actions import vocabulary
from stackling.placement.actions.problem import BadQuery
from stackling.placement.actions.search import Group, Request
from stackling.placement.api.version import since

Tx = vocabulary.Tx


def check(
    req: falcon.Request, allowed: Collection[str], *, pattern: str = r"(?!)", repeated: Collection[str] = ()
) -> None:
    """Raises BadQuery for a parameter that the call does not have, or has once only."""
    for name in req.params:
        if name not in allowed and not re.fullmatch(pattern, name):
            raise BadQuery(
                f"Invalid query string parameters: Additional properties are not allowed ({name[:64]!r} was unexpected)"
            )
        if name in allowed and name not in repeated and len(req.get_param_as_list(name) or []) > 1:
            raise BadQuery(f"Query parameter {name} is given more than once")


def uuid_of(text: str, name: str) -> str:
    """A UUID in its usual form. Raises BadQuery."""
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise BadQuery(f"Expected '{name}' parameter to contain valid UUID(s). Got: {text[:64]}") from None


def resources(tx: Tx, text: str) -> dict[str, int]:
    """`VCPU:1,MEMORY_MB:512`. Raises BadQuery."""
    made = {}
    for part in text.split(","):
        name, colon, amount = part.strip().partition(":")
        if not colon or not name:
            raise BadQuery(
                f"Badly formed resources parameter. Expected resources query string parameter in form: ?resources=VCPU:2,MEMORY_MB:1024. Got: {text[:64]}."
            )
        made[name] = integer(amount, f"resources={name}", least=1)
    try:
        vocabulary.check_classes(tx, made)
    except BadRequest as e:
        raise BadQuery(f"Invalid resource class in resources parameter: {e.says}") from None
    return made


def traits(req: falcon.Request, tx: Tx, texts: list[str], group: Group) -> None:
    """`A,!B` and, from 1.39, `in:A,B`, into the group. Raises BadQuery."""
    for text in texts:
        if text.startswith("in:"):
            if not since(req, 1, 39):
                raise BadQuery(
                    f"The format 'in:' of required is supported since version 1.39. Got: {text[:64]}"
                )
            names = [n.strip() for n in text[3:].split(",")]
            wanted = [frozenset(names)]
            refused: list[str] = []
        else:
            names = [n.strip() for n in text.split(",")]
            refused = [n[1:] for n in names if n.startswith("!")]
            if refused and not since(req, 1, 22):
                raise BadQuery(
                    f"Invalid query string parameters: Expected 'required' parameter value of the form: HW_CPU_X86_VMX,CUSTOM_MAGIC. Got: {text[:64]}"
                )
            wanted = [frozenset([n]) for n in names if not n.startswith("!")]
        known = {n for s in wanted for n in s} | set(refused)
        if "" in known:
            raise BadQuery(
                f"Invalid query string parameters: Expected 'required' parameter value of the form: HW_CPU_X86_VMX,CUSTOM_MAGIC. Got: {text[:64]!r}"
            )
        try:
            vocabulary.check_traits(tx, known)
        except BadRequest as e:
            raise BadQuery(e.says) from None
        group.required += wanted
        group.forbidden |= set(refused)
    if clash := group.forbidden & {n for s in group.required if len(s) == 1 for n in s}:
        raise BadQuery(
            f"Conflicting required and forbidden traits found in the following traits keys: required: ({', '.join(sorted(clash))})"
        )


def aggregates(req: falcon.Request, texts: list[str], group: Group) -> None:
    """`UUID`, `in:UUID,UUID` and, from 1.32, `!UUID` or `!in:…`, into the group. Raises BadQuery."""
    for text in texts:
        refuse = text.startswith("!")
        if refuse and not since(req, 1, 32):
            raise BadQuery(
                f"Forbidden member_of parameters are not supported in this version. Got: {text[:64]}"
            )
        rest = text[1:] if refuse else text
        listed = rest[3:].split(",") if rest.startswith("in:") else [rest]
        if "" in listed or (not rest.startswith("in:") and "," in rest):
            raise BadQuery(
                f"Multiple values for 'member_of' must be prefixed with the 'in:' keyword. Got: {text[:64]}"
            )
        ids = frozenset(t.strip() for t in listed)
        for id in ids:
            uuid_of(id, "member_of")  # compared as written: an aggregate keeps the form that it was given
        if refuse:
            group.not_member_of |= ids
        else:
            group.member_of.append(ids)


_GROUPED = re.compile(r"(resources|required|member_of|in_tree)([a-zA-Z0-9_-]{1,64})?")


def candidates(req: falcon.Request, tx: Tx) -> Request:
    """The query of GET /allocation_candidates at the request's microversion. Raises BadQuery."""
    allowed = {"resources"}
    for minor, name in (
        (16, "limit"),
        (17, "required"),
        (21, "member_of"),
        (25, "group_policy"),
        (31, "in_tree"),
        (35, "root_required"),
        (36, "same_subtree"),
    ):
        if since(req, 1, minor):
            allowed.add(name)
    suffix = r"[a-zA-Z0-9_-]{1,64}" if since(req, 1, 33) else r"[1-9][0-9]*"
    names = "resources|required|member_of" + ("|in_tree" if since(req, 1, 31) else "")
    repeated = {
        n for minor, n in ((24, "member_of"), (36, "same_subtree"), (39, "required")) if since(req, 1, minor)
    }
    check(req, allowed, pattern=rf"({names})({suffix})" if since(req, 1, 25) else r"(?!)", repeated=repeated)
    groups: dict[str, Group] = {}
    for name in req.params:
        found = _GROUPED.fullmatch(name)
        if found is None or name in ("root_required",):
            continue
        kind, mark = found[1], found[2] or ""
        group = groups.setdefault(mark, Group(suffix=mark))
        values = req.get_param_as_list(name) or []
        if kind == "resources":
            group.resources = resources(tx, values[-1])
        elif kind == "required":
            traits(req, tx, values, group)
        elif kind == "member_of":
            aggregates(req, values, group)
        else:
            group.in_tree = uuid_of(values[-1], name)
    same = [t.split(",") for t in req.get_param_as_list("same_subtree") or []]
    named = {s for listed in same for s in listed}
    for mark, group in groups.items():
        if not group.resources and not (since(req, 1, 36) and mark in named):
            raise BadQuery(f"All traits must be associated with resources: group {mark!r} has none.")
    if named - set(groups):
        raise BadQuery(
            f"Real suffixes should be specified in same_subtree: {', '.join(sorted(named - set(groups)))}"
        )
    if not any(g.resources for g in groups.values()):
        raise BadQuery("There must be at least one resources or resources[$S] parameter.")
    policy = req.get_param("group_policy")
    if policy not in (None, "none", "isolate"):
        raise BadQuery(f"'{policy[:64]}' is not one of ['none', 'isolate']")
    if policy is None and sum(1 for g in groups.values() if g.suffix and g.resources) > 1:
        raise BadQuery(
            'The "group_policy" parameter is required when specifying more than one "resources{N}" parameter.'
        )
    made = Request(
        groups=sorted(groups.values(), key=lambda g: g.suffix),
        isolate=policy == "isolate",
        nested=since(req, 1, 29),
        same_subtree=same,
    )
    if text := req.get_param("limit"):
        made.limit = integer(text, "limit", least=1)
    if text := req.get_param("root_required"):
        group = Group()
        traits(req, tx, [text], group)
        made.root_required = {n for s in group.required for n in s}
        made.root_forbidden = group.forbidden
    return made
