"""EC2 keys: making them, and logging in with what was signed with one (EC2 and S3 requests)."""

import base64
import hashlib
import hmac
import secrets
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import msgspec
import sqlalchemy as sa

from stackling.base import clock
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, Forbidden, NotFound, Unauthorized
from stackling.identity.actions import application_credential as application_credentials
from stackling.identity.actions import credential as credentials
from stackling.identity.actions import encryption, token
from stackling.identity.actions.permission import may
from stackling.identity.state import credential as state
from stackling.identity.state import project as projects
from stackling.identity.state import user as users
from stackling.identity.state.credential import credential

_SKEW = timedelta(minutes=15)  # how old a signed request may be


class Key(msgspec.Struct):
    """An EC2 key, decrypted."""

    row: Row
    access: str
    secret: str
    trust_id: str | None = None
    application_credential_id: str | None = None
    access_token_id: str | None = None


def _key(cloud: Cloud, row: Row) -> Key:
    blob = credentials.parse_ec2(encryption.decrypt(cloud, row.blob))
    return Key(
        row,
        blob["access"],
        blob["secret"],
        blob.get("trust_id"),
        blob.get("app_cred_id"),
        blob.get("access_token_id"),
    )


def create(tx: Tx, cloud: Cloud, caller: Caller, user_id: str, project_id: str) -> Key:
    """A key for the user on a project. What he may do with it is looked up when he does."""
    may(caller, "ec2_create_credential", {"target.user.id": user_id, "target.credential.user_id": user_id})
    application_credentials.unrestricted(caller)
    project = projects.find(tx, project_id)
    if project is None:
        raise NotFound(f"Could not find project: {project_id[:64]}.")
    if users.find(tx, user_id) is None:
        raise NotFound(f"Could not find user: {user_id[:64]}.")
    if (caller.via or caller.trust_id) and project_id != caller.project_id:
        raise Forbidden("The project is not that of the delegated token.")
    blob: dict[str, Any] = {"access": secrets.token_hex(16), "secret": secrets.token_hex(16)}
    if caller.trust_id:
        blob["trust_id"] = caller.trust_id
    if caller.via:
        blob["app_cred_id"] = caller.via
    row = tx.execute(
        credential.insert()
        .values(
            id=credentials.ec2_id(blob["access"]),
            user_id=user_id,
            project_id=project_id,
            type="ec2",
            blob=encryption.encrypt(cloud, msgspec.json.encode(blob).decode()),
            extra={},
        )
        .returning(credential)
    ).one()
    return _key(cloud, row)


def listing(tx: Tx, cloud: Cloud, caller: Caller, user_id: str) -> list[Key]:
    may(caller, "ec2_list_credentials", {"target.user.id": user_id, "target.credential.user_id": user_id})
    query = sa.select(credential).where(credential.c.user_id == user_id, credential.c.type == "ec2")
    return [_key(cloud, row) for row in tx.execute(query.order_by(credential.c.id))]


def get(
    tx: Tx, cloud: Cloud, caller: Caller, user_id: str, access: str, rule: str = "ec2_get_credential"
) -> Key:
    query = sa.select(credential).where(
        credential.c.id == credentials.ec2_id(access), credential.c.type == "ec2"
    )
    row = tx.execute(query).one_or_none()
    if row is None:
        raise NotFound(f"Could not find credential: {access[:64]}.")
    # Whose it is counts, not whose the path says it is.
    may(caller, rule, {"target.user.id": row.user_id, "target.credential.user_id": row.user_id})
    return _key(cloud, row)


def delete(tx: Tx, cloud: Cloud, caller: Caller, user_id: str, access: str) -> None:
    key = get(tx, cloud, caller, user_id, access, "ec2_delete_credential")
    tx.execute(sa.delete(credential).where(credential.c.id == key.row.id))


# -- logging in --------------------------------------------------------------------------------------------------------


def _hmac(key: bytes, text: str | bytes, kind: Any = hashlib.sha256) -> bytes:
    return hmac.new(key, text.encode() if isinstance(text, str) else text, kind).digest()


def _v4_key(secret: str, scope: str) -> bytes:
    """The signing key of AWS4-HMAC-SHA256 for `date/region/service/aws4_request`."""
    parts = scope.split("/")
    key = ("AWS4" + secret).encode()
    for part in parts[:4]:
        key = _hmac(key, part)
    return key


def _flat(params: dict[str, Any]) -> str:
    pairs = sorted((str(k), str(v)) for k, v in params.items())
    return "&".join(f"{quote(k, safe='-_~')}={quote(v, safe='-_~')}" for k, v in pairs)


def _ec2_signature(secret: str, given: dict[str, Any]) -> str:
    """The signature that a request in `given` (host, verb, path, params, headers, body_hash) has with `secret`."""
    params = {k: v for k, v in _texts(given, "params").items() if k != "Signature"}
    verb, host, path = (str(given.get(k) or "") for k in ("verb", "host", "path"))
    version = str(params.get("SignatureVersion", "4"))
    if version == "0":
        return base64.b64encode(
            _hmac(
                secret.encode(),
                str(params.get("Action", "")) + str(params.get("Timestamp", "")),
                hashlib.sha1,
            )
        ).decode()
    if version == "1":
        text = "".join(f"{k}{params[k]}" for k in sorted(params, key=str.lower))
        return base64.b64encode(_hmac(secret.encode(), text, hashlib.sha1)).decode()
    if version == "2":
        kind = hashlib.sha1 if params.get("SignatureMethod") == "HmacSHA1" else hashlib.sha256
        text = f"{verb}\n{host}\n{path}\n{_flat(params)}"
        return base64.b64encode(_hmac(secret.encode(), text, kind)).decode()
    return _v4_signature(secret, given, params, verb, host, path)


def _v4_signature(
    secret: str, given: dict[str, Any], params: dict[str, str], verb: str, host: str, path: str
) -> str:
    headers = {k.lower(): v for k, v in _texts(given, "headers").items()}
    auth = headers.get("authorization", "")
    fields = dict(part.strip().partition("=")[::2] for part in auth.partition(" ")[2].split(","))
    scope_of = str(params.get("X-Amz-Credential") or fields.get("Credential", ""))
    signed = str(params.get("X-Amz-SignedHeaders") or fields.get("SignedHeaders", ""))
    date = str(params.get("X-Amz-Date") or headers.get("x-amz-date", ""))
    scope = scope_of.partition("/")[2]
    query = (
        {k: v for k, v in params.items() if k != "X-Amz-Signature"}
        if "X-Amz-Credential" in params
        else params
    )
    canonical = "\n".join(
        [
            verb,
            path,
            _flat(query if verb != "POST" or "X-Amz-Credential" in params else {}),
            "".join(
                f"{name}:{' '.join((headers.get(name) or (host if name == 'host' else '')).split())}\n"
                for name in signed.split(";")
            ),
            signed,
            str(given.get("body_hash") or ""),
        ]
    )
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{date}\n{scope}\n{digest}"
    return _hmac(_v4_key(secret, scope), text).hex()


def _s3_signature(secret: str, signed: str, given: str) -> str:
    """The signature of an S3 request: `signed` is the text that was signed, base64."""
    try:
        text = base64.urlsafe_b64decode(signed)
    except ValueError:
        raise Unauthorized(detail="token is not base64") from None
    if text.startswith(b"AWS4"):
        lines = text.decode("utf-8", "replace").split("\n")
        if len(lines) < 4:
            raise Unauthorized(detail="text to sign is too short")
        return _hmac(_v4_key(secret, lines[2]), text).hex()
    return base64.b64encode(_hmac(secret.encode(), text, hashlib.sha1)).decode()


def login(cloud: Cloud, caller: Caller, body: dict[str, Any], *, s3: bool) -> token.Token:
    """A token for who signed the request that `body` describes. Raises Unauthorized."""
    may(caller, "s3tokens_validate" if s3 else "ec2tokens_validate")
    given = body.get("credentials") or body.get("ec2Credentials")
    if (
        not isinstance(given, dict)
        or not isinstance(given.get("access"), str)
        or not isinstance(given.get("signature"), str)
    ):
        raise BadRequest("Expecting to find credentials with access and signature.")
    with cloud.db.read() as tx:
        query = sa.select(credential).where(
            credential.c.id == credentials.ec2_id(given["access"]), credential.c.type == "ec2"
        )
        row = tx.execute(query).one_or_none()
    if row is None:
        raise Unauthorized(detail="no such EC2 key")
    key = _key(cloud, row)
    if s3:
        right = _s3_signature(key.secret, str(given.get("token") or ""), given["signature"])
    else:
        _check_time(cloud, given)
        right = _ec2_signature(key.secret, given)
    if not hmac.compare_digest(right.encode(), given["signature"].encode()):
        raise Unauthorized(detail="wrong signature")
    return _issue(cloud, key)


def _texts(given: dict[str, Any], name: str) -> dict[str, str]:
    """The parameters or headers of a signed request. Raises BadRequest."""
    found = given.get(name) or {}
    if not isinstance(found, dict):
        raise BadRequest(f"Invalid input for field/attribute {name}: it is an object.")
    return {str(k): str(v) for k, v in found.items()}


def _check_time(cloud: Cloud, given: dict[str, Any]) -> None:
    params, headers = _texts(given, "params"), _texts(given, "headers")
    if "Timestamp" in params and params.get("SignatureVersion", "4") in ("0", "1", "2"):
        text: str | None = params["Timestamp"]
    else:  # version 4 signs this one and may not sign a parameter of the other's name
        lower = {name.lower(): value for name, value in headers.items()}
        text = params.get("X-Amz-Date") or lower.get("x-amz-date")
    if text is None:
        return
    try:
        when = clock.parse(str(text))
    except ValueError:
        raise Unauthorized(detail="the time of the signature can't be read") from None
    if abs(cloud.clock.now() - when) > _SKEW:
        raise Unauthorized(detail="the signature is too old")


def _issue(cloud: Cloud, key: Key) -> token.Token:
    with cloud.db.read() as tx:
        user = users.find(tx, key.row.user_id)
        ends = None
        trust = state.find_trust(tx, key.trust_id) if key.trust_id else None
        if key.trust_id:
            # The one who acts on a trust is its trustee, whoever the key is listed under.
            user = users.find(tx, trust.trustee_user_id) if trust is not None else None
            ends = trust.expires_at if trust is not None else None
        if user is None or not user.enabled:
            raise Unauthorized(detail="the key's user is gone or disabled")
        cloud.audit.initiator(user)
        return token.issue(
            tx,
            cloud,
            user=user,
            methods=["ec2credential"],
            scope=token.PROJECT,
            target_id=key.row.project_id or "",
            expires_at=ends,
            application_credential_id=key.application_credential_id or "",
            trust_id=key.trust_id or "",
            access_token_id=key.access_token_id or "",
        )
