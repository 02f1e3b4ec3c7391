"""A volume backend on another host, through its node agent."""

from __future__ import annotations

from stackling.base.rpc import Interface, Remote, Transport
from stackling.volume.driver import Backend, BackendUnavailable, VolumeBusy, VolumeFailed

INTERFACE = Interface(
    "backend",
    Backend,
    errors=(BackendUnavailable, VolumeBusy, VolumeFailed),
    unavailable=BackendUnavailable,
)


def remote_backend(transport: Transport) -> Backend:
    """The backend at the other end of `transport`."""
    far: Backend = Remote(INTERFACE, transport)  # type: ignore[assignment]
    return far
