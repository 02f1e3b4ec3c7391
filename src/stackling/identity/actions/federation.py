"""Federation's configuration: who else may say who somebody is, and what that makes of him here."""

import uuid
from typing import Any

import sqlalchemy as sa

from stackling.base import ids
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, Conflict, NotFound
from stackling.identity.actions.federated_user import forget_shadows
from stackling.identity.actions.permission import may
from stackling.identity.state import project as projects
from stackling.identity.state import revision
from stackling.identity.state.federation import (
    identity_provider,
    mapping,
    protocol,
    remote_id,
    service_provider,
)

RELAY_STATE_PREFIX = "ss:mem:"


def _one(tx: Tx, table: sa.Table, id: str, noun: str) -> Row:
    row = tx.execute(sa.select(table).where(table.c.id == id)).one_or_none()
    if row is None:
        raise NotFound(f"Could not find {noun}: {id[:64]}.")
    return row


def _free(tx: Tx, table: sa.Table, id: str, noun: str) -> None:
    if tx.execute(sa.select(table.c.id).where(table.c.id == id)).first() is not None:
        raise Conflict(f"Conflict occurred attempting to store {noun} - Duplicate entry found with ID {id}.")


# -- identity providers ------------------------------------------------------------------------------------------------


def remote_ids(tx: Tx, idp_ids: list[str]) -> dict[str, list[str]]:
    made: dict[str, list[str]] = {i: [] for i in idp_ids}
    query = sa.select(remote_id).where(remote_id.c.idp_id.in_(idp_ids)).order_by(remote_id.c.remote_id)
    for row in tx.execute(query):
        made[row.idp_id].append(row.remote_id)
    return made


def _put_remote_ids(tx: Tx, idp_id: str, wanted: list[str] | None) -> None:
    tx.execute(sa.delete(remote_id).where(remote_id.c.idp_id == idp_id))
    for one in dict.fromkeys(wanted or []):
        if tx.execute(sa.select(remote_id).where(remote_id.c.remote_id == one)).first() is not None:
            raise Conflict(
                f"Conflict occurred attempting to store identity_provider - Duplicate remote ID: {one}."
            )
        tx.execute(remote_id.insert().values(remote_id=one, idp_id=idp_id))


def create_provider(tx: Tx, caller: Caller, id: str, want: dict[str, Any]) -> Row:
    """A provider's users live in a domain: the one named, else one made for it."""
    may(caller, "create_identity_provider")
    _free(tx, identity_provider, id, "identity_provider")
    domain_id = want.get("domain_id")
    if domain_id is None:
        domain_id = ids.hex32()
        values = {
            "id": domain_id,
            "name": uuid.uuid4().hex,
            "is_domain": True,
            "enabled": True,
            "options": {},
        }
        says = f"Auto generated federated domain for Identity Provider: {id}"
        tx.execute(projects.project.insert().values(**values, extra={}, description=says))
    elif projects.find_domain(tx, domain_id) is None:
        raise NotFound(f"Could not find domain: {domain_id[:64]}.")
    row = tx.execute(
        identity_provider.insert()
        .values(
            id=id,
            domain_id=domain_id,
            enabled=want.get("enabled", False),
            description=want.get("description"),
            authorization_ttl=want.get("authorization_ttl"),
        )
        .returning(identity_provider)
    ).one()
    _put_remote_ids(tx, id, want.get("remote_ids"))
    return row


def provider(tx: Tx, caller: Caller, id: str, rule: str = "get_identity_provider") -> Row:
    may(caller, rule)
    return _one(tx, identity_provider, id, "Identity Provider")


def providers(caller: Caller) -> sa.Select[Any]:
    may(caller, "list_identity_providers")
    return sa.select(identity_provider).order_by(identity_provider.c.id)


def update_provider(tx: Tx, caller: Caller, id: str, change: dict[str, Any]) -> Row:
    provider(tx, caller, id, "update_identity_provider")
    values = dict(change)
    if "remote_ids" in values:
        _put_remote_ids(tx, id, values.pop("remote_ids"))
    if values:
        tx.execute(sa.update(identity_provider).where(identity_provider.c.id == id).values(**values))
    revision.bump(tx)  # tokens of a disabled provider's users stop working
    return _one(tx, identity_provider, id, "Identity Provider")


def delete_provider(tx: Tx, caller: Caller, id: str) -> None:
    provider(tx, caller, id, "delete_identity_provider")
    forget_shadows(tx, id)
    tx.execute(sa.delete(identity_provider).where(identity_provider.c.id == id))


# -- mappings ----------------------------------------------------------------------------------------------------------


def create_mapping(tx: Tx, caller: Caller, id: str, rules: list[Any], version: str) -> Row:
    may(caller, "create_mapping")
    _free(tx, mapping, id, "mapping")
    return tx.execute(
        mapping.insert().values(id=id, rules=rules, schema_version=version).returning(mapping)
    ).one()


def get_mapping(tx: Tx, caller: Caller, id: str, rule: str = "get_mapping") -> Row:
    may(caller, rule)
    return _one(tx, mapping, id, "mapping")


def mappings(caller: Caller) -> sa.Select[Any]:
    may(caller, "list_mappings")
    return sa.select(mapping).order_by(mapping.c.id)


def update_mapping(tx: Tx, caller: Caller, id: str, change: dict[str, Any]) -> Row:
    get_mapping(tx, caller, id, "update_mapping")
    tx.execute(sa.update(mapping).where(mapping.c.id == id).values(**change))
    return _one(tx, mapping, id, "mapping")


def delete_mapping(tx: Tx, caller: Caller, id: str) -> None:
    get_mapping(tx, caller, id, "delete_mapping")
    tx.execute(sa.delete(mapping).where(mapping.c.id == id))


# -- protocols ---------------------------------------------------------------------------------------------------------


def _protocol(tx: Tx, idp_id: str, id: str) -> Row:
    query = sa.select(protocol).where(protocol.c.idp_id == idp_id, protocol.c.id == id)
    row = tx.execute(query).one_or_none()
    if row is None:
        raise NotFound(f"Could not find federated protocol {id[:64]} for Identity Provider: {idp_id[:64]}.")
    return row


def _check_mapping(tx: Tx, id: str) -> None:
    if tx.execute(sa.select(mapping.c.id).where(mapping.c.id == id)).first() is None:
        raise BadRequest(f"Invalid mapping id: {id[:64]}.")


def create_protocol(tx: Tx, caller: Caller, idp_id: str, id: str, want: dict[str, Any]) -> Row:
    may(caller, "create_protocol")
    _one(tx, identity_provider, idp_id, "Identity Provider")
    _check_mapping(tx, want["mapping_id"])
    if tx.execute(sa.select(protocol.c.id).where(protocol.c.idp_id == idp_id, protocol.c.id == id)).first():
        raise Conflict(
            f"Conflict occurred attempting to store federation_protocol - Duplicate entry found with ID {id}."
        )
    return tx.execute(protocol.insert().values(idp_id=idp_id, id=id, **want).returning(protocol)).one()


def get_protocol(tx: Tx, caller: Caller, idp_id: str, id: str, rule: str = "get_protocol") -> Row:
    may(caller, rule)
    return _protocol(tx, idp_id, id)


def protocols(tx: Tx, caller: Caller, idp_id: str) -> sa.Select[Any]:
    may(caller, "list_protocols")
    _one(tx, identity_provider, idp_id, "Identity Provider")
    return sa.select(protocol).where(protocol.c.idp_id == idp_id).order_by(protocol.c.id)


def update_protocol(tx: Tx, caller: Caller, idp_id: str, id: str, change: dict[str, Any]) -> Row:
    get_protocol(tx, caller, idp_id, id, "update_protocol")
    if "mapping_id" in change:
        _check_mapping(tx, change["mapping_id"])
    if change:
        tx.execute(
            sa.update(protocol).where(protocol.c.idp_id == idp_id, protocol.c.id == id).values(**change)
        )
    return _protocol(tx, idp_id, id)


def delete_protocol(tx: Tx, caller: Caller, idp_id: str, id: str) -> None:
    get_protocol(tx, caller, idp_id, id, "delete_protocol")
    forget_shadows(tx, idp_id, id)
    tx.execute(sa.delete(protocol).where(protocol.c.idp_id == idp_id, protocol.c.id == id))


# -- service providers -------------------------------------------------------------------------------------------------


def create_service_provider(tx: Tx, caller: Caller, id: str, want: dict[str, Any]) -> Row:
    may(caller, "create_service_provider")
    _free(tx, service_provider, id, "service_provider")
    revision.bump(tx)  # tokens carry the enabled ones
    return tx.execute(service_provider.insert().values(id=id, **want).returning(service_provider)).one()


def get_service_provider(tx: Tx, caller: Caller, id: str, rule: str = "get_service_provider") -> Row:
    may(caller, rule)
    return _one(tx, service_provider, id, "Service Provider")


def service_providers(caller: Caller) -> sa.Select[Any]:
    may(caller, "list_service_providers")
    return sa.select(service_provider).order_by(service_provider.c.id)


def update_service_provider(tx: Tx, caller: Caller, id: str, change: dict[str, Any]) -> Row:
    get_service_provider(tx, caller, id, "update_service_provider")
    if change:
        revision.bump(tx)
        tx.execute(sa.update(service_provider).where(service_provider.c.id == id).values(**change))
    return _one(tx, service_provider, id, "Service Provider")


def delete_service_provider(tx: Tx, caller: Caller, id: str) -> None:
    get_service_provider(tx, caller, id, "delete_service_provider")
    revision.bump(tx)
    tx.execute(sa.delete(service_provider).where(service_provider.c.id == id))
