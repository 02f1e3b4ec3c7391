"""Identity's periodic work; everything else is done within its request."""

from stackling.identity.steps import housekeeping

MACHINES = (housekeeping.machine,)
