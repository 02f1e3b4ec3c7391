"""Object storage has no policy rules, as upstream: roles of the configuration and access lists of containers decide."""

from stackling.base.policy import Rule

RULES: tuple[Rule, ...] = ()
