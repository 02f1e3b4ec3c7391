"""OAuth2 client credentials (RFC 6749 section 4.4, RFC 8705): a token for a program, by secret or by certificate.

With a secret the client is an application credential. With a TLS client certificate it is a user, whom the mapping
named in the configuration recognises by the names in the certificate; his token is for his default project, and works
only together with that certificate.
"""

from collections import Counter
from typing import Any

from cryptography import x509
from cryptography.x509.oid import NameOID

from stackling.base import peer
from stackling.base.cloud import Cloud
from stackling.base.errors import Unauthorized
from stackling.identity.actions import authentication
from stackling.identity.actions.login import (
    Auth,
    ByApplicationCredential,
    Identity,
    ProjectRef,
    Proof,
    Scope,
    refuse,
)
from stackling.identity.actions.token import Token
from stackling.identity.mapping import EvaluatedUser, MappingInvalid, MappingRefused, evaluate, read
from stackling.identity.state import federated_user as federation
from stackling.identity.state import project as projects
from stackling.identity.state import user as users

BY_SECRET, BY_CERTIFICATE = "client_secret_basic", "tls_client_auth"
_SHORT = {
    NameOID.COMMON_NAME: "CN",
    NameOID.LOCALITY_NAME: "L",
    NameOID.STATE_OR_PROVINCE_NAME: "ST",
    NameOID.ORGANIZATION_NAME: "O",
    NameOID.ORGANIZATIONAL_UNIT_NAME: "OU",
    NameOID.COUNTRY_NAME: "C",
    NameOID.STREET_ADDRESS: "STREET",
    NameOID.DOMAIN_COMPONENT: "DC",
    NameOID.USER_ID: "UID",
    NameOID.EMAIL_ADDRESS: "EMAILADDRESS",
}


def by_secret(cloud: Cloud, client_id: str, client_secret: str) -> Token:
    """A token of the application credential `client_id`. Raises Unauthorized."""
    _allowed(cloud, BY_SECRET)
    part = ByApplicationCredential(secret=client_secret, id=client_id)
    identity = Identity(methods=["application_credential"], application_credential=part)
    return authentication.login(cloud, Auth(identity=identity))


def by_certificate(cloud: Cloud, client_id: str, certificate: x509.Certificate) -> Token:
    """A token of the user `client_id` that is bound to his certificate. Raises Unauthorized."""
    _allowed(cloud, BY_CERTIFICATE)
    with cloud.db.read() as tx:
        mapping = federation.find_mapping(tx, cloud.config.identity.oauth2_mapping)
        user = users.find(tx, client_id)
        domain = projects.find(tx, user.domain_id) if user is not None else None
    if user is None or domain is None or not user.default_project_id:
        raise refuse("no such user, or one without a default project")
    cloud.audit.initiator(user)
    if mapping is None:
        raise refuse(f"there is no mapping {cloud.config.identity.oauth2_mapping}")
    try:
        said = evaluate(read(mapping.rules), names(certificate)).user
    except (MappingRefused, MappingInvalid) as e:
        raise refuse(f"mapping {mapping.id}: {e}") from None
    for field, here, there in _compared(said, user, domain):
        if there and there != here:
            raise refuse(f"the certificate is of another user than {user.id}: {field} differs")
    proof = Proof(user.id, ["oauth2_credential"], certificate=peer.digest(certificate))
    scope = Scope(project=ProjectRef(id=user.default_project_id))
    return authentication.admit(cloud, Auth(Identity(methods=proof.methods), scope), proof)


def _allowed(cloud: Cloud, method: str) -> None:
    if method not in cloud.config.identity.oauth2_methods:
        raise Unauthorized("Client authentication failed.", detail=f"{method} is not configured")


def names(certificate: x509.Certificate) -> dict[str, list[str]]:
    """The names in a certificate as a mapping sees them: `SSL_CLIENT_SUBJECT_DN_CN`, `SSL_CLIENT_ISSUER_DN_O`, ….

    One that stands there more than once says nothing for certain, and is left out.
    """
    made: dict[str, list[str]] = {}
    for whose, name in (("SUBJECT", certificate.subject), ("ISSUER", certificate.issuer)):
        times = Counter(attribute.oid for attribute in name)
        for attribute in name:
            if times[attribute.oid] == 1 and isinstance(attribute.value, str):
                short = _SHORT.get(attribute.oid, attribute.oid.dotted_string)
                made[f"SSL_CLIENT_{whose}_DN_{short}"] = [attribute.value]
    return made


def _compared(said: EvaluatedUser, user: Any, domain: Any) -> list[tuple[str, str | None, str | None]]:
    where = said.domain
    return [
        ("id", user.id, said.id),
        ("name", user.name, said.name),
        ("email", user.extra.get("email"), said.email),
        ("domain id", domain.id, where.id if where else None),
        ("domain name", domain.name, where.name if where else None),
    ]
