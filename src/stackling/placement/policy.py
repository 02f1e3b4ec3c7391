"""Rules of placement under their upstream names."""

from stackling.base.policy import Rule

_ADMIN = "role:admin or role:service"
_OWN = "role:admin or role:service or (role:reader and project_id:%(project_id)s)"


def _rule(name: str, says: str, check: str = _ADMIN) -> Rule:
    return Rule(f"placement:{name}", check, says)


RULES = (
    _rule("resource_providers:list", "List resource providers."),
    _rule("resource_providers:create", "Create a resource provider."),
    _rule("resource_providers:show", "Show a resource provider."),
    _rule("resource_providers:update", "Rename or move a resource provider."),
    _rule("resource_providers:delete", "Delete a resource provider."),
    _rule("resource_classes:list", "List resource classes."),
    _rule("resource_classes:create", "Create a resource class."),
    _rule("resource_classes:show", "Show a resource class."),
    _rule("resource_classes:update", "Create or rename a resource class."),
    _rule("resource_classes:delete", "Delete a resource class."),
    _rule("resource_providers:inventories:list", "List a provider's inventories."),
    _rule("resource_providers:inventories:create", "Add one inventory to a provider."),
    _rule("resource_providers:inventories:show", "Show one inventory."),
    _rule("resource_providers:inventories:update", "Change inventories."),
    _rule("resource_providers:inventories:delete", "Delete inventories."),
    _rule("resource_providers:aggregates:list", "List a provider's aggregates."),
    _rule("resource_providers:aggregates:update", "Replace a provider's aggregates."),
    _rule("resource_providers:usages", "Show a provider's usages."),
    _rule("usages", "Show a project's usages.", _OWN),
    _rule("traits:list", "List traits."),
    _rule("traits:show", "Show a trait."),
    _rule("traits:update", "Create a trait."),
    _rule("traits:delete", "Delete a trait."),
    _rule("resource_providers:traits:list", "List a provider's traits."),
    _rule("resource_providers:traits:update", "Replace a provider's traits."),
    _rule("resource_providers:traits:delete", "Remove a provider's traits."),
    _rule("allocations:list", "List a consumer's allocations."),
    _rule("allocations:update", "Replace a consumer's allocations."),
    _rule("allocations:manage", "Replace many consumers' allocations."),
    _rule("allocations:delete", "Delete a consumer's allocations."),
    _rule("resource_providers:allocations:list", "List a provider's allocations."),
    _rule("allocation_candidates:list", "List allocation candidates."),
    _rule("reshaper:reshape", "Move inventories and allocations between providers at once."),
)
