"""The Block Storage API (Cinder v3) on the wire."""

from collections.abc import Iterable

from falcon import Request, Response

from stackling.base.cloud import Cloud
from stackling.base.rest import Service
from stackling.volume.api import (
    attachment,
    extension,
    host,
    limits,
    message,
    qos,
    quota,
    snapshot,
    transfer,
    version,
    volume,
    volume_action,
    volume_metadata,
    volume_type,
)
from stackling.volume.api.envelope import envelope


def routes(cloud: Cloud) -> Iterable[tuple[str, object]]:
    yield "", version.Versions(cloud, "300 Multiple Choices")
    yield "/v3", version.Versions(cloud, "200 OK")
    yield "/v3/volumes", volume.Volumes(cloud)
    yield "/v3/volumes/detail", volume.VolumesDetail(cloud)
    yield "/v3/volumes/summary", volume.Summary(cloud)
    yield "/v3/volumes/{volume_id}", volume.Volume(cloud)
    yield "/v3/volumes/{volume_id}/action", volume_action.Actions(cloud)
    yield "/v3/volumes/{volume_id}/metadata", volume_metadata.Metadata(cloud)
    yield "/v3/volumes/{volume_id}/metadata/{key}", volume_metadata.Item(cloud)
    yield "/v3/volumes/{volume_id}/encryption", volume.Encryption(cloud)
    yield "/v3/volumes/{volume_id}/encryption/{key}", volume.Encryption(cloud)
    yield "/v3/snapshots", snapshot.Snapshots(cloud)
    yield "/v3/snapshots/detail", snapshot.SnapshotsDetail(cloud)
    yield "/v3/snapshots/{snapshot_id}", snapshot.Snapshot(cloud)
    yield "/v3/snapshots/{snapshot_id}/action", snapshot.Actions(cloud)
    yield "/v3/snapshots/{snapshot_id}/metadata", snapshot.Metadata(cloud)
    yield "/v3/snapshots/{snapshot_id}/metadata/{key}", snapshot.MetadataItem(cloud)
    yield "/v3/attachments", attachment.Attachments(cloud)
    yield "/v3/attachments/detail", attachment.AttachmentsDetail(cloud)
    yield "/v3/attachments/{attachment_id}", attachment.Attachment(cloud)
    yield "/v3/attachments/{attachment_id}/action", attachment.Actions(cloud)
    yield "/v3/types", volume_type.Types(cloud)
    yield "/v3/types/{type_id}", volume_type.Type(cloud)
    yield "/v3/types/{type_id}/action", volume_type.Actions(cloud)
    yield "/v3/types/{type_id}/os-volume-type-access", volume_type.Access(cloud)
    yield "/v3/types/{type_id}/extra_specs", volume_type.Specs(cloud)
    yield "/v3/types/{type_id}/extra_specs/{key}", volume_type.Spec(cloud)
    yield "/v3/qos-specs", qos.QosSpecs(cloud)
    yield "/v3/qos-specs/{qos_id}", qos.QosSpec(cloud)
    yield "/v3/qos-specs/{qos_id}/delete_keys", qos.Keys(cloud)
    yield "/v3/qos-specs/{qos_id}/{verb}", qos.Association(cloud)
    yield "/v3/os-quota-sets/{project_id}", quota.QuotaSet(cloud)
    yield "/v3/os-quota-sets/{project_id}/defaults", quota.Defaults(cloud)
    yield "/v3/os-quota-class-sets/{name}", quota.ClassSet(cloud)
    yield "/v3/limits", limits.Limits(cloud)
    yield "/v3/os-services", host.Services(cloud)
    yield "/v3/os-services/{verb}", host.ServiceVerb(cloud)
    yield "/v3/os-hosts", host.Hosts(cloud)
    yield "/v3/os-hosts/{name}", host.Host(cloud)
    yield "/v3/os-availability-zone", host.Zones(cloud)
    yield "/v3/scheduler-stats/get_pools", host.Pools(cloud)
    yield "/v3/capabilities/{name}", host.Capabilities(cloud)
    yield "/v3/messages", message.Messages(cloud)
    yield "/v3/messages/{message_id}", message.Message(cloud)
    for word, minor in (("os-volume-transfer", 0), ("volume-transfers", 55)):
        yield f"/v3/{word}", transfer.Transfers(cloud, word, minor)
        yield f"/v3/{word}/detail", transfer.Transfers(cloud, word, minor, detail=True)
        yield f"/v3/{word}/{{transfer_id}}", transfer.Transfer(cloud, word, minor)
        yield f"/v3/{word}/{{transfer_id}}/accept", transfer.Accept(cloud, word, minor)
    yield "/v3/extensions", extension.Extensions()
    yield "/v3/extensions/{alias}", extension.Extension()
    yield "/v3/resource_filters", extension.ResourceFilters()


def _headers(req: Request, resp: Response) -> None:
    resp.set_header("X-Compute-Request-Id", req.context.request_id)


SERVICE = Service(
    name="volume",
    prefix="/volume",
    routes=routes,
    envelope=envelope,
    versions=version.SPOKEN,
    version_root="/v3",
    scoped=True,
    trailing_slash=False,
    headers=_headers,
)

__all__ = ["SERVICE"]
