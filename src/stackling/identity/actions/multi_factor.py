"""Users who must prove themselves in more ways than one, and the receipts for what they have proven so far."""

from datetime import timedelta
from typing import Any

import msgspec
from cryptography.fernet import InvalidToken

from stackling.base.clock import zulu_micros
from stackling.base.cloud import Cloud
from stackling.base.db import Row
from stackling.base.errors import Unauthorized
from stackling.identity.actions import keys

LIFETIME = timedelta(minutes=5)
_MARK = "receipt"  # so that a receipt is never a token, nor a token a receipt


class Unproven(Unauthorized):
    """What was proven is right and not enough. Whoever catches it answers with the receipt."""

    def __init__(self, receipt: str, body: dict[str, Any]) -> None:
        super().__init__("Additional authentications steps required.")
        self.receipt = receipt
        self.body = body


def rules_left(user: Row, methods: list[str]) -> list[list[str]]:
    """The user's rules, if none of them is met by `methods`; else nothing."""
    rules = user.options.get("multi_factor_auth_rules") or []
    if not user.options.get("multi_factor_auth_enabled") or not rules:
        return []
    if any(set(rule) <= set(methods) for rule in rules):
        return []
    return [list(rule) for rule in rules]


def unproven(cloud: Cloud, user: Row, domain: Row, methods: list[str], rules: list[list[str]]) -> Unproven:
    """The refusal that tells which methods are missing."""
    now = cloud.clock.now()
    ends = now + LIFETIME
    payload = (_MARK, user.id, user.generation, methods, ends.isoformat())
    primary = keys.fernets(cloud, keys.RECEIPTS).primary
    receipt = primary.encrypt(msgspec.msgpack.encode(payload)).rstrip(b"=").decode()
    shown = {
        "methods": methods,
        "user": {"id": user.id, "name": user.name, "domain": {"id": domain.id, "name": domain.name}},
        "expires_at": zulu_micros(ends),
        "issued_at": zulu_micros(now),
    }
    return Unproven(receipt, {"receipt": shown, "required_auth_methods": rules})


def proven(cloud: Cloud, receipt: str) -> tuple[str, int, list[str]]:
    """User, generation and methods that a receipt stands for. Raises Unauthorized."""
    every = keys.fernets(cloud, keys.RECEIPTS).every
    try:
        text = every.decrypt(receipt.encode("ascii") + b"=" * (-len(receipt) % 4))
        mark, user_id, generation, methods, ends = msgspec.msgpack.decode(
            text, type=tuple[str, str, int, list[str], str]
        )
    except (InvalidToken, UnicodeEncodeError, msgspec.DecodeError, ValueError):
        raise Unauthorized(detail="no receipt of this cloud") from None
    if mark != _MARK or ends <= cloud.clock.now().isoformat():
        raise Unauthorized(detail="the receipt has expired")
    return user_id, generation, methods
