"""Projects and domains: what things belong to."""

from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa

from stackling.base import db, ids
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, Forbidden, NotFound
from stackling.identity.actions import limit, named
from stackling.identity.actions import user as user_actions
from stackling.identity.actions.federated_user import forget_shadows
from stackling.identity.actions.permission import can, may, target
from stackling.identity.state import credential, grants, revision
from stackling.identity.state import project as projects
from stackling.identity.state.federation import identity_provider
from stackling.identity.state.project import project, project_tag
from stackling.identity.state.role import assignment, role
from stackling.identity.state.user import group, user

OPTIONS: dict[str, type] = {"immutable": bool}
DEEPEST = 5  # projects in a row, as upstream's max_project_tree_depth
MOST_TAGS = 80


class NewProject(msgspec.Struct, kw_only=True):
    name: str
    domain_id: str | None = None
    parent_id: str | None = None
    is_domain: bool = False
    enabled: bool = True
    description: str = ""
    options: dict[str, Any] = {}
    tags: list[str] = []
    extra: dict[str, Any] = {}
    id: str | None = None


def exists(tx: Tx, project_id: str) -> bool:
    """Whether there is such a project (with or without dashes, as other services take ids)."""
    query = sa.select(project.c.id).where(project.c.id.in_([project_id, project_id.replace("-", "")]))
    return tx.execute(query).first() is not None


def by_name(tx: Tx, name: str) -> str:
    """The id of the default domain's project of that name. Raises NotFound."""
    query = sa.select(project.c.id).where(
        project.c.name == name, project.c.domain_id == "default", project.c.is_domain.is_(False)
    )
    found = tx.execute(query).scalar()
    if found is None:
        raise NotFound(f"Could not find project: {name}.")
    return str(found)


def create(tx: Tx, cloud: Cloud, caller: Caller, want: NewProject) -> Row:
    """Raises Conflict when the name is taken, BadRequest when there is no such domain or parent, or they don't fit."""
    if want.is_domain:
        if want.domain_id or want.parent_id:
            raise BadRequest(
                "Only root projects are allowed to act as domains: neither domain_id nor parent_id may be given."
            )
        return create_domain(tx, cloud, caller, want)
    domain_id = want.domain_id or (None if want.parent_id else user_actions.home_domain(caller))
    parent = projects.find(tx, want.parent_id) if want.parent_id else None
    if parent is not None and domain_id is None:
        domain_id = parent.id if parent.is_domain else parent.domain_id
    may(caller, "create_project", target(project={"domain_id": domain_id, "parent_id": want.parent_id}))
    if want.parent_id and parent is None:
        raise BadRequest(f"Could not find project: {want.parent_id[:64]}.")
    domain = projects.find_domain(tx, domain_id or "")
    if domain is None:
        raise BadRequest(f"Could not find domain: {str(domain_id)[:64]}.")
    parent = parent if parent is not None else domain
    if (parent.id if parent.is_domain else parent.domain_id) != domain.id:
        raise BadRequest("Cannot create project, the parent and the project are in different domains.")
    if not domain.enabled or not parent.enabled:
        raise BadRequest(f"Cannot create project in a branch containing a disabled project: {parent.id}.")
    deepest = limit.deepest(cloud) or DEEPEST + 1
    if not parent.is_domain and len(projects.ancestors(tx, parent.id)) + 2 > deepest:
        raise Forbidden(f"Max hierarchy depth reached for {parent.id} branch.")
    taken = sa.select(project.c.id).where(project.c.domain_id == domain.id, project.c.name == want.name)
    named.free(
        tx,
        taken,
        f"Conflict occurred attempting to store project - it is not permitted to have two projects with the same name in the same domain : {want.name}.",
    )
    row = _insert(tx, want, ids.hex32(), domain.id, parent.id)
    _put_tags(tx, row.id, want.tags)
    return row


def create_domain(tx: Tx, cloud: Cloud, caller: Caller, want: NewProject) -> Row:
    may(caller, "create_domain")
    taken = sa.select(project.c.id).where(project.c.is_domain.is_(True), project.c.name == want.name)
    named.free(
        tx,
        taken,
        f"Conflict occurred attempting to store domain - Duplicate entry found with name {want.name}.",
    )
    if want.id is not None:
        if not ids.is_uuid(want.id) or len(want.id) != 32:
            raise BadRequest("Invalid input for field/attribute explicit_domain_id: it is not 32 hex digits.")
        named.free(
            tx,
            sa.select(project.c.id).where(project.c.id == want.id),
            f"Conflict occurred attempting to store domain - Duplicate entry found with ID {want.id}.",
        )
    row = _insert(tx, want, want.id or ids.hex32(), None, None)
    _put_tags(tx, row.id, want.tags)
    return row


def _insert(tx: Tx, want: NewProject, id: str, domain_id: str | None, parent_id: str | None) -> Row:
    return tx.execute(
        project.insert()
        .values(
            id=id,
            name=want.name,
            domain_id=domain_id,
            parent_id=parent_id,
            is_domain=domain_id is None,
            enabled=want.enabled,
            description=want.description,
            options=named.options(OPTIONS, want.options),
            extra=want.extra,
        )
        .returning(project)
    ).one()


def get(tx: Tx, caller: Caller, project_id: str, rule: str = "get_project") -> Row:
    row = projects.find(tx, project_id)
    may(caller, rule, target(project=row if row is not None else {"id": project_id}))
    if row is None:
        raise NotFound(f"Could not find project: {project_id[:64]}.")
    return row


def get_domain(tx: Tx, caller: Caller, domain_id: str, rule: str = "get_domain") -> Row:
    row = projects.find_domain(tx, domain_id)
    if row is None and rule == "update_domain":  # upstream looks before it asks policy, here only
        raise NotFound(f"Could not find domain: {domain_id[:64]}.")
    may(caller, rule, target(domain=row if row is not None else {"id": domain_id}))
    if row is None:
        raise NotFound(f"Could not find domain: {domain_id[:64]}.")
    return row


def listing(tx: Tx, caller: Caller, domain_id: str | None) -> sa.Select[Any]:
    """The projects that a list shows, before its filters."""
    domain_id = domain_id or caller.domain_id
    may(caller, "list_projects", {"target.domain_id": domain_id} if domain_id else {})
    query = sa.select(project)
    if domain_id:
        query = query.where(project.c.domain_id == domain_id)
    return query


def domain_listing(tx: Tx, caller: Caller) -> sa.Select[Any]:
    query = sa.select(project).where(project.c.is_domain.is_(True))
    if can(caller, "list_domains") and not caller.domain_id:
        return query
    # Whoever comes with a token of a domain sees that one.
    may(caller, "list_domains", {"target.domain.id": caller.domain_id} if caller.domain_id else {})
    return query.where(project.c.id == caller.domain_id)


def update(tx: Tx, cloud: Cloud, caller: Caller, project_id: str, change: dict[str, Any]) -> Row:
    row = get(tx, caller, project_id, "update_project")
    values = dict(change)
    tags = values.pop("tags", None)
    named.mutable("project", row, change)
    if values.pop("domain_id", row.domain_id) != row.domain_id:
        raise BadRequest("Cannot change Domain ID")
    if values.pop("parent_id", row.parent_id) != row.parent_id:
        raise Forbidden("Update of `parent_id` is not allowed.")
    if values.pop("is_domain", row.is_domain) != row.is_domain:
        raise BadRequest("Update of `is_domain` is not allowed.")
    if "name" in values and values["name"] != row.name:
        scope = project.c.is_domain.is_(True) if row.is_domain else project.c.domain_id == row.domain_id
        taken = sa.select(project.c.id).where(scope, project.c.name == values["name"])
        named.free(
            tx,
            taken,
            f"Conflict occurred attempting to store project - it is not permitted to have two projects with the same name in the same domain : {values['name']}.",
        )
    off = values.get("enabled") is False and row.enabled and not row.is_domain
    if off and any(p.enabled for p in projects.descendants(tx, row.id)):
        raise Forbidden(f"Cannot disable project {row.id} since its subtree contains enabled projects.")
    if (
        values.get("enabled")
        and not row.enabled
        and any(not p.enabled for p in projects.ancestors(tx, row.id))
    ):
        raise Forbidden(f"Cannot enable project {row.id} since it has disabled parents.")
    _write(tx, row, values)
    if tags is not None:
        _put_tags(tx, row.id, tags)
    return projects.find(tx, row.id) or row


def update_domain(tx: Tx, cloud: Cloud, caller: Caller, domain_id: str, change: dict[str, Any]) -> Row:
    row = get_domain(tx, caller, domain_id, "update_domain")
    values = dict(change)
    tags = values.pop("tags", None)
    named.mutable("domain", row, change)
    if "name" in values and values["name"] != row.name:
        taken = sa.select(project.c.id).where(project.c.is_domain.is_(True), project.c.name == values["name"])
        named.free(
            tx,
            taken,
            f"Conflict occurred attempting to store domain - Duplicate entry found with name {values['name']}.",
        )
    _write(tx, row, values)
    if tags is not None:
        _put_tags(tx, row.id, tags)
    return projects.find(tx, row.id) or row


def _write(tx: Tx, row: Row, values: dict[str, Any]) -> None:
    if "options" in values:
        values["options"] = named.options(OPTIONS, values["options"], row.options)
    if "extra" in values:
        values["extra"] = {k: v for k, v in {**row.extra, **values["extra"]}.items() if v is not None}
    if values:
        tx.execute(sa.update(project).where(project.c.id == row.id).values(**values))
    revision.bump(tx)


def delete(tx: Tx, cloud: Cloud, caller: Caller, project_id: str) -> None:
    row = get(tx, caller, project_id, "delete_project")
    named.mutable("project", row)
    if row.is_domain and row.enabled:
        raise Forbidden(
            f"cannot delete an enabled project acting as a domain. Please disable the project {row.id} first."
        )
    if projects.descendants(tx, row.id):
        raise Forbidden(
            f"Cannot delete the project {row.id} since it is not a leaf in the hierarchy. Delete its subtree first."
        )
    forget(tx, row.id)


def delete_domain(tx: Tx, cloud: Cloud, caller: Caller, domain_id: str) -> None:
    """Take a disabled domain away, with its users, groups, roles and projects."""
    row = get_domain(tx, caller, domain_id, "delete_domain")
    named.mutable("domain", row)
    if row.id == "default":
        raise Forbidden("The default domain can't be deleted.")
    if row.enabled:
        raise Forbidden("Cannot delete a domain that is enabled, please disable it first.")
    for user_id in tx.execute(sa.select(user.c.id).where(user.c.domain_id == row.id)).scalars().all():
        user_actions.forget(tx, user_id)
    groups = sa.select(group.c.id).where(group.c.domain_id == row.id)
    tx.execute(sa.delete(assignment).where(assignment.c.actor == "group", assignment.c.actor_id.in_(groups)))
    tx.execute(sa.delete(group).where(group.c.domain_id == row.id))
    tx.execute(sa.delete(role).where(role.c.domain_id == row.id))
    mine = sa.select(identity_provider.c.id).where(identity_provider.c.domain_id == row.id)
    for idp_id in tx.execute(mine).scalars().all():
        forget_shadows(tx, idp_id)
    tx.execute(sa.delete(identity_provider).where(identity_provider.c.domain_id == row.id))
    for below in reversed(projects.descendants(tx, row.id)):
        forget(tx, below.id)
    forget(tx, row.id)


def forget(tx: Tx, project_id: str) -> None:
    """The project goes, with what identity keeps of it. Those below it must be gone."""
    tx.execute(sa.delete(assignment).where(assignment.c.target_id == project_id))
    tx.execute(sa.delete(credential.credential).where(credential.credential.c.project_id == project_id))
    tx.execute(sa.delete(credential.trust).where(credential.trust.c.project_id == project_id))
    user_actions.forget_application_credentials(
        tx, credential.application_credential.c.project_id == project_id
    )
    tx.execute(sa.update(user).where(user.c.default_project_id == project_id).values(default_project_id=None))
    tx.execute(sa.delete(project).where(project.c.id == project_id))
    revision.bump(tx)


# -- what a user can reach ---------------------------------------------------------------------------------------------


def of_user(tx: Tx, user_id: str, now: datetime | None = None) -> sa.Select[Any]:
    """The enabled projects on which a user has a role, by whatever way."""
    mine = sa.select(assignment).where(grants.actors(user_id, now)).subquery()
    direct = sa.select(mine.c.target_id).where(mine.c.target == "project", mine.c.inherited.is_(False))
    by_domain = sa.select(mine.c.target_id).where(mine.c.target == "domain", mine.c.inherited.is_(True))
    below: list[str] = []
    heirs = sa.select(mine.c.target_id).where(mine.c.target == "project", mine.c.inherited.is_(True))
    for parent_id in tx.execute(heirs).scalars().all():
        below += [p.id for p in projects.descendants(tx, parent_id)]
    return sa.select(project).where(
        project.c.is_domain.is_(False),
        sa.or_(project.c.id.in_(direct), project.c.domain_id.in_(by_domain), project.c.id.in_(below)),
    )


def domains_of_user(tx: Tx, user_id: str, now: datetime | None = None) -> sa.Select[Any]:
    """The enabled domains on which a user has a role."""
    mine = sa.select(assignment.c.target_id).where(
        grants.actors(user_id, now), assignment.c.target == "domain", assignment.c.inherited.is_(False)
    )
    return sa.select(project).where(
        project.c.is_domain.is_(True), project.c.enabled.is_(True), project.c.id.in_(mine)
    )


# -- tags --------------------------------------------------------------------------------------------------------------


def check_tag(name: str) -> None:
    if not 1 <= len(name) <= 255 or "/" in name or "," in name:
        raise BadRequest(
            "Invalid input for field/attribute tags: a tag has 1 to 255 characters, and no comma or slash."
        )


def _put_tags(tx: Tx, project_id: str, names: list[str]) -> None:
    if len(names) > MOST_TAGS or len(set(names)) != len(names):
        raise BadRequest(
            f"Invalid input for field/attribute tags: at most {MOST_TAGS} different ones are allowed."
        )
    for name in names:
        check_tag(name)
    tx.execute(sa.delete(project_tag).where(project_tag.c.project_id == project_id))
    if names:
        tx.execute(project_tag.insert(), [{"project_id": project_id, "name": n} for n in names])


def put_tags(tx: Tx, caller: Caller, project_id: str, names: list[str]) -> list[str]:
    row = get(tx, caller, project_id, "update_project_tags")
    named.mutable("project", row, {"tags": names})
    _put_tags(tx, row.id, names)
    return sorted(names)


def add_tag(tx: Tx, caller: Caller, project_id: str, name: str) -> None:
    row = get(tx, caller, project_id, "create_project_tag")
    named.mutable("project", row, {"tags": [name]})
    check_tag(name)
    have = projects.tags(tx, [row.id])[row.id]
    if name not in have and len(have) >= MOST_TAGS:
        raise BadRequest(f"Invalid input for field/attribute tags: at most {MOST_TAGS} are allowed.")
    db.upsert(tx, project_tag, {"project_id": row.id, "name": name}, {}, key=("project_id", "name"))


def remove_tags(tx: Tx, caller: Caller, project_id: str, name: str | None = None) -> None:
    row = get(tx, caller, project_id, "delete_project_tags" if name is None else "delete_project_tag")
    named.mutable("project", row, {"tags": []})
    query = sa.delete(project_tag).where(project_tag.c.project_id == row.id)
    if name is None:
        tx.execute(query)
    elif not tx.execute(query.where(project_tag.c.name == name)).rowcount:
        raise NotFound(f"Could not find project tag: {name[:64]}.")
