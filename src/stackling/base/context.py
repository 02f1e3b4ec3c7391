"""Who is calling, and what they may do."""

from collections.abc import Mapping
from typing import Any

import msgspec

from stackling.base.errors import Forbidden, NotFound
from stackling.base.policy import Policy


class Caller(msgspec.Struct, kw_only=True, eq=False):
    """The one on whose behalf a request runs.

    One of `project_id`, `domain_id`, `system` says the scope; none of them: an unscoped token.
    `roles` has implied roles expanded. `via` is the id of the application credential, if the token came from one.
    """

    policy: Policy
    user_id: str
    user_name: str = ""
    user_domain_id: str | None = None
    project_id: str | None = None
    project_name: str = ""
    project_domain_id: str | None = None
    domain_id: str | None = None
    system: bool = False
    roles: frozenset[str] = frozenset()
    via: str | None = None
    audit_ids: tuple[str, ...] = ()
    expires_at: Any = None
    methods: tuple[str, ...] = ()
    request_id: str = ""
    trust_id: str | None = None
    revision: int = -1  # of identity, at which all this was true
    certificate: str = ""  # `x5t#S256` of the client certificate that must come with each request
    restricted: bool = False  # an application credential that may not make or delete others, nor trusts
    access_rules: tuple[tuple[str, str, str], ...] | None = (
        None  # (service type, method, path) it is limited to
    )
    _creds: dict[str, Any] | None = None

    @property
    def scope(self) -> str:
        return "system" if self.system else "domain" if self.domain_id else "project"

    @property
    def is_admin(self) -> bool:
        return "admin" in self.roles

    @property
    def creds(self) -> dict[str, Any]:
        """The caller as oslo.policy's rules see it."""
        if self._creds is None:
            self._creds = {
                "user_id": self.user_id,
                "user_domain_id": self.user_domain_id,
                "project_id": self.project_id,
                "tenant_id": self.project_id,
                "project_domain_id": self.project_domain_id,
                "domain_id": self.domain_id,
                "system_scope": "all" if self.system else None,
                "system": "all" if self.system else None,
                "roles": sorted(self.roles),
                "is_admin": self.is_admin,
                "is_admin_project": True,
            }
        return self._creds

    def can(self, rule: str, target: Mapping[str, Any] | None = None) -> bool:
        """Whether the caller may do `rule` to `target` (by default something in its own project)."""
        if target is None:
            target = {"project_id": self.project_id, "tenant_id": self.project_id, "user_id": self.user_id}
        return self.policy.allows(rule, target, self.creds, self.scope)

    def may(self, rule: str, target: Mapping[str, Any] | None = None) -> None:
        """Return if the caller may do `rule`. Raises Forbidden."""
        if not self.can(rule, target):
            raise Forbidden(f"Policy doesn't allow {rule} to be performed.")

    def may_see(self, project_id: str | None, rule: str, says: str) -> None:
        """Guard one found resource of `project_id` by `rule`.

        Another project's resource does not exist for those who may not reach it: raises NotFound(`says`) for
        it, and Forbidden when it is the caller's own and the role is missing.
        """
        if not self.can(rule, {"project_id": project_id, "tenant_id": project_id, "user_id": self.user_id}):
            if project_id == self.project_id and project_id is not None:
                raise Forbidden(f"Policy doesn't allow {rule} to be performed.")
            raise NotFound(says)
