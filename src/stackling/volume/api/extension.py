"""The extensions of this API that exist here, and the filters of its lists."""

from typing import Any

from falcon import Request, Response

from stackling.base.errors import NotFound
from stackling.base.rest import one_param
from stackling.volume.api.version import since

_EXTENSIONS = {
    "os-admin-actions": ("AdminActions", "Administrators' actions on volumes and snapshots"),
    "os-availability-zone": ("AvailabilityZones", "Availability zones"),
    "capabilities": ("Capabilities", "What a backend can do"),
    "os-extended-snapshot-attributes": ("ExtendedSnapshotAttributes", "Project and progress of snapshots"),
    "os-hosts": ("Hosts", "Hosts that keep volumes"),
    "qos-specs": ("Qos_specs_manage", "QoS specs"),
    "os-quota-class-sets": ("QuotaClasses", "Quotas of projects that nothing was said about"),
    "os-quota-sets": ("Quotas", "Quotas of projects"),
    "scheduler-stats": ("Scheduler_stats", "Backends and their capacity"),
    "os-services": ("Services", "Services and their state"),
    "os-snapshot-actions": ("SnapshotActions", "Actions on snapshots"),
    "os-types-extra-specs": ("TypesExtraSpecs", "Extra specs of volume types"),
    "os-types-manage": ("TypesManage", "Management of volume types"),
    "os-used-limits": ("UsedLimits", "Usage beside limits"),
    "os-volume-actions": ("VolumeActions", "Actions on volumes"),
    "os-vol-host-attr": ("VolumeHostAttribute", "The host that keeps a volume"),
    "os-vol-image-meta": ("VolumeImageMetadata", "Metadata of the image a volume was made from"),
    "os-vol-mig-status-attr": ("VolumeMigStatusAttribute", "State of a volume's migration"),
    "os-vol-tenant-attr": ("VolumeTenantAttribute", "The project that owns a volume"),
    "os-volume-transfer": ("VolumeTransfer", "Transfer of volumes between projects"),
    "os-volume-type-access": ("VolumeTypeAccess", "Access to private volume types"),
}

_FILTERS = {
    "volume": [
        "name",
        "status",
        "metadata",
        "bootable",
        "availability_zone",
        "created_at",
        "updated_at",
        "id",
        "multiattach",
        "size",
        "snapshot_id",
        "source_volid",
        "glance_metadata",
    ],
    "snapshot": ["name", "status", "volume_id", "metadata", "created_at", "updated_at", "id"],
    "attachment": ["volume_id", "status", "instance_id", "attach_status", "id"],
    "message": ["resource_uuid", "resource_type", "event_id", "request_id"],
    "volume_type": ["is_public", "name", "extra_specs"],
}


def _view(alias: str) -> dict[str, Any]:
    name, says = _EXTENSIONS[alias]
    return {
        "name": name,
        "alias": alias,
        "description": says,
        "updated": "2014-01-01T00:00:00+00:00",
        "links": [],
    }


class Extensions:
    """/v3/extensions"""

    def on_get(self, req: Request, resp: Response) -> None:
        resp.media = {"extensions": [_view(alias) for alias in _EXTENSIONS]}


class Extension:
    """/v3/extensions/{alias}"""

    def on_get(self, req: Request, resp: Response, alias: str) -> None:
        if alias not in _EXTENSIONS:
            raise NotFound(f"Extension {alias[:64]} could not be found.")
        resp.media = {"extension": _view(alias)}


class ResourceFilters:
    """/v3/resource_filters (from 3.33 on)"""

    def on_get(self, req: Request, resp: Response) -> None:
        since(req, 33)
        wanted = one_param(req, "resource")
        resp.media = {
            "resource_filters": [
                {"resource": r, "filters": f} for r, f in _FILTERS.items() if wanted in (None, r)
            ]
        }
