"""Placement has no work that outlives a request."""

from stackling.base.jobs import Machine

MACHINES: tuple[Machine, ...] = ()
