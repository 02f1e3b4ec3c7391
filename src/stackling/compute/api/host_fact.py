"""What only a server's host knows is asked of it while the client waits."""

from collections.abc import Iterator
from contextlib import contextmanager

from stackling.base.cloud import Cloud
from stackling.base.db import Row
from stackling.base.errors import Conflict, Unavailable
from stackling.compute.driver import DomainMissing, HostUnavailable, Hypervisor


@contextmanager
def asking(cloud: Cloud, row: Row, what: str) -> Iterator[Hypervisor]:
    """The hypervisor of a server, asked for `what` inside. No transaction may be open.

    Raises Conflict when the server is on no host or does not run there, Unavailable when the host does not answer.
    """
    if row.host is None:
        raise Conflict(f"Instance {row.id} is not ready: it has no host.")
    try:
        yield cloud.driver(Hypervisor, row.host)
    except DomainMissing:
        raise Conflict(f"Instance {row.id} is not ready") from None
    except HostUnavailable as e:
        raise Unavailable(f"The {what} is on host {row.host}, which does not answer: {e}") from None
