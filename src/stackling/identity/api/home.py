"""JSON Home: every path of the API under the name of its relation, for clients that ask for `application/json-home`.

Names follow upstream's way: `/groups/{group_id}/users/{user_id}` is `group_user`, `/auth/tokens` is `auth_tokens`.
"""

import re
from typing import Any

_BASE = "https://docs.openstack.org/api/openstack-identity/3"
_UNUSUAL = {
    "/users/{user_id}/password": "user_change_password",
    "/roles/{role_id}/implies": "implied_roles",
    "/roles/{role_id}/implies/{implied_role_id}": "implied_role",
    "/domains/config/default": "domain_config_default",
    "/domains/config/{group}/default": "domain_config_default_group",
    "/domains/config/{group}/{option}/default": "domain_config_default_option",
    "/domains/{domain_id}/config/{group}": "domain_config_group",
    "/domains/{domain_id}/config/{group}/{option}": "domain_config_option",
    "/limits/model": "limit_model",
    "/auth/tokens/OS-PKI/revoked": "auth_tokens_revocations",
}


def _one(plural: str) -> str:
    if plural.endswith("ies"):
        return plural[:-3] + "y"
    return plural[:-1] if plural.endswith("s") else plural


def relation(path: str) -> str:
    """The name of a path's relation; `path` stands below the version."""
    extension = next((p for p in path.split("/") if p.startswith("OS-")), None)
    root = f"{_BASE}/ext/{extension}/1.0/rel" if extension else f"{_BASE}/rel"
    if path in _UNUSUAL:
        return f"{root}/{_UNUSUAL[path]}"
    parts = [p for p in path.strip("/").split("/") if not p.startswith("OS-")]
    words = []
    for i, part in enumerate(parts):
        if not part.startswith("{"):
            followed = i + 1 < len(parts) and parts[i + 1].startswith("{")
            words.append(_one(part) if followed else part)
    return f"{root}/{'_'.join(words).replace('-', '_')}"


def document(paths: list[str], prefix: str) -> dict[str, Any]:
    """All of `paths` (with `/v3`), as they stand below `prefix`."""
    made: dict[str, Any] = {}
    for path in paths:
        below = path.removeprefix("/v3")
        if not path.startswith("/v3/"):
            continue
        names = re.findall(r"\{(\w+)\}", path)
        href = f"{prefix}{below}"
        if names:
            made[relation(below)] = {
                "href-template": href,
                "href-vars": {n: f"{_BASE}/param/{n}" for n in names},
            }
        else:
            made[relation(below)] = {"href": href}
    return {"resources": made}
