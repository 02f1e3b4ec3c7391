"""Traits and resource classes: the standard ones, and the CUSTOM_ ones that somebody made."""

import functools
import re
from collections.abc import Iterable

import os_resource_classes
import os_traits
import sqlalchemy as sa

from stackling.base import db
from stackling.base.cloud import Cloud
from stackling.base.db import Tx
from stackling.base.errors import BadRequest, Conflict, NotFound
from stackling.placement.state.inventory import inventory
from stackling.placement.state.provider import provider_trait
from stackling.placement.state.vocabulary import custom_class, custom_trait

_CUSTOM = re.compile(r"CUSTOM_[A-Z0-9_]{1,248}")


@functools.cache
def standard_traits() -> frozenset[str]:
    return frozenset(os_traits.get_traits())


@functools.cache
def standard_classes() -> tuple[str, ...]:
    return tuple(os_resource_classes.STANDARDS)


def is_custom(name: str) -> bool:
    """A name that a cloud may make up itself."""
    return bool(_CUSTOM.fullmatch(name))


def traits(tx: Tx) -> list[str]:
    return sorted(standard_traits()) + sorted(tx.execute(sa.select(custom_trait.c.name)).scalars())


def trait_exists(tx: Tx, name: str) -> bool:
    return (
        name in standard_traits()
        or tx.execute(sa.select(custom_trait.c.name).where(custom_trait.c.name == name)).first() is not None
    )


def check_traits(tx: Tx, names: Iterable[str]) -> None:
    """Raises BadRequest naming the traits that do not exist."""
    wanted = set(names) - standard_traits()
    if wanted:
        known = set(
            tx.execute(sa.select(custom_trait.c.name).where(custom_trait.c.name.in_(wanted))).scalars()
        )
        if missing := sorted(wanted - known):
            raise BadRequest(f"No such trait(s): {', '.join(missing)}.")


def make_trait(tx: Tx, cloud: Cloud, name: str) -> bool:
    """The custom trait exists. True when it is new. Raises BadRequest for a name that is not CUSTOM_…"""
    if not is_custom(name):
        raise BadRequest(
            f"The trait is invalid. A valid trait must be no longer than 255 characters, start with the prefix "
            f'"CUSTOM_" and use following characters: "A"-"Z", "0"-"9" and "_": {name[:64]!r}'
        )
    if trait_exists(tx, name):
        return False
    db.upsert(tx, custom_trait, {"name": name, "created_at": cloud.clock.now()}, {}, key=("name",))
    return True


def remove_trait(tx: Tx, name: str) -> None:
    """Raises NotFound, BadRequest for a standard trait, Conflict while a provider has it."""
    if not trait_exists(tx, name):
        raise NotFound(f"No such trait(s): {name}.")
    if name in standard_traits():
        raise BadRequest(f"Cannot delete standard trait {name}.")
    if tx.execute(sa.select(provider_trait.c.provider_id).where(provider_trait.c.trait == name)).first():
        raise Conflict(f"The trait {name} is in use by a resource provider.")
    tx.execute(sa.delete(custom_trait).where(custom_trait.c.name == name))


def classes(tx: Tx) -> list[str]:
    return [*standard_classes(), *sorted(tx.execute(sa.select(custom_class.c.name)).scalars())]


def class_exists(tx: Tx, name: str) -> bool:
    return (
        name in standard_classes()
        or tx.execute(sa.select(custom_class.c.name).where(custom_class.c.name == name)).first() is not None
    )


def check_classes(tx: Tx, names: Iterable[str]) -> None:
    """Raises BadRequest naming a resource class that does not exist."""
    wanted = set(names) - set(standard_classes())
    if wanted:
        known = set(
            tx.execute(sa.select(custom_class.c.name).where(custom_class.c.name.in_(wanted))).scalars()
        )
        if missing := sorted(wanted - known):
            raise BadRequest(f"Unknown resource class: {', '.join(missing)}")


def make_class(tx: Tx, cloud: Cloud, name: str) -> bool:
    """The custom resource class exists. True when it is new. Raises BadRequest for a name that is not CUSTOM_…"""
    if not is_custom(name):
        raise BadRequest(
            f"Resource class name {name[:64]!r} must start with CUSTOM_ and use A-Z, 0-9 and _ only."
        )
    if class_exists(tx, name):
        return False
    db.upsert(tx, custom_class, {"name": name, "created_at": cloud.clock.now()}, {}, key=("name",))
    return True


def remove_class(tx: Tx, name: str) -> None:
    """Raises NotFound, BadRequest for a standard class, Conflict while there is inventory of it."""
    if not class_exists(tx, name):
        raise NotFound(f"No such resource class: {name}")
    if name in standard_classes():
        raise BadRequest(f"Error in delete resource class: cannot delete standard resource class {name}.")
    if tx.execute(sa.select(inventory.c.provider_id).where(inventory.c.resource_class == name)).first():
        raise Conflict(f"Error in delete resource class: {name} is used in inventory.")
    tx.execute(sa.delete(custom_class).where(custom_class.c.name == name))
