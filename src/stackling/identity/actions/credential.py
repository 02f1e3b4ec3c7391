"""Credentials that identity keeps for users, encrypted: EC2 keys, TOTP seeds, certificates, anything.

An EC2 key made with a trust, application credential or OAuth token carries that in its blob, so that what is logged in
with it is no more than its maker was.
"""

import hashlib
from typing import Any

import msgspec
import sqlalchemy as sa

from stackling.base import ids
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, Forbidden, NotFound
from stackling.identity.actions import encryption, named
from stackling.identity.actions.permission import can, may
from stackling.identity.state import project as projects
from stackling.identity.state.credential import credential

_LIMITS = ("trust_id", "app_cred_id", "access_token_id")  # of a blob: set by us, never by its sender


class New(msgspec.Struct, kw_only=True):
    user_id: str
    type: str
    blob: str
    project_id: str | None = None
    extra: dict[str, Any] = {}


def ec2_id(access: str) -> str:
    return hashlib.sha256(access.encode()).hexdigest()


def parse_ec2(blob: str) -> dict[str, Any]:
    """An EC2 credential's blob. Raises BadRequest."""
    try:
        made = msgspec.json.decode(blob)
    except msgspec.DecodeError:
        made = None
    if (
        not isinstance(made, dict)
        or not isinstance(made.get("access"), str)
        or not isinstance(made.get("secret"), str)
    ):
        raise BadRequest(
            "Invalid blob in credential: an ec2 credential is a JSON object with access and secret."
        )
    return made


def _limited(caller: Caller, blob: dict[str, Any]) -> dict[str, Any]:
    """`blob` with what limits its maker."""
    made = {k: v for k, v in blob.items() if k not in _LIMITS}
    if caller.trust_id:
        made["trust_id"] = caller.trust_id
    if caller.via:
        made["app_cred_id"] = caller.via
    return made


def create(tx: Tx, cloud: Cloud, caller: Caller, want: New) -> Row:
    may(caller, "create_credential", {"target.credential.user_id": want.user_id})
    id, blob = ids.hex32(), want.blob
    if want.type == "ec2":
        parsed = parse_ec2(blob)
        if not want.project_id:
            raise BadRequest("Invalid input for field/attribute project_id: an ec2 credential needs one.")
        id, blob = ec2_id(parsed["access"]), msgspec.json.encode(_limited(caller, parsed)).decode()
        named.free(
            tx,
            sa.select(credential.c.id).where(credential.c.id == id),
            "Conflict occurred attempting to store credential - Duplicate entry.",
        )
    if want.project_id and projects.find(tx, want.project_id) is None and want.type == "ec2":
        raise NotFound(f"Could not find project: {want.project_id[:64]}.")
    return tx.execute(
        credential.insert()
        .values(
            id=id,
            user_id=want.user_id,
            project_id=want.project_id,
            type=want.type,
            blob=encryption.encrypt(cloud, blob),
            extra=want.extra,
        )
        .returning(credential)
    ).one()


def get(tx: Tx, caller: Caller, id: str, rule: str = "get_credential") -> Row:
    row = tx.execute(sa.select(credential).where(credential.c.id == id)).one_or_none()
    may(caller, rule, {"target.credential.user_id": row.user_id} if row is not None else {})
    if row is None:
        raise NotFound(f"Could not find credential: {id[:64]}.")
    return row


def listing(caller: Caller) -> sa.Select[Any]:
    """All credentials for those who may see all, else the caller's own."""
    query = sa.select(credential)
    if can(caller, "get_credential"):
        return query
    may(caller, "list_credentials", {"target.credential.user_id": caller.user_id})
    return query.where(credential.c.user_id == caller.user_id)


def update(tx: Tx, cloud: Cloud, caller: Caller, id: str, change: dict[str, Any]) -> Row:
    row = get(tx, caller, id, "update_credential")
    values = dict(change)
    if "user_id" in values:
        may(caller, "update_credential", {"target.credential.user_id": values["user_id"]})
    blob = values.get("blob")
    if values.get("type", row.type) == "ec2":
        if not values.get("project_id", row.project_id):
            raise BadRequest("Invalid input for field/attribute project_id: an ec2 credential needs one.")
        before = encryption.decrypt(cloud, row.blob)
        parsed = parse_ec2(blob if blob is not None else before)
        kept = {k: v for k, v in (parse_ec2(before) if row.type == "ec2" else {}).items() if k in _LIMITS}
        if blob is not None:
            if any(parsed.get(k, kept.get(k)) != kept.get(k) for k in _LIMITS):
                raise BadRequest(f"Invalid blob in credential: {', '.join(_LIMITS)} can't be changed.")
            values["blob"] = msgspec.json.encode({**parsed, **kept}).decode()
        elif row.type != "ec2":
            values["blob"] = msgspec.json.encode(_limited(caller, parsed)).decode()
        if caller.via is not None and kept.get("app_cred_id") not in (None, caller.via):
            raise Forbidden("The credential belongs to another application credential.")
    if "blob" in values:
        values["blob"] = encryption.encrypt(cloud, values["blob"])
    if "extra" in values:
        values["extra"] = {**row.extra, **values["extra"]}
    tx.execute(sa.update(credential).where(credential.c.id == id).values(**values))
    return tx.execute(sa.select(credential).where(credential.c.id == id)).one()


def delete(tx: Tx, caller: Caller, id: str) -> None:
    row = get(tx, caller, id, "delete_credential")
    tx.execute(sa.delete(credential).where(credential.c.id == row.id))


def certificate(tx: Tx, cloud: Cloud, id: str, project_id: str) -> str | None:
    """What a credential of type `cert` of a project holds, for services that check by it; None: there is none."""
    mine = sa.and_(credential.c.id == id, credential.c.type == "cert", credential.c.project_id == project_id)
    row = tx.execute(sa.select(credential).where(mine)).one_or_none()
    return encryption.decrypt(cloud, row.blob) if row is not None else None
