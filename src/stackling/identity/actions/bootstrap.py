"""What identity has from its first start: default domain, roles, projects, the administrator, and the catalog."""

import os
import secrets
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from stackling.base import db, ids, jobs
from stackling.base.audit import Act
from stackling.base.cloud import Cloud
from stackling.base.db import Tx
from stackling.base.errors import NotFound
from stackling.identity.actions import directory, keys, limit, password, secret
from stackling.identity.state import project as projects
from stackling.identity.state import revision
from stackling.identity.state import user as users
from stackling.identity.state.catalog import endpoint, region, service
from stackling.identity.state.role import SYSTEM, assignment, implied_role, role

DEFAULT_DOMAIN = "default"
ROLES = (
    "admin",
    "manager",
    "member",
    "reader",
    "service",
    "ResellerAdmin",  # who may manage every account of object storage
)
_IMPLIES = (("admin", "manager"), ("manager", "member"), ("member", "reader"))
# Block storage is found under its old name by old clients and under its standard one by new ones.
_SERVICES = (
    ("identity", "keystone", "/identity"),
    ("placement", "placement", "/placement"),
    ("image", "glance", "/image"),
    ("network", "neutron", "/network"),
    ("volumev3", "cinderv3", "/volume/v3"),
    ("block-storage", "cinder", "/volume/v3"),
    ("compute", "nova", "/compute/v2.1"),
    ("object-store", "swift", "/object-store/v1/AUTH_%(project_id)s"),
)
INTERFACES = ("public", "internal", "admin")


def bootstrap(tx: Tx, cloud: Cloud) -> None:
    """Make what is missing. What an administrator changed stays as it is, except that the catalog follows the URL."""
    for name in (keys.TOKENS, keys.CREDENTIALS, keys.RECEIPTS):
        keys.repository(cloud, name).setup(cloud.clock.now())
    if cloud.config.identity.token_provider == "jws":
        keys.signatures(cloud).setup(cloud.clock.now())
    jobs.ensure(tx, "identity.housekeeping", "all", now=cloud.clock.now())
    db.lock(tx, "identity.bootstrap")
    limit.check_trees(tx, cloud)
    changed = _domain(tx)
    made = _roles(tx)
    changed = _projects_and_admin(tx, cloud, made) or changed
    changed = _catalog(tx, cloud) or changed
    if changed or not revision.read(tx):
        revision.bump(tx)
    directory.prepare(tx, cloud)


def _domain(tx: Tx) -> bool:
    if projects.find(tx, DEFAULT_DOMAIN):
        return False
    tx.execute(
        projects.project.insert().values(
            id=DEFAULT_DOMAIN,
            name="Default",
            is_domain=True,
            enabled=True,
            description="The default domain",
            options={},
            extra={},
        )
    )
    return True


def _roles(tx: Tx) -> dict[str, str]:
    """The ids of the cloud's roles by name."""
    have = {r.name: r.id for r in tx.execute(sa.select(role).where(role.c.domain_id.is_(None)))}
    for name in ROLES:
        if name not in have:
            have[name] = ids.hex32()
            tx.execute(role.insert().values(id=have[name], name=name, options={"immutable": True}, extra={}))
            for prior, implied in _IMPLIES:
                if implied == name and prior in have:
                    tx.execute(
                        implied_role.insert().values(prior_role_id=have[prior], implied_role_id=have[name])
                    )
    return have


def _projects_and_admin(tx: Tx, cloud: Cloud, roles: dict[str, str]) -> bool:
    changed = False
    made = {}
    for name, says in (("admin", "The administrators' project"), ("service", "The services' project")):
        table = projects.project
        query = sa.select(table.c.id).where(table.c.name == name, table.c.domain_id == DEFAULT_DOMAIN)
        made[name] = tx.execute(query).scalar() or ""
        if not made[name]:
            changed = True
            made[name] = ids.hex32()
            tx.execute(
                table.insert().values(
                    id=made[name],
                    name=name,
                    domain_id=DEFAULT_DOMAIN,
                    parent_id=DEFAULT_DOMAIN,
                    is_domain=False,
                    enabled=True,
                    description=says,
                    options={},
                    extra={},
                )
            )
    name = cloud.config.identity.admin_name
    if users.find_by_name(tx, name, DEFAULT_DOMAIN):
        return changed
    now = cloud.clock.now()
    user_id = ids.hex32()
    tx.execute(
        users.user.insert().values(
            id=user_id,
            name=name,
            domain_id=DEFAULT_DOMAIN,
            enabled=True,
            options={"ignore_lockout_failure_attempts": True},
            extra={},
            generation=0,
            created_at=now,
        )
    )
    digest = secret.digest(cloud, admin_password(cloud))
    tx.execute(
        users.password.insert().values(user_id=user_id, hash=digest, created_at=now, self_service=False)
    )
    _make_admin(tx, user_id, made["admin"], roles["admin"])
    return True


def restore(cloud: Cloud, new_password: str | None = None) -> None:
    """Let the administrator in again: enabled, with the role admin, and with `new_password` if there is one.

    A new password is kept in the file that `admin_password` reads, ends the tokens so far, and makes forget what
    keeps him out besides: failed logins, second factors, an end of the password.
    """
    table = users.user
    digest = secret.digest(cloud, new_password) if new_password is not None else ""
    with cloud.db.begin() as tx:
        bootstrap(tx, cloud)
        admin = users.find_by_name(tx, cloud.config.identity.admin_name, DEFAULT_DOMAIN)
        if admin is None:
            raise NotFound(f"Could not find user: {cloud.config.identity.admin_name}.")
        domain = projects.project.c.id == DEFAULT_DOMAIN
        tx.execute(sa.update(projects.project).where(domain).values(enabled=True))
        values: dict[str, Any] = {"enabled": True}
        if new_password is not None:
            options = {k: v for k, v in admin.options.items() if not k.startswith("multi_factor_auth")}
            values |= {"options": options, "failed_logins": 0, "failed_at": None}
        tx.execute(sa.update(table).where(table.c.id == admin.id).values(**values))
        project_id = _admin_project(tx)
        _make_admin(tx, admin.id, project_id, _roles(tx)["admin"])
        if new_password is not None:
            lasting = {"ignore_password_expiry": True, "ignore_change_password_upon_first_use": True}
            password.put(tx, cloud, admin.id, digest, by_user=False, options=lasting)
        revision.bump(tx)
        act = Act(
            action="update/bootstrap",
            service="identity",
            target_type="data/security/account/user",
            target_id=admin.id,
        )
        cloud.audit.record(tx, act)
    if new_password is not None:
        _keep_password(cloud, new_password)


def _admin_project(tx: Tx) -> str:
    table = projects.project
    here = (table.c.name == "admin", table.c.domain_id == DEFAULT_DOMAIN)
    tx.execute(sa.update(table).where(*here).values(enabled=True))
    return str(tx.execute(sa.select(table.c.id).where(*here)).scalar_one())


def _make_admin(tx: Tx, user_id: str, project_id: str, role_id: str) -> None:
    """The role admin on the administrators' project and on the system."""
    for kind, target_id in (("project", project_id), (SYSTEM, SYSTEM)):
        values = {
            "actor": "user",
            "actor_id": user_id,
            "target": kind,
            "target_id": target_id,
            "role_id": role_id,
            "inherited": False,
        }
        db.upsert(tx, assignment, values, {}, key=[c.name for c in assignment.primary_key])


def _password_file(cloud: Cloud) -> Path:
    return Path(cloud.config.paths.config_dir) / "admin-password"


def _keep_password(cloud: Cloud, word: str) -> None:
    path = _password_file(cloud)
    fresh = path.with_name(f".{path.name}.new")
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as f:
        f.write(word + "\n")
    fresh.replace(path)


def admin_password(cloud: Cloud) -> str:
    """The password in the file that the administrator finds it in; the file is made with a random one at first."""
    path = _password_file(cloud)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        found = path.read_text().strip()
        if found:
            return found
        handle = os.open(path, os.O_WRONLY | os.O_TRUNC)
    made = secrets.token_urlsafe(18)
    with open(handle, "w") as f:
        f.write(made + "\n")
    return made


def _catalog(tx: Tx, cloud: Cloud) -> bool:
    """Every service with its endpoints, at the URL that the configuration gives now."""
    base = cloud.config.base_url
    here = cloud.config.identity.region
    changed = False
    if tx.execute(sa.select(region.c.id).where(region.c.id == here)).first() is None:
        tx.execute(region.insert().values(id=here, description="", extra={}))
        changed = True
    for kind, name, path in _SERVICES:
        found = (
            tx.execute(
                sa.select(service.c.id)
                .join(endpoint, endpoint.c.service_id == service.c.id)
                .where(service.c.type == kind, endpoint.c.path.isnot(None))
            ).scalar()
            or tx.execute(sa.select(service.c.id).where(service.c.type == kind)).scalar()
        )
        if found is None:
            found = ids.hex32()
            tx.execute(service.insert().values(id=found, type=kind, name=name, enabled=True, extra={}))
            for interface in INTERFACES:
                tx.execute(
                    endpoint.insert().values(
                        id=ids.hex32(),
                        service_id=found,
                        interface=interface,
                        region_id=here,
                        url=base + path,
                        path=path,
                        enabled=True,
                        extra={},
                    )
                )
            changed = True
    for row in tx.execute(
        sa.select(endpoint.c.id, endpoint.c.url, endpoint.c.path).where(endpoint.c.path.isnot(None))
    ).all():
        if row.url != base + row.path:
            tx.execute(sa.update(endpoint).where(endpoint.c.id == row.id).values(url=base + row.path))
            changed = True
    return changed
