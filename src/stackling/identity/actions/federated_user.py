"""Logging in with what an identity provider says: who that is here, in which groups, on which projects.

A user who comes for the first time is made (a shadow user), and found again by provider, protocol and his unique id
there. Groups from the mapping hold as long as the tokens of that login, or for the provider's `authorization_ttl`.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from stackling.base import db, ids
from stackling.base.cloud import Cloud
from stackling.base.db import Row, Tx
from stackling.base.errors import Forbidden, NotFound, Unauthorized
from stackling.identity.actions import oidc as oidc_options
from stackling.identity.actions import user as user_actions
from stackling.identity.mapping import (
    DomainRef,
    Evaluated,
    EvaluatedProject,
    EvaluatedUser,
    MappingInvalid,
    MappingRefused,
    evaluate,
    read,
)
from stackling.identity.oidc import claims as oidc_claims
from stackling.identity.oidc import opaque as oidc_opaque
from stackling.identity.oidc import provider as oidc_provider
from stackling.identity.oidc import token as oidc_token
from stackling.identity.state import federated_user as state
from stackling.identity.state import federation, revision
from stackling.identity.state import project as projects
from stackling.identity.state import user as users
from stackling.identity.state.federated_user import federated_membership, federated_user
from stackling.identity.state.role import assignment, role

METHODS = ("mapped", "openid", "saml2")  # under which a token can say that it came from a provider
_REFUSED = "The request you have made requires authentication."


class Door(Struct, frozen=True):
    """One protocol of one provider, with all that is needed to let somebody in by it."""

    provider: Row
    protocol: Row
    mapping: Row
    remote_ids: tuple[str, ...]


class OidcDoor(Door, frozen=True):
    """One that is opened with OpenID Connect."""

    oidc: oidc_provider.Options


class Arrival(Struct, frozen=True):
    """Who came in. `idp_id` and `protocol_id` are None for a user that is kept here himself."""

    user_id: str
    method: str
    idp_id: str | None = None
    protocol_id: str | None = None


def _refuse(detail: str) -> Unauthorized:
    return Unauthorized(_REFUSED, detail=detail)


def door(tx: Tx, idp_id: str, protocol_id: str) -> Door:
    """Raises NotFound for what there is not, Forbidden when the provider is disabled."""
    provider = state.find_provider(tx, idp_id)
    if provider is None:
        raise NotFound(f"Could not find Identity Provider: {idp_id[:64]}.")
    protocol = state.find_protocol(tx, idp_id, protocol_id)
    if protocol is None:
        raise NotFound(
            f"Could not find federated protocol {protocol_id[:64]} for Identity Provider: {idp_id}."
        )
    if not provider.enabled:
        raise Forbidden(f"Identity Provider {idp_id} is disabled.")
    mapping = state.find_mapping(tx, protocol.mapping_id)
    if mapping is None:
        raise NotFound(f"Could not find mapping: {protocol.mapping_id}.")
    table = federation.remote_id.c
    remote = tx.execute(sa.select(table.remote_id).where(table.idp_id == idp_id)).scalars()
    return Door(provider, protocol, mapping, tuple(remote))


def oidc_door(tx: Tx, cloud: Cloud, idp_id: str, protocol_id: str) -> OidcDoor:
    """Like `door`; raises NotFound where OpenID Connect is not spoken."""
    way = door(tx, idp_id, protocol_id)
    options = oidc_options.read(tx, cloud, idp_id)
    if options is None:
        raise NotFound(f"Identity Provider {idp_id} does not speak OpenID Connect here.")
    return OidcDoor(way.provider, way.protocol, way.mapping, way.remote_ids, options)


def enter_with_token(cloud: Cloud, idp_id: str, protocol_id: str, bearer: str) -> Arrival:
    """Let in whom a token of the provider names. Raises Unauthorized, and what `door` raises."""
    with cloud.db.read() as tx:
        way = oidc_door(tx, cloud, idp_id, protocol_id)
    audiences = {*way.oidc.audiences, *([way.oidc.client_id] if way.oidc.client_id else [])}
    if oidc_token.is_jwt(bearer):
        claims = complete(cloud, way.oidc, check_token(cloud, way.oidc, bearer, audiences), bearer)
    else:
        issuer = oidc_provider.provider(cloud, way.oidc)
        with _refusals(way.oidc):
            claims = oidc_opaque.claims_of(
                bearer, options=way.oidc, provider=issuer, audiences=audiences, now=cloud.clock.now()
            )
    return enter(cloud, way, oidc_claims.assertion_of(claims))


def check_token(
    cloud: Cloud, options: oidc_provider.Options, text: str, audiences: Iterable[str]
) -> dict[str, Any]:
    """The claims of a provider's token. Raises Unauthorized; Unavailable when the provider's keys can't be had."""
    with _refusals(options):
        return oidc_token.claims_of(
            text,
            keys=oidc_provider.provider(cloud, options).keys,
            issuer=options.issuer,
            audiences=set(audiences),
            now=cloud.clock.now(),
        )


def complete(
    cloud: Cloud, options: oidc_provider.Options, claims: dict[str, Any], access_token: str
) -> dict[str, Any]:
    """The claims, and what only the provider's userinfo endpoint tells, where it is to be asked.

    Raises Unauthorized, Unavailable.
    """
    if not options.userinfo:
        return claims
    with _refusals(options):
        more = oidc_opaque.told(access_token, oidc_provider.provider(cloud, options), claims["sub"])
    return {**more, **claims}


@contextmanager
def _refusals(options: oidc_provider.Options) -> Iterator[None]:
    """A token that proves nothing is Unauthorized; the reason is for the log."""
    try:
        yield
    except oidc_token.TokenRefused as e:
        raise _refuse(f"token of {options.issuer}: {e}") from None


def enter(cloud: Cloud, way: Door, assertion: dict[str, list[str]]) -> Arrival:
    """Let in whom a checked assertion comes to by the mapping. Raises Unauthorized, and Forbidden for a wrong remote id."""
    attribute = way.protocol.remote_id_attribute
    if attribute and not set(assertion.get(attribute, ())) & set(way.remote_ids):
        raise Forbidden(
            "Incoming identity provider identifier not included among the accepted identifiers.",
            detail=f"{attribute} is {assertion.get(attribute)}",
        )
    try:
        found = evaluate(read(way.mapping.rules), assertion)
    except (MappingRefused, MappingInvalid) as e:
        raise _refuse(f"mapping {way.mapping.id}: {e}") from None
    method = way.protocol.id if way.protocol.id in METHODS else "mapped"
    with cloud.db.begin() as tx:
        if found.user.type == "local":
            return Arrival(_local(tx, found.user).id, method)
        user_id = _shadow(tx, cloud, way, found.user)
        _put_groups(tx, cloud, way, user_id, found)
        for project in found.projects:
            _provide(tx, way, user_id, project)
        table = users.user
        tx.execute(sa.update(table).where(table.c.id == user_id).values(last_active_at=cloud.clock.now()))
    return Arrival(user_id, method, way.provider.id, way.protocol.id)


def forget_shadows(tx: Tx, idp_id: str, protocol_id: str | None = None) -> None:
    """Take away the users that have no other way in than this provider (or this one protocol of it)."""
    table = federated_user.c
    here = [table.idp_id == idp_id] + ([table.protocol_id == protocol_id] if protocol_id is not None else [])
    mine = sa.select(table.user_id).where(*here, table.shadow.is_(True))
    others = sa.select(table.user_id).where(sa.not_(sa.and_(*here)))
    query = sa.select(users.user.c.id).where(users.user.c.id.in_(mine), users.user.c.id.notin_(others))
    for user_id in tx.execute(query).scalars().all():
        user_actions.forget(tx, user_id)
    revision.bump(tx)


# -- users -------------------------------------------------------------------------------------------------------------


def _domain(tx: Tx, ref: DomainRef) -> Row:
    """Raises Unauthorized without such an enabled domain."""
    table = projects.project.c
    where = table.id == ref.id if ref.id is not None else table.name == ref.name
    row = tx.execute(sa.select(projects.project).where(where, table.is_domain.is_(True))).one_or_none()
    if row is None or not row.enabled:
        raise _refuse(
            f"the mapping names domain {(ref.id or ref.name or '')[:64]}, which is gone or disabled"
        )
    return row


def _local(tx: Tx, wanted: EvaluatedUser) -> Row:
    """The user that is kept here. Whether he is enabled is looked at when his token is made."""
    domain = _domain(tx, wanted.domain or DomainRef())
    row = users.find(tx, wanted.id) if wanted.id else users.find_by_name(tx, wanted.name or "", domain.id)
    if row is None or row.domain_id != domain.id:
        raise _refuse("the mapping names a local user that there is not")
    return row


def _shadow(tx: Tx, cloud: Cloud, way: Door, wanted: EvaluatedUser) -> str:
    """The id of the user that stands for somebody of the provider; made when he comes for the first time."""
    unique_id, name = wanted.id or wanted.name or "", wanted.name or wanted.id or ""
    if len(unique_id) > 255 or len(name) > 255 or not name.strip():
        raise _refuse("the mapping makes a user whose id or name is empty or longer than 255 characters")
    idp_id, protocol_id = way.provider.id, way.protocol.id
    db.lock(tx, f"federated:{idp_id}:{protocol_id}:{unique_id}")
    table = federated_user.c
    here = [table.idp_id == idp_id, table.protocol_id == protocol_id, table.unique_id == unique_id]
    found = tx.execute(sa.select(federated_user).where(*here)).one_or_none()
    more = {"email": wanted.email} if wanted.email else {}
    if found is not None:
        row = users.find(tx, found.user_id)
        change: dict[str, Any] = {}
        if found.display_name != name:
            tx.execute(sa.update(federated_user).where(*here).values(display_name=name))
            if row is not None and found.shadow:
                change["name"] = _free_name(tx, row.domain_id, name, unique_id, row.id)
        if row is not None and found.shadow and any(row.extra.get(k) != v for k, v in more.items()):
            change["extra"] = {**row.extra, **more}
        if change:
            tx.execute(sa.update(users.user).where(users.user.c.id == found.user_id).values(**change))
            revision.bump(tx)
        return str(found.user_id)
    domain_id = way.provider.domain_id
    if wanted.domain is not None and way.mapping.schema_version != "1.0":
        domain_id = _domain(
            tx, wanted.domain
        ).id  # schema 1.0 put users in the provider's domain whatever it said
    user_id = ids.hex32()
    tx.execute(
        users.user.insert().values(
            id=user_id,
            name=_free_name(tx, domain_id, name, unique_id, user_id),
            domain_id=domain_id,
            enabled=True,
            options={},
            extra=more,
            generation=0,
            created_at=cloud.clock.now(),
        )
    )
    tx.execute(
        federated_user.insert().values(
            idp_id=idp_id,
            protocol_id=protocol_id,
            unique_id=unique_id,
            user_id=user_id,
            display_name=name,
            shadow=True,
        )
    )
    return user_id


def _free_name(tx: Tx, domain_id: str, name: str, unique_id: str, user_id: str) -> str:
    """`name`, or where somebody else in the domain is called so, `name` with what tells the two apart.

    A newcomer is never taken for a user of the same name who is there already.
    """
    table = users.user.c
    for one in (name, f"{name[:120]} ({unique_id[:120]})", f"{name[:200]} ({user_id})"):
        taken = sa.select(table.id).where(
            table.domain_id == domain_id, table.name == one, table.id != user_id
        )
        if tx.execute(taken).first() is None:
            return one
    raise _refuse("no name is free for the user")


# -- groups and projects -----------------------------------------------------------------------------------------------


def _put_groups(tx: Tx, cloud: Cloud, way: Door, user_id: str, found: Evaluated) -> None:
    """The user is in the groups that the mapping gave, as far as there are such, and in no others by this provider."""
    now = cloud.clock.now()
    lifetime = timedelta(seconds=cloud.config.identity.token_lifetime)
    ends = now + max(lifetime, timedelta(minutes=way.provider.authorization_ttl or 0))
    wanted = _group_ids(tx, found)
    table = federated_membership.c
    mine = sa.and_(table.user_id == user_id, table.idp_id == way.provider.id)
    before = {row.group_id: row.expires_at for row in tx.execute(sa.select(federated_membership).where(mine))}
    tx.execute(sa.delete(federated_membership).where(table.user_id == user_id, table.expires_at <= now))
    tx.execute(sa.delete(federated_membership).where(mine, table.group_id.notin_(wanted)))
    for group_id in wanted:
        key = {"user_id": user_id, "group_id": group_id, "idp_id": way.provider.id}
        db.upsert(tx, federated_membership, {**key, "expires_at": ends}, {"expires_at": ends}, key=tuple(key))
    if {g for g, end in before.items() if end > now} != set(wanted):
        revision.bump(tx)


def _group_ids(tx: Tx, found: Evaluated) -> list[str]:
    table = users.group.c
    made = set(tx.execute(sa.select(table.id).where(table.id.in_(found.group_ids[:1000]))).scalars())
    domains: dict[DomainRef, str | None] = {}
    for group in found.group_names[:1000]:
        if group.domain not in domains:
            try:
                domains[group.domain] = _domain(tx, group.domain).id
            except Unauthorized:
                domains[group.domain] = None  # as with a group that there is not: it gives nothing
        domain_id = domains[group.domain]
        if domain_id is not None:
            query = sa.select(table.id).where(table.name == group.name, table.domain_id == domain_id)
            made |= set(tx.execute(query).scalars())
    return sorted(made)


def _provide(tx: Tx, way: Door, user_id: str, wanted: EvaluatedProject) -> None:
    """The project is there, and the user has the roles on it. Raises Unauthorized for roles that there are not."""
    domain_id = way.provider.domain_id
    if wanted.domain is not None and way.mapping.schema_version != "1.0":
        domain_id = _domain(tx, wanted.domain).id
    if not wanted.name.strip() or len(wanted.name) > 64:
        raise _refuse("the mapping makes a project whose name is empty or longer than 64 characters")
    db.lock(tx, f"project:{domain_id}:{wanted.name}")
    table = projects.project
    query = sa.select(table.c.id).where(table.c.name == wanted.name, table.c.domain_id == domain_id)
    project_id = tx.execute(query).scalar()
    if project_id is None:
        project_id = ids.hex32()
        values = {"id": project_id, "name": wanted.name, "domain_id": domain_id, "parent_id": domain_id}
        tx.execute(table.insert().values(**values, is_domain=False, enabled=True, options={}, extra={}))
    for name in dict.fromkeys(wanted.roles):
        known = sa.select(role.c.id).where(
            role.c.name == name, sa.or_(role.c.domain_id.is_(None), role.c.domain_id == domain_id)
        )
        role_id = tx.execute(known.order_by(role.c.domain_id.isnot(None))).scalars().first()
        if role_id is None:
            raise _refuse(f"the mapping gives role {name[:64]!r}, which there is not")
        key = {"actor": "user", "actor_id": user_id, "target": "project", "target_id": project_id}
        row = {**key, "role_id": role_id, "inherited": False}
        if tx.execute(sa.select(assignment.c.role_id).filter_by(**row)).first() is None:
            db.upsert(tx, assignment, row, {}, key=tuple(row))
            revision.bump(tx)
