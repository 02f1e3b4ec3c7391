"""What a server uses, as its host measures it."""

from typing import Any

from falcon import Request, Response

from stackling.base.cloud import Cloud
from stackling.base.db import Row
from stackling.base.errors import Conflict
from stackling.base.rest import caller
from stackling.compute.actions import server
from stackling.compute.api.host_fact import asking
from stackling.compute.api.version import since
from stackling.compute.driver import Diagnostics as Measured
from stackling.compute.driver import DiskUse, NicUse, Power
from stackling.compute.state.host import by_name

_HYPERVISORS = {"kvm": "kvm", "tcg": "qemu", "fake": "fake"}
_NIC = ("octets", "packets", "errors", "drop")


class Diagnostics:
    """/servers/{server_id}/diagnostics"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response, server_id: str) -> None:
        with self.cloud.db.read() as tx:
            row = server.get(tx, caller(req), server_id, "os_compute_api:os-server-diagnostics")
            host = by_name(tx, row.host) if row.host else None
        with asking(self.cloud, row, "measurement") as hypervisor:
            measured = hypervisor.diagnostics(row.id)
        if measured.power is not Power.ON:
            raise Conflict(
                f"Cannot 'get_diagnostics' instance {row.id} while it is in power state {measured.power}"
            )
        accel = host.info["accel"] if host is not None else ""
        resp.media = self._common(row, measured, accel) if since(req, "2.48") else _flat(measured)

    def _common(self, row: Row, measured: Measured, accel: str) -> dict[str, Any]:
        """From 2.48 on: the same for every hypervisor."""
        running = self.cloud.clock.now() - (row.launched_at or row.created_at)
        return {
            "state": "running",
            "driver": "libvirt",
            "hypervisor": _HYPERVISORS.get(accel),
            "hypervisor_os": "linux",
            "uptime": int(running.total_seconds()),
            "config_drive": row.config_drive,
            "num_cpus": len(measured.cpu_times),
            "num_disks": len(measured.disks),
            "num_nics": len(measured.nics),
            "cpu_details": [
                {"id": id, "time": time, "utilisation": None} for id, time in measured.cpu_times.items()
            ],
            "disk_details": [_disk(d) for d in measured.disks],
            "nic_details": [_nic(n) for n in measured.nics],
            "memory_details": {
                "maximum": measured.memory_kib // 1024,
                "used": measured.memory_used_kib // 1024,
            },
        }


def _disk(use: DiskUse) -> dict[str, int]:
    return {
        "read_bytes": use.read_bytes,
        "read_requests": use.read_requests,
        "write_bytes": use.write_bytes,
        "write_requests": use.write_requests,
        "errors_count": use.errors,
    }


def _nic(use: NicUse) -> dict[str, Any]:
    made: dict[str, Any] = {"mac_address": use.mac, "rx_rate": None, "tx_rate": None}
    return made | {f"{way}_{what}": getattr(use, f"{way}_{what}") for way in ("rx", "tx") for what in _NIC}


def _flat(measured: Measured) -> dict[str, int]:
    """Below 2.48: libvirt's own numbers, named after the devices. Those that it can't tell are left out."""
    made = {f"cpu{id}_time": time for id, time in measured.cpu_times.items()}
    made |= {"memory": measured.memory_kib, "memory-actual": measured.memory_used_kib}
    for disk in measured.disks:
        for name, number in (
            ("read_req", disk.read_requests),
            ("read", disk.read_bytes),
            ("write_req", disk.write_requests),
            ("write", disk.write_bytes),
            ("errors", disk.errors),
        ):
            made[f"{disk.device}_{name}"] = number
    for nic in measured.nics:
        for way in ("rx", "tx"):
            for what in _NIC:
                number = getattr(nic, f"{way}_{what}")
                if number is not None:
                    made[f"{nic.device}_{way}" + ("" if what == "octets" else f"_{what}")] = number
    return made
