"""Logging in: by which methods, to which scope, and what is checked on the way.

Whatever goes wrong, the answer is the same 401; why is in the log.
"""

from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from msgspec import UNSET, Struct, UnsetType

from stackling.base.cloud import Cloud
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, Forbidden, NotFound, Unauthorized
from stackling.identity.actions import directory, federated_user, multi_factor, oauth1, secret, token
from stackling.identity.actions import password as passwords
from stackling.identity.actions.token import DOMAIN, PROJECT, SYSTEM, UNSCOPED, Token
from stackling.identity.state import credential, grants
from stackling.identity.state import directory as directories
from stackling.identity.state import project as projects
from stackling.identity.state import user as users

_REFUSED = "The request you have made requires authentication."


class DomainRef(Struct):
    id: str | None = None
    name: str | None = None


class UserRef(Struct):
    id: str | None = None
    name: str | None = None
    domain: DomainRef | None = None
    password: str | None = None
    passcode: str | None = None


class ByPassword(Struct):
    user: UserRef


class ByToken(Struct):
    id: str


class ByApplicationCredential(Struct):
    secret: str
    id: str | None = None
    name: str | None = None
    user: UserRef | None = None


class ByTotp(Struct):
    user: UserRef


class ByMapped(Struct):
    """`id` exchanges a token of a user from an identity provider; else a signed token of the provider proves him.

    `access_token` is ours: upstream knows only the header `Authorization: Bearer`.
    """

    id: str | None = None
    identity_provider: str | None = None
    protocol: str | None = None
    access_token: str | None = None


class ByOauth1(Struct):
    """The header `Authorization` proves; what stands here is nothing."""

    signed: Any = None  # the request as it was signed, put here by the API


class Identity(Struct):
    methods: list[str]
    password: ByPassword | None = None
    token: ByToken | None = None
    application_credential: ByApplicationCredential | None = None
    totp: ByTotp | None = None
    oauth1: ByOauth1 | None = None
    mapped: ByMapped | None = None
    openid: ByMapped | None = None
    saml2: ByMapped | None = None


class ProjectRef(Struct):
    id: str | None = None
    name: str | None = None
    domain: DomainRef | None = None


class SystemRef(Struct):
    all: bool | None = None


class TrustRef(Struct):
    id: str


class Scope(Struct):
    project: ProjectRef | None = None
    domain: DomainRef | None = None
    system: SystemRef | None = None
    trust: TrustRef | None = msgspec.field(default=None, name="OS-TRUST:trust")
    unscoped: Any = UNSET


class Auth(Struct):
    """What a login sends under `auth`."""

    identity: Identity
    scope: Scope | str | UnsetType | None = UNSET


class Proof(Struct):
    """Who was proven to be logging in, and what the token must remember of it."""

    user_id: str
    methods: list[str]
    expires_at: datetime | None = None
    parent: Token | None = None
    application_credential: Row | None = None
    access_token: Row | None = None
    federation: tuple[str, str] | None = None  # identity provider and protocol that the user came by


def refuse(detail: str) -> Unauthorized:
    return Unauthorized(_REFUSED, detail=detail)


def login(cloud: Cloud, auth: Auth, receipt: str | None = None) -> Token:
    """A token for whom `auth` proves, with what was proven before and has a `receipt`.

    Raises Unauthorized, among them Unproven when the user's rules ask for more; BadRequest for what can't be meant.
    """
    return admit(cloud, auth, prove(cloud, auth), receipt)


def admit(cloud: Cloud, auth: Auth, proof: Proof, receipt: str | None = None) -> Token:
    """Like `login`, for who was proven already."""
    _check_factors(cloud, proof, receipt)
    return issue(cloud, auth, proof)


def admit_arrival(cloud: Cloud, came: federated_user.Arrival) -> Token:
    """An unscoped token for whom an identity provider vouches for."""
    identity = Identity(methods=[came.method])
    return admit(cloud, Auth(identity, scope="unscoped"), _proof_of(came))


def _proof_of(came: federated_user.Arrival) -> Proof:
    proof = Proof(came.user_id, [came.method])
    if came.idp_id is not None and came.protocol_id is not None:
        proof.federation = came.idp_id, came.protocol_id
    return proof


def _check_factors(cloud: Cloud, proof: Proof, receipt: str | None) -> None:
    directory.freshen(cloud, proof.user_id)
    with cloud.db.read() as tx:
        user = users.find(tx, proof.user_id)
        domain = projects.find(tx, user.domain_id) if user is not None else None
    if user is None or domain is None:
        raise refuse("the user is gone")
    if receipt:
        user_id, generation, methods = multi_factor.proven(cloud, receipt)
        if user_id != user.id or generation != user.generation:
            raise refuse("the receipt is another user's, or his tokens were revoked")
        proof.methods = list(dict.fromkeys(methods + proof.methods))
    left = multi_factor.rules_left(user, proof.methods)
    if left:
        raise multi_factor.unproven(cloud, user, domain, proof.methods, left)


def prove(cloud: Cloud, auth: Auth) -> Proof:
    """Check every method that is named; all must prove the same user."""
    methods = list(dict.fromkeys(auth.identity.methods))
    if not methods:
        raise BadRequest("Expecting to find methods in auth.identity: at least one is needed.")
    proof: Proof | None = None
    for method in methods:
        given = _METHODS.get(method)
        if given is None:
            raise refuse(f"unsupported method {method[:64]}")
        part = getattr(auth.identity, method)
        if part is None:
            raise BadRequest(
                f"Expecting to find {method} in identity. The server could not comply with the request."
            )
        one = given(cloud, part)
        if proof is None:
            proof = one
        elif proof.user_id != one.user_id:
            raise refuse("the methods prove different users")
        else:
            ends = [e for e in (proof.expires_at, one.expires_at) if e is not None]
            proof = Proof(
                user_id=proof.user_id,
                methods=list(dict.fromkeys(proof.methods + one.methods)),
                expires_at=min(ends) if ends else None,
                parent=proof.parent or one.parent,
                application_credential=proof.application_credential or one.application_credential,
                federation=proof.federation or one.federation,
                access_token=proof.access_token or one.access_token,
            )
    if proof is None:
        raise refuse("no method proved anything")
    return proof


# -- methods -----------------------------------------------------------------------------------------------------------


def find_user(tx: Tx, ref: UserRef) -> Row | None:
    """The user that a login names, by id or by name and domain, if he and his domain are enabled."""
    row = None
    if ref.id:
        row = users.find(tx, ref.id)
    elif ref.name is not None:
        if ref.domain is None or not (ref.domain.id or ref.domain.name):
            raise BadRequest(
                "Expecting to find domain in user. The server could not comply with the request since it is either malformed or otherwise incorrect."
            )
        domain = find_domain(tx, ref.domain)
        row = users.find_by_name(tx, ref.name, domain.id) if domain is not None else None
    else:
        raise BadRequest(
            "Expecting to find id or name in user. The server could not comply with the request since it is either malformed or otherwise incorrect."
        )
    return row


def find_domain(tx: Tx, ref: DomainRef) -> Row | None:
    if ref.id:
        return projects.find_domain(tx, ref.id)
    table = projects.project
    return tx.execute(
        sa.select(table).where(table.c.is_domain.is_(True), table.c.name == ref.name)
    ).one_or_none()


def _usable(tx: Tx, user: Row | None) -> bool:
    if user is None or not user.enabled:
        return False
    domain = projects.find(tx, user.domain_id)
    return domain is not None and domain.enabled


def _by_password(cloud: Cloud, part: ByPassword) -> Proof:
    if part.user.password is None:
        raise BadRequest(
            "Expecting to find password in user. The server could not comply with the request since it is either malformed or otherwise incorrect."
        )
    home = _directory(cloud, part.user)
    if home is not None:
        named = None if part.user.id else part.user.name
        user_id = directory.prove(cloud, home, part.user.password, name=named, user_id=part.user.id or None)
    else:
        user_id = passwords.prove(cloud, lambda tx: find_user(tx, part.user), part.user.password)
    return Proof(user_id, ["password"])


def _directory(cloud: Cloud, ref: UserRef) -> directory.Home | None:
    """The directory that has to say whether the user's password is right; None for users who are kept here."""
    with cloud.db.read() as tx:
        user = find_user(tx, ref)
        if user is not None:
            entry = directories.find(tx, user.id)
            return directory.of_domain(tx, cloud, user.domain_id) if entry is not None else None
        if ref.id:
            entry = directories.find(tx, ref.id)  # one who is gone may be back
            return directory.of_domain(tx, cloud, entry.domain_id) if entry is not None else None
        domain = find_domain(tx, ref.domain) if ref.domain is not None else None
        return directory.of_domain(tx, cloud, domain.id) if domain is not None else None


def _by_token(cloud: Cloud, part: ByToken) -> Proof:
    try:
        found = token.tokens(cloud).look(part.id)
    except Unauthorized as e:
        raise NotFound(
            "Could not find token.", detail=e.detail
        ) from None  # upstream's one login that isn't 401
    if found.payload.trust or found.payload.access_token:
        raise Forbidden("A token that stands for somebody else can't be exchanged for another.")
    methods = [*found.payload.method_names, "token"]
    proof = Proof(found.payload.user_id, list(dict.fromkeys(methods)), found.payload.expires_at, found)
    if found.payload.provider:
        proof.federation = found.payload.idp_id, found.payload.protocol
    if found.caller.via:
        with cloud.db.read() as tx:
            proof.application_credential = credential.find_application_credential(tx, found.caller.via)
    return proof


def _by_application_credential(cloud: Cloud, part: ByApplicationCredential) -> Proof:
    table = credential.application_credential
    with cloud.db.read() as tx:
        row = None
        if part.id:
            row = credential.find_application_credential(tx, part.id)
        elif part.name is not None and part.user is not None:
            user = find_user(tx, part.user)
            if user is not None:
                query = sa.select(table).where(table.c.user_id == user.id, table.c.name == part.name)
                row = tx.execute(query).one_or_none()
        else:
            raise BadRequest("Expecting to find id, or name and user, in application_credential.")
        usable = row is not None and _usable(tx, users.find(tx, row.user_id))
    right = secret.matches(cloud, part.secret, row.secret_hash if row else None)
    if row is None or not right or not usable:
        raise refuse("unknown application credential, wrong secret, or its user is disabled")
    if row.expires_at and row.expires_at <= cloud.clock.now():
        raise refuse("the application credential has expired")
    return Proof(row.user_id, ["application_credential"], row.expires_at, None, row)


def _by_totp(cloud: Cloud, part: ByTotp) -> Proof:
    from stackling.identity.actions import totp

    if part.user.passcode is None:
        raise BadRequest("Expecting to find passcode in user.")
    with cloud.db.read() as tx:
        user = find_user(tx, part.user)
        right = (
            user is not None and _usable(tx, user) and totp.matches(tx, cloud, user.id, part.user.passcode)
        )
    if user is None or not right:
        raise refuse("wrong passcode")
    return Proof(user.id, ["totp"])


def _by_mapped(cloud: Cloud, part: ByMapped) -> Proof:
    if part.id is not None:
        proof = _by_token(cloud, ByToken(part.id))
        if proof.federation is None:
            raise refuse("the token is not of a user from an identity provider")
        return proof
    if part.identity_provider is None or part.protocol is None:
        raise BadRequest("Expecting to find id, or identity_provider and protocol, in mapped.")
    if part.access_token is None:
        raise refuse("no token of the identity provider was sent")
    came = federated_user.enter_with_token(cloud, part.identity_provider, part.protocol, part.access_token)
    return _proof_of(came)


def _by_oauth1(cloud: Cloud, part: ByOauth1) -> Proof:
    if part.signed is None:
        raise BadRequest("Expecting to find a header Authorization with OAuth parameters.")
    with cloud.db.read() as tx:
        row = oauth1.signer(tx, cloud, part.signed)
    return Proof(row.user_id, ["oauth1"], row.expires_at, access_token=row)


_METHODS: dict[str, Any] = {
    "mapped": _by_mapped,
    "openid": _by_mapped,
    "saml2": _by_mapped,
    "oauth1": _by_oauth1,
    "password": _by_password,
    "token": _by_token,
    "application_credential": _by_application_credential,
    "totp": _by_totp,
}


# -- scope -------------------------------------------------------------------------------------------------------------


def issue(cloud: Cloud, auth: Auth, proof: Proof) -> Token:
    """A token of the wanted scope for who was proven."""
    if isinstance(auth.scope, str) and auth.scope != "unscoped":
        raise BadRequest("Invalid input for field/attribute scope: it is an object or 'unscoped'.")
    scope: Scope | None
    if auth.scope is UNSET or auth.scope is None:
        scope = None
    elif isinstance(auth.scope, str):
        scope = Scope(unscoped={})
    else:
        scope = auth.scope
        named = [n for n in ("project", "domain", "system", "trust") if getattr(scope, n) is not None]
        named += ["unscoped"] if scope.unscoped is not UNSET else []
        if len(named) > 1:
            raise BadRequest(f"Ambiguous scope: {' and '.join(named)} exclude each other.")
        if scope.trust is not None:
            return _of_trust(cloud, proof, scope.trust.id)
    with cloud.db.read() as tx:
        user = users.find(tx, proof.user_id)
        if user is None or not _usable(tx, user):
            raise refuse("the user is gone or disabled")
        kind, target_id = _target(tx, user, scope, proof)
        more: dict[str, Any] = {}
        if proof.application_credential is not None:
            more["application_credential_id"] = proof.application_credential.id
        if proof.federation is not None:
            more["idp_id"], more["protocol_id"] = proof.federation
        if proof.access_token is not None:
            more["access_token_id"] = proof.access_token.id
        return token.issue(
            tx,
            cloud,
            user=user,
            methods=proof.methods,
            scope=kind,
            target_id=target_id,
            expires_at=proof.expires_at,
            parent_audit_id=_root_audit(proof),
            **more,
        )


def _root_audit(proof: Proof) -> str | None:
    return proof.parent.payload.audit[-1] if proof.parent else None


def _target(tx: Tx, user: Row, scope: Scope | None, proof: Proof) -> tuple[int, str]:
    if proof.access_token is not None:
        if scope is not None:
            raise refuse("an access token is for its own project")
        return PROJECT, proof.access_token.project_id
    if proof.application_credential is not None:
        project_id = proof.application_credential.project_id
        if scope is not None and (scope.domain or scope.system or scope.unscoped is not UNSET):
            raise refuse("an application credential is for its own project")
        if scope is not None and scope.project is not None and _project(tx, scope.project).id != project_id:
            raise refuse("an application credential is for its own project")
        return PROJECT, project_id
    if scope is None or not (scope.project or scope.domain or scope.system or scope.unscoped is not UNSET):
        return _default(tx, user)
    if scope.project:
        return PROJECT, _project(tx, scope.project).id
    if scope.domain:
        if not (scope.domain.id or scope.domain.name):
            raise BadRequest("Expecting to find id or name in domain.")
        domain = find_domain(tx, scope.domain)
        if domain is None:
            raise refuse("no such domain")
        return DOMAIN, domain.id
    if scope.system:
        if not scope.system.all:
            raise BadRequest(
                "Invalid input for field/attribute scope.system: only all of the system can be the scope."
            )
        return SYSTEM, ""
    return UNSCOPED, ""


def _default(tx: Tx, user: Row) -> tuple[int, str]:
    """The user's default project, if it can be his scope."""
    project = projects.find(tx, user.default_project_id) if user.default_project_id else None
    if project is None or not project.enabled or project.is_domain:
        return UNSCOPED, ""
    domain = projects.find(tx, project.domain_id)
    if (
        domain is None
        or not domain.enabled
        or not grants.roles_of(tx, user.id, grants.on_project(tx, project))
    ):
        return UNSCOPED, ""
    return PROJECT, project.id


def _project(tx: Tx, ref: ProjectRef) -> Row:
    row = None
    if ref.id:
        row = projects.find(tx, ref.id)
    elif ref.name is not None:
        if ref.domain is None or not (ref.domain.id or ref.domain.name):
            raise BadRequest(
                "Expecting to find domain in project. The server could not comply with the request since it is either malformed or otherwise incorrect."
            )
        domain = find_domain(tx, ref.domain)
        if domain is not None:
            table = projects.project
            query = sa.select(table).where(table.c.name == ref.name, table.c.domain_id == domain.id)
            row = tx.execute(query).one_or_none()
    else:
        raise BadRequest(
            "Expecting to find id or name in project. The server could not comply with the request since it is either malformed or otherwise incorrect."
        )
    if row is None:
        raise refuse("no such project")
    return row


def _of_trust(cloud: Cloud, proof: Proof, trust_id: str) -> Token:
    """A token that acts on a trust, which is used once more by it."""
    if proof.application_credential is not None or proof.access_token is not None:
        raise refuse("what is limited to a project can't act on a trust")
    with cloud.db.begin() as tx:
        trust = credential.find_trust(tx, trust_id)
        user = users.find(tx, proof.user_id)
        if trust is None or user is None or not _usable(tx, user):
            raise refuse("no such trust or user")
        if trust.trustee_user_id != user.id:
            raise Forbidden("User is not a trustee.")
        if trust.expires_at and trust.expires_at <= cloud.clock.now():
            raise refuse("the trust has expired")
        if not _usable(tx, users.find(tx, trust.trustor_user_id)):
            raise Forbidden("Trustor is disabled.")
        if trust.remaining_uses is not None:
            table = credential.trust
            used = tx.execute(
                sa.update(table)
                .where(table.c.id == trust.id, table.c.remaining_uses > 0)
                .values(remaining_uses=table.c.remaining_uses - 1)
            )
            if not used.rowcount:
                raise refuse("the trust is used up")
        ends = [e for e in (proof.expires_at, trust.expires_at) if e is not None]
        try:
            return token.issue(
                tx,
                cloud,
                user=user,
                methods=proof.methods,
                scope=PROJECT if trust.project_id else UNSCOPED,
                target_id=trust.project_id or "",
                expires_at=min(ends) if ends else None,
                parent_audit_id=_root_audit(proof),
                trust_id=trust.id,
            )
        except Unauthorized as e:
            raise Forbidden(
                "The trust can't be used: its trustor does not hold all its roles any more.", detail=e.detail
            ) from None
