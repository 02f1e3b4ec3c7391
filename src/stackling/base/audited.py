"""Which requests are acts that the audit keeps: any change in identity, administrators' elsewhere, and logins."""

from typing import Any

from falcon import Request, Response

from stackling.base import peer
from stackling.base.audit import Act
from stackling.base.config import Api

_ACTIONS = {"POST": "create", "PUT": "update", "PATCH": "update", "DELETE": "delete"}
_ACCOUNTS = ("user", "group", "project", "domain")


def act_of(req: Request, resource: object, params: dict[str, Any], config: Api) -> Act | None:
    """The act that a request is; None when it is none.

    A resource names what its methods say wrongly or not at all in `audited`: `{"POST": "authenticate"}`.
    """
    action = getattr(resource, "audited", {}).get(req.method)
    service = req.context.service.name if req.context.service is not None else "cloud"
    who = req.context.caller
    changes = req.method in _ACTIONS and who is not None and (service == "identity" or who.is_admin)
    if not action and not changes:
        return None
    words = [w for w in (req.uri_template or "").split("/") if w and not w.startswith("{")]
    act = Act(
        action=action or _ACTIONS[req.method],
        always=bool(action),
        service=service,
        target_type=_target_type(service, words[-1] if words else ""),
        target_id=next(reversed(params.values()), None),
        address=peer.address(req, config),
        method=req.method,
        path=req.env["stackling.path"],
        request_id=req.context.request_id,
    )
    if not action:
        act.user_id, act.user_name, act.project_id = who.user_id, who.user_name, who.project_id
        act.domain_id = who.domain_id or who.user_domain_id
    return act


def made_id(resp: Response) -> str | None:
    """The id of what a request has made, as its answer tells it."""
    media = resp.media if str(resp.status)[:3] in ("201", "202") else None
    inner = next(iter(media.values()), None) if isinstance(media, dict) and len(media) == 1 else media
    found = inner.get("id") if isinstance(inner, dict) else None
    return found if isinstance(found, str) else None


def _target_type(service: str, word: str) -> str:
    """CADF's taxonomy for what stands last in a path: `users` of identity is `data/security/account/user`."""
    noun = word[:-3] + "y" if word.endswith("ies") else word.removesuffix("s")
    if service != "identity":
        return f"service/{service}/{noun}"
    return f"data/security/{'account/' if noun in _ACCOUNTS else ''}{noun}"
