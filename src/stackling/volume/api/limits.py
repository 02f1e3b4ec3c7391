"""Limits and usage of a project, as clients show them."""

from falcon import Request, Response

from stackling.base.cloud import Cloud
from stackling.base.microversion import Version
from stackling.base.rest import caller, one_param, version
from stackling.volume.actions import quota

_NAMES = {
    "volumes": ("maxTotalVolumes", "totalVolumesUsed"),
    "gigabytes": ("maxTotalVolumeGigabytes", "totalGigabytesUsed"),
    "snapshots": ("maxTotalSnapshots", "totalSnapshotsUsed"),
    "backups": ("maxTotalBackups", "totalBackupsUsed"),
    "backup_gigabytes": ("maxTotalBackupGigabytes", "totalBackupGigabytesUsed"),
}


class Limits:
    """/v3/limits"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response) -> None:
        who = caller(req)
        project_id = who.project_id or ""
        other = one_param(req, "project_id") or one_param(req, "tenant_id")
        if other and who.is_admin and version(req) >= Version(3, 39):
            project_id = other
        with self.cloud.db.read() as tx:
            who.may("limits_extension:used_limits", {"project_id": project_id})
            most, used = quota.limits(tx, self.cloud, project_id), quota.usage(tx, [project_id])
        absolute: dict[str, int] = {}
        for name, (limit, total) in _NAMES.items():
            absolute |= {limit: most[name], total: used[name]}
        resp.media = {"limits": {"rate": [], "absolute": absolute}}
