"""`stackling policy`: the rules in force, and why they let somebody do something or not."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import msgspec
from cyclopts import App, Parameter

from stackling.base.config import Config
from stackling.cli import client
from stackling.cli.setting import Setting, Trouble, show

app = App(name="policy", help="Who may do what.")
JSON = Annotated[bool, Parameter(negative=(), help="Print JSON.")]


def _load(config: Config) -> Any:
    from stackling.base.policy import Policy
    from stackling.boot import assembly  # half a second that other commands need not wait

    return Policy(assembly.rules(), Path(config.paths.config_dir) / "policy.yaml")


@app.command(name="list")
def listing(
    like: Annotated[str, Parameter(help="Only rules whose name holds this text.")] = "",
    *,
    changed: Annotated[bool, Parameter(negative=(), help="Only what policy.yaml overrides.")] = False,
    json: JSON = False,
    setting: Setting | None = None,
) -> int:
    """Print every rule with its check, the default that policy.yaml overrides, and the scopes of tokens it is for."""
    policy = _load((setting or Setting()).config)
    found = []
    for name, rule in sorted(policy.rules.items()):
        own = str(policy.check(name)) if name in policy.overridden else None
        if like in name and not (changed and own is None):
            found.append(
                {
                    "rule": name,
                    "default": rule.check,
                    "override": own,
                    "scope": list(rule.scopes),
                    "says": rule.says,
                }
            )
    if json:
        show(found)
        return 0
    for one in found:
        print(f"{one['rule']}  [{', '.join(one['scope'])}]")
        print(f"    {one['default'] or '@'}")
        if one["override"] is not None:
            print(f"    policy.yaml: {one['override']}")
    return 0


@app.command
def check(
    rule: Annotated[str, Parameter(help="Name of the rule, such as os_compute_api:servers:create.")],
    *,
    user: Annotated[str, Parameter(help="Name or id of the user.")],
    user_domain: Annotated[str, Parameter(help="Id of the user's domain, and of the project's.")] = "default",
    project: Annotated[str | None, Parameter(help="Name or id of the project the token is for.")] = None,
    domain: Annotated[str | None, Parameter(help="Name or id of the domain the token is for.")] = None,
    system: Annotated[bool, Parameter(negative=(), help="The token is for the system.")] = False,
    target: Annotated[
        list[str] | None,
        Parameter(
            help="What is acted upon, as name=value: project_id=…; by default the caller's own.", negative=()
        ),
    ] = None,
    json: JSON = False,
    setting: Setting | None = None,
) -> int:
    """Say whether a user may do something, and why. Exit status 0: allowed, 1: refused.

    The user's roles are asked of the running cloud, as a token would have them.
    """
    if (project is not None) + (domain is not None) + system != 1:
        raise Trouble("name one scope: --project, --domain or --system")
    setting = setting or Setting()
    policy = _load(setting.config)
    if rule not in policy.rules:
        raise Trouble(f"there is no rule {rule!r}; `stackling policy list` prints all")
    caller = _caller(setting, policy, user, user_domain, project, domain)
    aim = {"project_id": caller.project_id, "tenant_id": caller.project_id, "user_id": caller.user_id}
    aim = {**aim, **_target(target or [])}

    from stackling.base import policy_reason

    allowed, says, reason = policy_reason.of(policy, rule, aim, caller.creds, caller.scope)
    if json:
        show(
            {
                "allowed": allowed,
                "says": says,
                "scope": caller.scope,
                "roles": sorted(caller.roles),
                "target": aim,
                "reason": msgspec.to_builtins(reason),
            }
        )
    else:
        print(f"{says}: roles {', '.join(sorted(caller.roles)) or 'none'}")
        print("\n".join(_lines(reason, 1)))
    return 0 if allowed else 1


def _lines(reason: Any, depth: int) -> Iterator[str]:
    mark = "yes" if reason.holds else "no "
    yield f"{'  ' * depth}{mark} {reason.check}" + (f"   ({reason.says})" if reason.says else "")
    for part in reason.parts:
        yield from _lines(part, depth + 1)


def _target(given: list[str]) -> dict[str, str]:
    pairs = [one.partition("=") for one in given]
    if any(not equals for _, equals, _ in pairs):
        raise Trouble("--target takes name=value, such as project_id=0123…")
    return {name: value for name, _, value in pairs}


def _caller(
    setting: Setting, policy: Any, user: str, user_domain: str, project: str | None, domain: str | None
) -> Any:
    """Who a token of that user and scope would stand for."""
    from stackling.base.context import Caller

    who = _find(setting, "user", user, domain_id=user_domain)
    query = {"user.id": who["id"], "effective": "", "include_names": ""}
    inside = outside = None
    if project is not None:
        inside = _find(setting, "project", project, domain_id=user_domain)
        query["scope.project.id"] = inside["id"]
    elif domain is not None:
        outside = _find(setting, "domain", domain)
        query["scope.domain.id"] = outside["id"]
    else:
        query["scope.system"] = "all"
    found = client.ask(setting, "GET", f"/identity/v3/role_assignments?{urlencode(query)}")[
        "role_assignments"
    ]
    return Caller(
        policy=policy,
        user_id=who["id"],
        user_name=who["name"],
        user_domain_id=who["domain_id"],
        project_id=inside and inside["id"],
        project_domain_id=inside and inside["domain_id"],
        domain_id=outside and outside["id"],
        system=inside is None and outside is None,
        roles=frozenset(one["role"]["name"] for one in found),
    )


def _find(setting: Setting, noun: str, name: str, **narrow: str) -> Any:
    """A user, project or domain by name or id."""
    at = f"/identity/v3/{noun}s"
    found = client.ask(setting, "GET", f"{at}?{urlencode({'name': name, **narrow})}")[f"{noun}s"]
    if found:
        return found[0]
    try:
        return client.ask(setting, "GET", f"{at}/{quote(name, safe='')}")[noun]
    except Trouble:
        raise Trouble(f"there is no {noun} {name!r}") from None
