"""Who may do what: roles in the project that an account belongs to, access lists of containers, and signed URLs."""

import enum
from typing import Any

from msgspec import Struct

from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.errors import Forbidden, Unauthorized
from stackling.objectstore.actions import acl

PREFIX = "AUTH_"


class Standing(enum.IntEnum):
    """What somebody is to an account."""

    STRANGER = 0
    READER = 1
    OPERATOR = 2
    RESELLER = 3


class Visitor(Struct, frozen=True, kw_only=True):
    """The one on whose behalf a request runs; nobody when `caller` is None.

    `signed` is what a signature in the request opens: an account, and one container of it or all (None).
    """

    caller: Caller | None
    referer: str = ""
    signed: tuple[str, str | None] | None = None

    def opens(self, account: str, container: str) -> bool:
        return self.signed is not None and self.signed in ((account, None), (account, container))


def standing(cloud: Cloud, visitor: Visitor, account: str) -> Standing:
    """What the visitor is to an account."""
    caller, options = visitor.caller, cloud.config.objectstore
    if caller is None or not account.startswith(PREFIX) or caller.project_id is None:
        return Standing.STRANGER
    roles = {role.lower() for role in caller.roles}
    if _any(roles, options.reseller_roles):
        return Standing.RESELLER
    if account == PREFIX + caller.project_id:
        if _any(roles, options.operator_roles):
            return Standing.OPERATOR
        if _any(roles, options.reader_roles):
            return Standing.READER
    return Standing.STRANGER


def _any(roles: set[str], wanted: list[str]) -> bool:
    return any(role.lower() in roles for role in wanted)


def deny(visitor: Visitor) -> Unauthorized | Forbidden:
    """The error for somebody who may not: 401 for nobody, 403 for anybody else."""
    if visitor.caller is None:
        return Unauthorized(
            "This server could not verify that you are authorized to access the document you requested."
        )
    return Forbidden("Access was denied to this resource.")


def need(cloud: Cloud, visitor: Visitor, account: str, least: Standing) -> None:
    """Return if the visitor is at least `least` to the account. Raises Unauthorized, Forbidden."""
    if standing(cloud, visitor, account) < least:
        raise deny(visitor)


def may_read(
    cloud: Cloud,
    visitor: Visitor,
    account: str,
    container: str,
    headers: dict[str, Any] | None,
    *,
    listing: bool,
) -> None:
    """Return if the visitor may read objects of a container (`headers` None: there is none), or list them.

    Raises Unauthorized, Forbidden.
    """
    if standing(cloud, visitor, account) >= Standing.READER:
        return
    if not listing and visitor.opens(account, container):
        return
    granted = str((headers or {}).get("X-Container-Read", ""))
    if visitor.caller is not None and acl.names(granted, visitor.caller):
        return
    if acl.referrer_may(granted, visitor.referer) and (not listing or acl.LISTINGS in granted.split(",")):
        return
    raise deny(visitor)


def may_write(
    cloud: Cloud, visitor: Visitor, account: str, container: str, headers: dict[str, Any] | None
) -> None:
    """Return if the visitor may write and delete objects of a container. Raises Unauthorized, Forbidden."""
    if standing(cloud, visitor, account) >= Standing.OPERATOR or visitor.opens(account, container):
        return
    granted = str((headers or {}).get("X-Container-Write", ""))
    if visitor.caller is None or not acl.names(granted, visitor.caller):
        raise deny(visitor)
