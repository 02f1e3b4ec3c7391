"""Identity has no work that outlasts a request."""

from stackling.base.jobs import Machine

MACHINES: tuple[Machine, ...] = ()
