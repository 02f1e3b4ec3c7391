"""The tables of identity."""

from stackling.identity.state import (
    catalog,
    credential,
    directory,
    domain_config,
    federated_user,
    federation,
    limit,
    login_rate,
    policy,
    project,
    revision,
    role,
    user,
)

__all__ = [
    "catalog",
    "credential",
    "directory",
    "domain_config",
    "federated_user",
    "federation",
    "limit",
    "login_rate",
    "policy",
    "project",
    "revision",
    "role",
    "user",
]
