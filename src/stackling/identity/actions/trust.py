"""Trusts: one user lets another act with some of his roles on a project."""

from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa

from stackling.base import ids
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, Forbidden, NotFound
from stackling.identity.actions.application_credential import unrestricted
from stackling.identity.actions.permission import can, may, target
from stackling.identity.state import credential, grants, revision
from stackling.identity.state import project as projects
from stackling.identity.state import role as roles
from stackling.identity.state import user as users
from stackling.identity.state.credential import trust, trust_role

MOST_REDELEGATIONS = 3


class New(msgspec.Struct, kw_only=True):
    trustor_user_id: str
    trustee_user_id: str
    impersonation: bool
    project_id: str | None = None
    roles: list[Any] = []
    expires_at: datetime | None = None
    remaining_uses: int | None = None
    allow_redelegation: bool = False
    redelegation_count: int | None = None
    extra: dict[str, Any] = {}


def create(tx: Tx, cloud: Cloud, caller: Caller, want: New) -> Row:
    """Raises Forbidden for roles that the trustor has not, and for what a trust he acts on does not allow."""
    may(caller, "create_trust", {"target.trust.trustor_user_id": want.trustor_user_id})
    unrestricted(caller)
    if users.find(tx, want.trustee_user_id) is None:
        raise NotFound(f"Could not find user: {want.trustee_user_id[:64]}.")
    if want.expires_at is not None and want.expires_at <= cloud.clock.now():
        raise BadRequest("Invalid input for field/attribute expires_at: it lies in the past.")
    if want.redelegation_count is not None and want.redelegation_count > MOST_REDELEGATIONS:
        raise Forbidden(
            f"Requested redelegation depth of {want.redelegation_count} is greater than allowed {MOST_REDELEGATIONS}."
        )
    if want.allow_redelegation and want.remaining_uses is not None:
        raise BadRequest("remaining_uses must not be set if redelegation is allowed.")
    count = 0
    if want.allow_redelegation:
        count = MOST_REDELEGATIONS if want.redelegation_count is None else want.redelegation_count
    expires_at, parent = want.expires_at, None
    if caller.trust_id is not None:
        parent = credential.find_trust(tx, caller.trust_id)
        if parent is None:
            raise Forbidden("The trust in use is gone.")
        count, expires_at = _redelegated(want, parent, count)
    chosen = _roles(tx, caller, want, parent)
    row = tx.execute(
        trust.insert()
        .values(
            id=ids.hex32(),
            trustor_user_id=want.trustor_user_id,
            trustee_user_id=want.trustee_user_id,
            project_id=want.project_id,
            impersonation=want.impersonation,
            expires_at=expires_at,
            remaining_uses=want.remaining_uses,
            redelegation_count=count,
            redelegated_trust_id=parent.id if parent is not None else None,
            extra=want.extra,
        )
        .returning(trust)
    ).one()
    if chosen:
        tx.execute(trust_role.insert(), [{"trust_id": row.id, "role_id": r} for r in chosen])
    return row


def _redelegated(want: New, parent: Row, count: int) -> tuple[int, datetime | None]:
    """How often a trust made from another may be handed on, and when it ends."""
    if parent.redelegation_count <= 0:
        raise Forbidden(
            "Remaining redelegation depth of 0 out of allowed range: the trust can't be handed on."
        )
    if parent.project_id != want.project_id:
        raise Forbidden("A redelegated trust is for the same project.")
    if parent.trustor_user_id != want.trustor_user_id:
        raise Forbidden("A redelegated trust has the same trustor.")
    if want.impersonation and not parent.impersonation:
        raise Forbidden(
            "Impersonation is not allowed because redelegated trust does not specify impersonation."
        )
    ends = want.expires_at or parent.expires_at
    if parent.expires_at is not None and (ends is None or ends > parent.expires_at):
        raise Forbidden("Requested expiration time is more than redelegated trust can provide.")
    if want.redelegation_count is not None and want.redelegation_count >= parent.redelegation_count:
        raise Forbidden("The redelegation depth must be less than that of the trust in use.")
    return (min(count, parent.redelegation_count - 1) if want.allow_redelegation else 0), ends


def _roles(tx: Tx, caller: Caller, want: New, parent: Row | None) -> list[str]:
    if not want.roles:
        raise Forbidden("At least one role should be specified.")
    if not want.project_id:
        raise BadRequest("Expecting to find project_id in trust: roles are held on a project.")
    project = projects.find(tx, want.project_id)
    if project is None:
        raise NotFound(f"Could not find project: {want.project_id[:64]}.")
    have = grants.roles_of(tx, want.trustor_user_id, grants.on_project(tx, project))
    if parent is not None:
        inside = {r.id for r in grants.expand(tx, credential.trust_roles(tx, parent.id))}
        have = [r for r in have if r.id in inside]
    if caller.via is not None:
        have = [r for r in have if r.name in caller.roles]
    chosen = []
    for ref in want.roles:
        found = [
            r for r in have if (ref.id and r.id == ref.id) or (not ref.id and ref.name and r.name == ref.name)
        ]
        if not found:
            if not any(_named(tx, ref)):
                raise NotFound(f"Could not find role: {str(ref.id or ref.name)[:64]}.")
            raise Forbidden(
                "Some of requested roles are not held by the trustor, or not in the trust that is handed on."
            )
        chosen.append(found[0].id)
    return list(dict.fromkeys(chosen))


def _named(tx: Tx, ref: Any) -> list[Row]:
    table = roles.role
    return list(
        tx.execute(sa.select(table).where(table.c.id == ref.id if ref.id else table.c.name == ref.name))
    )


def _alive(cloud: Cloud) -> sa.ColumnElement[bool]:
    return sa.or_(trust.c.expires_at.is_(None), trust.c.expires_at > cloud.clock.now())


def get(tx: Tx, cloud: Cloud, caller: Caller, trust_id: str, rule: str = "get_trust") -> Row:
    """One trust that still holds. Raises NotFound, which upstream says before it asks policy."""
    row = tx.execute(sa.select(trust).where(trust.c.id == trust_id, _alive(cloud))).one_or_none()
    if row is None or row.remaining_uses == 0:
        raise NotFound(f"Could not find trust: {trust_id[:64]}.")
    may(caller, rule, target(trust=row))
    return row


def listing(cloud: Cloud, caller: Caller, trustor: str | None, trustee: str | None) -> sa.Select[Any]:
    if trustor is None and trustee is None:
        may(caller, "list_trusts")
    if trustor is not None and not can(caller, "list_trusts"):
        may(caller, "list_trusts_for_trustor", {"target.trust.trustor_user_id": trustor})
    if trustee is not None and not can(caller, "list_trusts"):
        may(caller, "list_trusts_for_trustee", {"target.trust.trustee_user_id": trustee})
    query = sa.select(trust).where(_alive(cloud))
    if trustor is not None:
        query = query.where(trust.c.trustor_user_id == trustor)
    if trustee is not None:
        query = query.where(trust.c.trustee_user_id == trustee)
    return query.order_by(trust.c.id)


def delete(tx: Tx, cloud: Cloud, caller: Caller, trust_id: str) -> None:
    """End a trust, and all that were made from it."""
    row = get(tx, cloud, caller, trust_id, "delete_trust")
    if caller.via is not None:
        unrestricted(caller)
    level = [row.id]
    while level:
        below = list(
            tx.execute(sa.select(trust.c.id).where(trust.c.redelegated_trust_id.in_(level))).scalars()
        )
        tx.execute(sa.delete(trust).where(trust.c.id.in_(level)))
        level = below
    revision.bump(tx)


def roles_of(tx: Tx, trust_id: str) -> list[Row]:
    return sorted(roles.by_id(tx, credential.trust_roles(tx, trust_id)).values(), key=lambda r: r.name)
