"""The attribute `federated` of a user: who he is at identity providers, as an administrator sets it beforehand."""

from typing import Annotated, Any

import sqlalchemy as sa
from msgspec import Meta, Struct

from stackling.base.context import Caller
from stackling.base.db import Tx
from stackling.base.errors import BadRequest, Conflict
from stackling.identity.actions.permission import may
from stackling.identity.state import federated_user as state
from stackling.identity.state import revision
from stackling.identity.state.federated_user import federated_user
from stackling.identity.state.user import user

_Id = Annotated[str, Meta(min_length=1, max_length=64)]


class ProtocolIdentity(Struct, forbid_unknown_fields=True):
    protocol_id: _Id
    unique_id: Annotated[str, Meta(min_length=1, max_length=255)]


class Federated(Struct, forbid_unknown_fields=True):
    """Who a user is at one provider."""

    idp_id: _Id
    protocols: list[ProtocolIdentity]


def put(tx: Tx, caller: Caller, user_id: str, name: str, wanted: list[Federated]) -> None:
    """The user is these at these providers, and none else.

    Whoever comes from a provider brings groups along, so this takes who may change providers: with less, the manager
    of a domain could catch another's login in a user whose password he knows. Raises Forbidden, BadRequest without
    such a provider or protocol, Conflict when somebody else is that one.
    """
    table = federated_user.c
    before = tx.execute(sa.select(federated_user).where(table.user_id == user_id)).all()
    rows = [(one.idp_id, p.protocol_id, p.unique_id) for one in wanted for p in one.protocols]
    if {(b.idp_id, b.protocol_id, b.unique_id) for b in before} == set(rows):
        return
    may(caller, "update_identity_provider")
    if len({row[:2] for row in rows}) != len(rows):
        raise BadRequest("Invalid input for field/attribute federated: one unique_id for each protocol.")
    tx.execute(sa.delete(federated_user).where(table.user_id == user_id))
    for idp_id, protocol_id, unique_id in rows:
        if state.find_protocol(tx, idp_id, protocol_id) is None:
            raise BadRequest(
                "Invalid input for field/attribute federated: there is no protocol"
                f" {protocol_id} of identity provider {idp_id}."
            )
        key = {"idp_id": idp_id, "protocol_id": protocol_id, "unique_id": unique_id}
        if tx.execute(sa.select(federated_user).filter_by(**key)).first() is not None:
            raise Conflict(
                f"Conflict occurred attempting to store federated_user - Duplicate entry found with ID {unique_id}."
            )
        values = {**key, "user_id": user_id, "display_name": name, "shadow": any(b.shadow for b in before)}
        tx.execute(federated_user.insert().values(**values))
    revision.bump(tx)


def shown(tx: Tx, user_id: str) -> list[dict[str, Any]]:
    """The attribute as the API shows it; empty for most users."""
    made: dict[str, dict[str, Any]] = {}
    for row in state.providers_of(tx, user_id):
        one = made.setdefault(row.idp_id, {"idp_id": row.idp_id, "protocols": []})
        one["protocols"].append({"protocol_id": row.protocol_id, "unique_id": row.unique_id})
    return list(made.values())


def narrowed(query: sa.Select[Any], **filters: str | None) -> sa.Select[Any]:
    """Users who are somebody at a provider: `idp_id`, `protocol_id`, `unique_id`."""
    given = {name: value for name, value in filters.items() if value is not None}
    if not given:
        return query
    return query.where(
        user.c.id.in_(
            sa.select(federated_user.c.user_id).where(*(federated_user.c[n] == v for n, v in given.items()))
        )
    )
