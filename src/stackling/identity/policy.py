"""Identity's rules under their upstream names, with upstream's defaults.

Admins may all; readers of the system read all; readers of a domain read what belongs to it, and its managers keep its
users, groups, projects and the roles manager, member and reader on them. Whoever is named by a target (`owner`) may do
what concerns himself.
"""

from collections.abc import Iterable

from stackling.base.policy import Rule

_ANY = ("system", "domain", "project")
_ADMIN = "rule:admin_required"
_SYSTEM_READER = f"{_ADMIN} or (role:reader and system_scope:all)"
_OWNER = "user_id:%(target.user.id)s"


def _domain(role: str, *keys: str) -> str:
    """`role` on the domain that one of the target's `keys` names."""
    return " or ".join(f"(role:{role} and domain_id:%({key})s)" for key in keys)


def _crud(singular: str, plural: str, read: str, write: str) -> Iterable[tuple[str, str]]:
    yield f"get_{singular}", read
    yield f"list_{plural}", read
    for verb in ("create", "update", "delete"):
        yield f"{verb}_{singular}", write


# A domain manager may hand out only the roles that give no more than his own.
_MANAGED_ROLE = (
    "('manager':%(target.role.name)s or 'member':%(target.role.name)s or 'reader':%(target.role.name)s)"
)
_GRANT_TARGETS = ("target.project.domain_id", "target.domain.id")
_GRANT_ACTORS = ("target.user.domain_id", "target.group.domain_id")
_GRANT = (
    f"{_ADMIN} or (role:manager and {_MANAGED_ROLE} and ("
    + " or ".join(
        f"(domain_id:%({actor})s and domain_id:%({target})s)"
        for actor in _GRANT_ACTORS
        for target in _GRANT_TARGETS
    )
    + "))"
)
_GRANT_READERS = " or ".join(
    f"(role:reader and domain_id:%({actor})s and domain_id:%({target})s)"
    for actor in _GRANT_ACTORS
    for target in _GRANT_TARGETS
)
_GRANT_READ = f"{_SYSTEM_READER} or {_GRANT_READERS}"
# The role is one of the reader's own domain or of the whole cloud.
_GRANT_CHECK = (
    f"{_SYSTEM_READER} or (({_GRANT_READERS}) and"
    " (domain_id:%(target.role.domain_id)s or None:%(target.role.domain_id)s))"
)

_CREDENTIAL_OWNER = "user_id:%(target.credential.user_id)s"
_TRUSTOR = "user_id:%(target.trust.trustor_user_id)s"
_TRUSTEE = "user_id:%(target.trust.trustee_user_id)s"

_CHECKS: list[tuple[str, str]] = [
    ("authorize_request_token", _ADMIN),
    ("list_access_tokens", _ADMIN),
    ("get_access_token", _ADMIN),
    ("delete_access_token", _ADMIN),
    ("get_access_token_role", _ADMIN),
    ("list_access_token_roles", _ADMIN),
    ("get_application_credential", f"{_SYSTEM_READER} or {_OWNER}"),
    ("list_application_credentials", f"{_SYSTEM_READER} or {_OWNER}"),
    ("create_application_credential", _OWNER),
    ("delete_application_credential", f"{_ADMIN} or {_OWNER}"),
    ("get_access_rule", f"(role:reader and system_scope:all) or {_OWNER}"),
    ("list_access_rules", f"(role:reader and system_scope:all) or {_OWNER}"),
    ("delete_access_rule", f"(role:admin and system_scope:all) or {_OWNER}"),
    ("get_auth_catalog", ""),
    ("get_auth_projects", ""),
    ("get_auth_domains", ""),
    ("get_auth_system", ""),
    *_crud("consumer", "consumers", _SYSTEM_READER, _ADMIN),
    ("get_credential", f"{_SYSTEM_READER} or {_CREDENTIAL_OWNER}"),
    ("list_credentials", f"{_SYSTEM_READER} or {_CREDENTIAL_OWNER}"),
    ("create_credential", f"{_ADMIN} or {_CREDENTIAL_OWNER}"),
    ("update_credential", f"{_ADMIN} or {_CREDENTIAL_OWNER}"),
    ("delete_credential", f"{_ADMIN} or {_CREDENTIAL_OWNER}"),
    (
        "get_domain",
        f"{_SYSTEM_READER} or {_domain('reader', 'target.domain.id')} or token.domain.id:%(target.domain.id)s"
        " or project_domain_id:%(target.domain.id)s",
    ),
    ("list_domains", f"{_SYSTEM_READER} or {_domain('reader', 'target.domain.id')}"),
    ("create_domain", _ADMIN),
    ("update_domain", _ADMIN),
    ("delete_domain", _ADMIN),
    ("create_domain_config", _ADMIN),
    ("get_domain_config", _SYSTEM_READER),
    ("get_security_compliance_domain_config", ""),
    ("update_domain_config", _ADMIN),
    ("delete_domain_config", _ADMIN),
    ("get_domain_config_default", _SYSTEM_READER),
    ("ec2_get_credential", f"{_SYSTEM_READER} or {_CREDENTIAL_OWNER}"),
    ("ec2_list_credentials", f"{_SYSTEM_READER} or {_OWNER}"),
    ("ec2_create_credential", f"{_ADMIN} or (role:member and {_OWNER})"),
    ("ec2_delete_credential", f"{_ADMIN} or {_CREDENTIAL_OWNER}"),
    *_crud("endpoint", "endpoints", _SYSTEM_READER, _ADMIN),
    *_crud("endpoint_group", "endpoint_groups", _SYSTEM_READER, _ADMIN),
    ("list_projects_associated_with_endpoint_group", _SYSTEM_READER),
    ("list_endpoints_associated_with_endpoint_group", _SYSTEM_READER),
    ("get_endpoint_group_in_project", _SYSTEM_READER),
    ("list_endpoint_groups_for_project", _SYSTEM_READER),
    ("add_endpoint_group_to_project", _ADMIN),
    ("remove_endpoint_group_from_project", _ADMIN),
    ("check_grant", _GRANT_CHECK),
    ("list_grants", _GRANT_READ),
    ("create_grant", _GRANT),
    ("revoke_grant", _GRANT),
    ("list_system_grants_for_user", _SYSTEM_READER),
    ("check_system_grant_for_user", _SYSTEM_READER),
    ("create_system_grant_for_user", _ADMIN),
    ("revoke_system_grant_for_user", _ADMIN),
    ("list_system_grants_for_group", _SYSTEM_READER),
    ("check_system_grant_for_group", _SYSTEM_READER),
    ("create_system_grant_for_group", _ADMIN),
    ("revoke_system_grant_for_group", _ADMIN),
    ("get_group", f"{_SYSTEM_READER} or {_domain('reader', 'target.group.domain_id')}"),
    ("list_groups", f"{_SYSTEM_READER} or {_domain('reader', 'target.group.domain_id')}"),
    ("list_groups_for_user", f"{_SYSTEM_READER} or {_domain('reader', 'target.user.domain_id')} or {_OWNER}"),
    ("create_group", f"{_ADMIN} or {_domain('manager', 'target.group.domain_id')}"),
    ("update_group", f"{_ADMIN} or {_domain('manager', 'target.group.domain_id')}"),
    ("delete_group", f"{_ADMIN} or {_domain('manager', 'target.group.domain_id')}"),
    ("list_users_in_group", f"{_SYSTEM_READER} or {_domain('reader', 'target.group.domain_id')}"),
    *(
        (
            name,
            f"{base} or (role:{role} and domain_id:%(target.group.domain_id)s and domain_id:%(target.user.domain_id)s)",
        )
        for name, base, role in (
            ("check_user_in_group", _SYSTEM_READER, "reader"),
            ("add_user_to_group", _ADMIN, "manager"),
            ("remove_user_from_group", _ADMIN, "manager"),
        )
    ),
    *_crud("identity_provider", "identity_providers", _SYSTEM_READER, _ADMIN),
    ("get_implied_role", _SYSTEM_READER),
    ("list_implied_roles", _SYSTEM_READER),
    ("create_implied_role", _ADMIN),
    ("delete_implied_role", _ADMIN),
    ("list_role_inference_rules", _SYSTEM_READER),
    ("check_implied_role", _SYSTEM_READER),
    ("get_limit_model", ""),
    (
        "get_limit",
        f"{_SYSTEM_READER} or (domain_id:%(target.limit.domain.id)s or domain_id:%(target.limit.project.domain_id)s)"
        " or (project_id:%(target.limit.project_id)s and not None:%(target.limit.project_id)s)",
    ),
    ("list_limits", ""),
    ("create_limits", _ADMIN),
    ("update_limit", _ADMIN),
    ("delete_limit", _ADMIN),
    *_crud("mapping", "mappings", _SYSTEM_READER, _ADMIN),
    *_crud("policy", "policies", _SYSTEM_READER, _ADMIN),
    ("create_policy_association_for_endpoint", _ADMIN),
    ("check_policy_association_for_endpoint", _SYSTEM_READER),
    ("delete_policy_association_for_endpoint", _ADMIN),
    ("create_policy_association_for_service", _ADMIN),
    ("check_policy_association_for_service", _SYSTEM_READER),
    ("delete_policy_association_for_service", _ADMIN),
    ("create_policy_association_for_region_and_service", _ADMIN),
    ("check_policy_association_for_region_and_service", _SYSTEM_READER),
    ("delete_policy_association_for_region_and_service", _ADMIN),
    ("get_policy_for_endpoint", _SYSTEM_READER),
    ("list_endpoints_for_policy", _SYSTEM_READER),
    (
        "get_project",
        f"{_SYSTEM_READER} or {_domain('reader', 'target.project.domain_id')} or project_id:%(target.project.id)s",
    ),
    ("list_projects", f"{_SYSTEM_READER} or {_domain('reader', 'target.domain_id')}"),
    ("list_user_projects", f"{_SYSTEM_READER} or {_domain('reader', 'target.user.domain_id')} or {_OWNER}"),
    ("create_project", f"{_ADMIN} or {_domain('manager', 'target.project.domain_id')}"),
    ("update_project", f"{_ADMIN} or {_domain('manager', 'target.project.domain_id')}"),
    ("delete_project", f"{_ADMIN} or {_domain('manager', 'target.project.domain_id')}"),
    *(
        (
            f"{verb}_project_tag{'s' if verb == 'list' else ''}",
            f"{_SYSTEM_READER} or {_domain('reader', 'target.project.domain_id')} or project_id:%(target.project.id)s",
        )
        for verb in ("list", "get")
    ),
    *(
        (
            f"{verb}",
            f"{_ADMIN} or {_domain('manager', 'target.project.domain_id')} or (role:admin and project_id:%(target.project.id)s)",
        )
        for verb in ("update_project_tags", "create_project_tag", "delete_project_tags", "delete_project_tag")
    ),
    ("list_projects_for_endpoint", _SYSTEM_READER),
    ("add_endpoint_to_project", _ADMIN),
    ("check_endpoint_in_project", _SYSTEM_READER),
    ("list_endpoints_for_project", _SYSTEM_READER),
    ("remove_endpoint_from_project", _ADMIN),
    *_crud("protocol", "protocols", _SYSTEM_READER, _ADMIN),
    ("get_region", ""),
    ("list_regions", ""),
    ("create_region", _ADMIN),
    ("update_region", _ADMIN),
    ("delete_region", _ADMIN),
    ("get_registered_limit", ""),
    ("list_registered_limits", ""),
    ("create_registered_limits", _ADMIN),
    ("update_registered_limit", _ADMIN),
    ("delete_registered_limit", _ADMIN),
    ("list_revoke_events", "rule:service_or_admin"),
    ("get_role", f"{_SYSTEM_READER} or (role:manager and {_MANAGED_ROLE})"),
    ("list_roles", f"{_SYSTEM_READER} or (role:manager and not domain_id:None)"),
    ("create_role", _ADMIN),
    ("update_role", _ADMIN),
    ("delete_role", _ADMIN),
    ("get_domain_role", f"{_SYSTEM_READER} or {_domain('reader', 'target.role.domain_id')}"),
    ("list_domain_roles", f"{_SYSTEM_READER} or {_domain('reader', 'target.role.domain_id')}"),
    ("create_domain_role", _ADMIN),
    ("update_domain_role", _ADMIN),
    ("delete_domain_role", _ADMIN),
    ("list_role_assignments", f"{_SYSTEM_READER} or {_domain('reader', 'target.domain_id')}"),
    (
        "list_role_assignments_for_tree",
        f"{_SYSTEM_READER} or {_domain('reader', 'target.project.domain_id')}"
        " or (role:admin and project_id:%(target.project.id)s)",
    ),
    *_crud("service", "services", _SYSTEM_READER, _ADMIN),
    *_crud("service_provider", "service_providers", _SYSTEM_READER, _ADMIN),
    ("check_token", f"{_SYSTEM_READER} or rule:service_role or user_id:%(target.token.user_id)s"),
    ("validate_token", f"{_SYSTEM_READER} or rule:service_role or user_id:%(target.token.user_id)s"),
    ("validate_token_head", f"{_SYSTEM_READER} or rule:service_role or user_id:%(target.token.user_id)s"),
    ("revoke_token", f"{_ADMIN} or user_id:%(target.token.user_id)s"),
    ("list_trusts", _SYSTEM_READER),
    ("list_trusts_for_trustor", f"{_SYSTEM_READER} or {_TRUSTOR}"),
    ("list_trusts_for_trustee", f"{_SYSTEM_READER} or {_TRUSTEE}"),
    ("create_trust", _TRUSTOR),
    ("list_roles_for_trust", f"{_SYSTEM_READER} or {_TRUSTOR} or {_TRUSTEE}"),
    ("get_role_for_trust", f"{_SYSTEM_READER} or {_TRUSTOR} or {_TRUSTEE}"),
    ("delete_trust", f"{_ADMIN} or {_TRUSTOR}"),
    ("get_trust", f"{_SYSTEM_READER} or {_TRUSTOR} or {_TRUSTEE}"),
    ("get_user", f"{_SYSTEM_READER} or {_domain('reader', 'target.user.domain_id')} or {_OWNER}"),
    ("list_users", f"{_SYSTEM_READER} or {_domain('reader', 'target.domain_id')}"),
    ("create_user", f"{_ADMIN} or {_domain('manager', 'target.user.domain_id')}"),
    ("update_user", f"{_ADMIN} or {_domain('manager', 'target.user.domain_id')}"),
    ("delete_user", f"{_ADMIN} or {_domain('manager', 'target.user.domain_id')}"),
    ("revoke_user_tokens", f"{_ADMIN} or {_OWNER}"),
    ("s3tokens_validate", "rule:service_or_admin"),
    ("ec2tokens_validate", "rule:service_or_admin"),
]

# What concerns the whole cloud is not for tokens of a domain.
_CLOUD_NOUNS = (
    "access_token", "consumer", "request_token", "domain_config", "endpoint", "implied_role", "inference", "policy",
    "policies", "region", "service", "system_grant", "trust", "mapping", "identity_provider", "protocol",
    "service_provider", "domain_role", "revoke_events", "application_credential", "access_rule", "ec2",
)  # fmt: skip
_CLOUD = frozenset(
    name
    for name, _ in _CHECKS
    if any(noun in name for noun in _CLOUD_NOUNS)
    and name not in ("get_region", "list_regions", "get_security_compliance_domain_config")
) | {
    "create_domain", "update_domain", "delete_domain", "create_role", "update_role", "delete_role",
    "create_limits", "update_limit", "delete_limit",
    "create_registered_limits", "update_registered_limit", "delete_registered_limit",
}  # fmt: skip

AUDIT = "audit:list"

RULES = [
    Rule(
        AUDIT,
        "role:admin or (role:reader and system_scope:all)",
        "May read audit events.",
        ("system", "project"),
    ),
    Rule("admin_required", "role:admin or is_admin:1", "Who may do everything in identity.", _ANY),
    Rule("service_role", "role:service", "Other services of the cloud.", _ANY),
    Rule(
        "service_or_admin", "rule:admin_required or rule:service_role", "Services and administrators.", _ANY
    ),
    *(
        Rule(
            f"identity:{name}",
            check,
            f"May {name.replace('_', ' ')}.",
            ("system", "project") if name in _CLOUD else _ANY,
        )
        for name, check in _CHECKS
    ),
]
