"""Containers: names of an account's under which objects are."""

from typing import Any

import msgspec
import sqlalchemy as sa

from stackling.base import db, ids
from stackling.base.cloud import Cloud
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, Conflict, NotFound, PreconditionFailed
from stackling.base.statement import Statement
from stackling.objectstore import store
from stackling.objectstore.actions import access, account, acl, listing, metadata
from stackling.objectstore.actions.access import Standing, Visitor
from stackling.objectstore.actions.listing import Window
from stackling.objectstore.state.account import State
from stackling.objectstore.state.account import account as accounts
from stackling.objectstore.state.container import container
from stackling.objectstore.state.object import object as objects

MOST_NAME = 256  # bytes

_WITH_ACCOUNT = sa.select(
    container, accounts.c.name.label("account"), accounts.c.headers.label("account_headers")
).join(accounts, accounts.c.id == container.c.account_id)
_FIND = Statement(
    _WITH_ACCOUNT.where(
        accounts.c.name == sa.bindparam("account_name"),
        accounts.c.state == State.ACTIVE,
        container.c.name == sa.bindparam("container_name"),
    )
)


def find(tx: Tx, account_name: str, name: str) -> Row | None:
    """A container with the name and the headers of its account."""
    return _FIND.first(tx, account_name=account_name, container_name=name)


def locked(tx: Tx, id: str) -> Row:
    """The container, which nobody else changes until the transaction ends. Raises NotFound: it was deleted."""
    query = _WITH_ACCOUNT.where(container.c.id == id).with_for_update(of=container)
    found = tx.execute(query).first()
    if found is None:
        raise NotFound("The resource could not be found.")
    return found


def look(
    tx: Tx, cloud: Cloud, visitor: Visitor, account_name: str, name: str, *, listing: bool = True
) -> tuple[Row, Standing]:
    """A container for those who may list it, or read its objects. Raises Unauthorized, Forbidden, NotFound."""
    found = find(tx, account_name, name)
    headers = found.headers if found is not None else None
    access.may_read(cloud, visitor, account_name, name, headers, listing=listing)
    if found is None:
        raise NotFound("The resource could not be found.")
    return found, access.standing(cloud, visitor, account_name)


def for_writing(tx: Tx, cloud: Cloud, visitor: Visitor, account_name: str, name: str) -> Row:
    """A container for those who may write its objects. Raises Unauthorized, Forbidden, NotFound."""
    found = find(tx, account_name, name)
    access.may_write(cloud, visitor, account_name, name, found.headers if found is not None else None)
    if found is None:
        raise NotFound("The resource could not be found.")
    return found


def put(
    tx: Tx,
    cloud: Cloud,
    visitor: Visitor,
    account_name: str,
    name: str,
    given: dict[str, str],
    policy: str | None,
) -> bool:
    """Make a container, or set metadata of one that is there; True: it is new.

    `policy` names its storage policy. Raises Unauthorized, Forbidden, BadRequest, Conflict (another policy).
    """
    access.need(cloud, visitor, account_name, Standing.OPERATOR)
    metadata.check_name("Container", name, MOST_NAME)
    stores = store.of(cloud)
    chosen = stores.called(policy) if policy else stores.default
    if chosen is None:
        raise BadRequest(f"Invalid X-Storage-Policy {policy!r}. There are: {', '.join(stores.names)}.")
    owner = account.made(tx, cloud, account_name)
    db.lock(tx, f"objectstore.container:{owner.id}:{name}")  # two that make it: one does, one finds it
    found = find(tx, account_name, name)
    if found is not None:
        if policy and found.policy != chosen:
            raise Conflict(f"The container has the storage policy {found.policy}, which can't be changed.")
        update(tx, cloud, visitor, account_name, name, given)
        return False
    now = cloud.clock.now()
    values, versions = _settings({}, given, None)
    tx.execute(
        container.insert().values(
            id=ids.uuid4(),
            account_id=owner.id,
            name=name,
            policy=chosen,
            headers=values,
            versions=versions,
            object_count=0,
            bytes_used=0,
            created_at=now,
            updated_at=now,
        )
    )
    return True


def update(
    tx: Tx, cloud: Cloud, visitor: Visitor, account_name: str, name: str, given: dict[str, str]
) -> None:
    """Set metadata, access lists and versioning; what is given empty goes."""
    access.need(cloud, visitor, account_name, Standing.OPERATOR)
    found = find(tx, account_name, name)
    if found is None:
        raise NotFound("The resource could not be found.")
    found = locked(tx, found.id)
    headers, versions = _settings(found.headers, given, found.versions)
    values: dict[str, Any] = {"headers": headers, "versions": versions, "updated_at": cloud.clock.now()}
    tx.execute(sa.update(container).where(container.c.id == found.id).values(**values))


_LOCATIONS = ("X-Versions-Location", "X-History-Location")


def _settings(
    had: dict[str, str], given: dict[str, str], versions: bool | None
) -> tuple[dict[str, str], bool | None]:
    """Headers and versioning of a container after `given`. Raises BadRequest."""
    given = dict(given)
    for name in ("X-Container-Read", "X-Container-Write"):
        if given.get(name):
            given[name] = acl.clean(name, given[name])
    for name, what in (("Bytes", "bytes"), ("Count", "count")):
        limit = given.get(f"X-Container-Meta-Quota-{name}")
        if limit and not limit.isdecimal():
            raise BadRequest(f"Invalid {what} quota.")
    locations = [name for name in _LOCATIONS if given.get(name)]
    if len(locations) > 1:
        raise BadRequest("Only one of X-Versions-Location or X-History-Location may be specified")
    if locations:  # one takes the other's place
        given |= {**dict.fromkeys(_LOCATIONS, ""), locations[0]: given[locations[0]]}
    enabled = given.pop("X-Versions-Enabled", "")
    made = metadata.merged("Container", had, given)
    if enabled:
        wanted = enabled.lower() in ("true", "1", "yes", "on", "t", "y")
        versions = True if wanted else (None if versions is None else False)
    if versions and any(name in made for name in _LOCATIONS):
        raise BadRequest(
            "Cannot enable object versioning in a container with X-Versions-Location or X-History-Location"
        )
    return made, versions


def contents(tx: Tx, container_id: str, window: Window, *, versions: bool = False) -> list[Row | str]:
    """A part of the list of a container's objects, or of all their versions."""
    query = sa.select(objects).where(objects.c.container_id == container_id)
    if versions:
        if window.version_marker == "null":
            null = query.where(objects.c.name == window.marker, ~objects.c.kept)
            found = tx.execute(null).first()
            window = msgspec.structs.replace(window, version_marker=found.version if found else None)
        return listing.walk(tx, query, objects.c.name, window, objects.c.version)
    query = query.where(objects.c.latest, ~objects.c.deleted)
    return listing.walk(tx, query, objects.c.name, window)


def delete(tx: Tx, cloud: Cloud, visitor: Visitor, account_name: str, name: str) -> None:
    """Delete an empty container. Raises Conflict when there is something in it, versions included."""
    access.need(cloud, visitor, account_name, Standing.OPERATOR)
    found = find(tx, account_name, name)
    if found is None:
        raise NotFound("The resource could not be found.")
    found = locked(tx, found.id)
    if found.object_count:
        raise Conflict("There was a conflict when trying to complete your request.")
    left = sa.select(objects.c.id).where(objects.c.container_id == found.id).limit(1)
    if tx.execute(left).first() is not None:
        raise Conflict("Delete all versions before deleting container.")
    tx.execute(sa.delete(container).where(container.c.id == found.id))


def versions_in(tx: Tx, cloud: Cloud, account_name: str, location: str) -> Row:
    """The container that `X-Versions-Location` names. Raises PreconditionFailed when it isn't there."""
    found = find(tx, account_name, location.split("/")[0])
    if found is None:
        raise PreconditionFailed(f"The container {location[:256]} that is to keep versions does not exist.")
    return found
