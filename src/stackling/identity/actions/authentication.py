"""Logging in: by which methods, and what is checked on the way.

Whatever goes wrong, the answer is the same 401; why is in the log.
"""

from typing import Any

import sqlalchemy as sa

from stackling.base.cloud import Cloud
from stackling.base.errors import BadRequest, Forbidden, NotFound, Unauthorized
from stackling.identity.actions import directory, federated_user, multi_factor, oauth1, secret, token, totp
from stackling.identity.actions import password as passwords
from stackling.identity.actions.login import (
    Auth,
    ByApplicationCredential,
    ByMapped,
    ByOauth1,
    ByPassword,
    ByToken,
    ByTotp,
    Identity,
    Proof,
    UserRef,
    find_domain,
    find_user,
    refuse,
    usable,
)
from stackling.identity.actions.scope import issue
from stackling.identity.actions.token import Token
from stackling.identity.state import credential
from stackling.identity.state import directory as directories
from stackling.identity.state import project as projects
from stackling.identity.state import user as users

__all__ = ["Auth", "Identity", "Proof", "admit", "login", "prove", "refuse"]


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
    cloud.audit.initiator(user)
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
    if found.payload.trust or found.payload.access_token or found.payload.certificate:
        raise Forbidden("A token that stands for somebody else can't be exchanged for another.")
    if found.payload.scope != token.UNSCOPED and not cloud.config.identity.allow_rescope_scoped_token:
        raise Forbidden("You are not authorized to perform the requested action: rescope a scoped token.")
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
        owner = users.find(tx, row.user_id) if row is not None else None
        active = usable(tx, owner)
    if owner is not None:
        cloud.audit.initiator(owner)
    right = secret.matches(cloud, part.secret, row.secret_hash if row else None)
    if row is None or not right or not active:
        raise refuse("unknown application credential, wrong secret, or its user is disabled")
    if row.expires_at and row.expires_at <= cloud.clock.now():
        raise refuse("the application credential has expired")
    return Proof(row.user_id, ["application_credential"], row.expires_at, None, row)


def _by_totp(cloud: Cloud, part: ByTotp) -> Proof:
    if part.user.passcode is None:
        raise BadRequest("Expecting to find passcode in user.")
    with cloud.db.read() as tx:
        user = find_user(tx, part.user)
        right = user is not None and usable(tx, user) and totp.matches(tx, cloud, user.id, part.user.passcode)
        if user is not None:
            cloud.audit.initiator(user)
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
