"""Errors that carry one of placement's own codes (sent from microversion 1.23 on)."""

from typing import ClassVar

from stackling.base.errors import BadRequest, Conflict


class ConcurrentUpdate(Conflict):
    """Somebody else was faster: a generation does not fit, or the last of something is taken."""

    code: ClassVar[str] = "placement.concurrent_update"


class InventoryInUse(Conflict):
    code: ClassVar[str] = "placement.inventory.inuse"


class DuplicateName(Conflict):
    code: ClassVar[str] = "placement.duplicate_name"


class ProviderInUse(Conflict):
    code: ClassVar[str] = "placement.resource_provider.inuse"


class ProviderHasChildren(Conflict):
    code: ClassVar[str] = "placement.resource_provider.cannot_delete_parent"


class ProviderNotFound(BadRequest):
    """A body names a provider that does not exist."""

    code: ClassVar[str] = "placement.resource_provider.not_found"


class BadQuery(BadRequest):
    code: ClassVar[str] = "placement.query.bad_value"
