"""The Compute API (Nova v2.1) on the wire."""

from collections.abc import Iterable

from falcon import Request, Response

from stackling.base.cloud import Cloud
from stackling.base.rest import Service
from stackling.compute.api import (
    aggregate,
    attachment,
    diagnostics,
    extension,
    flavor,
    floating_ip,
    host,
    image,
    instance_action,
    keypair,
    metadata,
    physical_host,
    quota,
    security_group,
    server,
    server_action,
    server_group,
    usage_audit_log,
    version,
    volume,
)
from stackling.compute.api.envelope import envelope


def _routes(cloud: Cloud) -> Iterable[tuple[str, object]]:
    """Below /v2.1."""
    yield "/versions/{id}", version.VersionById(cloud)
    yield "/extensions", extension.Extensions()
    yield "/extensions/{alias}", extension.Extension()
    yield "/flavors", flavor.Flavors(cloud)
    yield "/flavors/detail", flavor.FlavorsDetail(cloud)
    yield "/flavors/{flavor_id}", flavor.Flavor(cloud)
    yield "/flavors/{flavor_id}/action", flavor.Action(cloud)
    yield "/flavors/{flavor_id}/os-flavor-access", flavor.Access(cloud)
    yield "/flavors/{flavor_id}/os-extra_specs", flavor.Specs(cloud)
    yield "/flavors/{flavor_id}/os-extra_specs/{name}", flavor.Spec(cloud)
    yield "/os-keypairs", keypair.Keypairs(cloud)
    yield "/os-keypairs/{name}", keypair.Keypair(cloud)
    yield "/limits", quota.Limits(cloud)
    yield "/os-quota-sets/{project_id}", quota.QuotaSet(cloud)
    yield "/os-quota-sets/{project_id}/defaults", quota.QuotaDefaults(cloud)
    yield "/os-quota-sets/{project_id}/detail", quota.QuotaDetail(cloud)
    yield "/os-quota-class-sets/{name}", quota.QuotaClass(cloud)
    yield "/os-simple-tenant-usage", quota.Usages(cloud)
    yield "/os-simple-tenant-usage/{project_id}", quota.Usages(cloud)
    yield "/os-instance_usage_audit_log", usage_audit_log.UsageAuditLog(cloud)
    yield "/os-instance_usage_audit_log/{before}", usage_audit_log.UsageAuditLog(cloud)
    yield "/os-availability-zone", host.Zones(cloud, detail=False)
    yield "/os-availability-zone/detail", host.Zones(cloud, detail=True)
    yield "/os-services", host.Services(cloud)
    yield "/os-services/{id}", host.Service(cloud)
    yield "/os-hypervisors", host.Hypervisors(cloud, detail=False)
    yield "/os-hypervisors/detail", host.Hypervisors(cloud, detail=True)
    yield "/os-hypervisors/statistics", host.Statistics(cloud)
    yield "/os-hypervisors/{id}", host.Hypervisor(cloud)
    yield "/os-hypervisors/{id}/{part}", host.HypervisorPart(cloud)
    yield "/os-aggregates", aggregate.Aggregates(cloud)
    yield "/os-aggregates/{id}", aggregate.Aggregate(cloud)
    yield "/os-aggregates/{id}/action", aggregate.Action(cloud)
    yield "/os-aggregates/{id}/images", aggregate.Images(cloud)
    yield "/os-server-groups", server_group.Groups(cloud)
    yield "/os-server-groups/{id}", server_group.Group(cloud)
    yield "/os-security-groups", security_group.SecurityGroups(cloud)
    yield "/os-security-groups/{group_id}", security_group.SecurityGroup(cloud)
    yield "/os-security-group-rules", security_group.Rules(cloud)
    yield "/os-security-group-rules/{rule_id}", security_group.Rule(cloud)
    yield "/os-floating-ips", floating_ip.FloatingIps(cloud)
    yield "/os-floating-ips/{id}", floating_ip.FloatingIp(cloud)
    yield "/os-floating-ip-pools", floating_ip.Pools(cloud)
    yield "/images", image.Images(cloud, detail=False)
    yield "/images/detail", image.Images(cloud, detail=True)
    yield "/images/{image_id}", image.Image(cloud)
    yield "/images/{image_id}/metadata", image.ImageMetadata(cloud)
    yield "/images/{image_id}/metadata/{key}", image.ImageMetadataItem(cloud)
    yield "/os-volumes", volume.Volumes(cloud)
    yield "/os-volumes/detail", volume.Volumes(cloud, "detail")
    yield "/os-volumes/{volume_id}", volume.Volume(cloud)
    yield "/os-snapshots", volume.Snapshots(cloud)
    yield "/os-snapshots/detail", volume.Snapshots(cloud, "detail")
    yield "/os-snapshots/{snapshot_id}", volume.Snapshot(cloud)
    yield "/os-hosts", physical_host.Hosts(cloud)
    yield "/os-hosts/{hostname}", physical_host.Host(cloud)
    yield "/os-hosts/{hostname}/startup", physical_host.Power(cloud, "start")
    yield "/os-hosts/{hostname}/shutdown", physical_host.Power(cloud, "shutdown")
    yield "/os-hosts/{hostname}/reboot", physical_host.Power(cloud, "reboot")
    yield "/os-migrations", extension.Migrations()
    yield "/os-server-external-events", extension.ExternalEvents(cloud)
    yield "/servers", server.Servers(cloud)
    yield "/servers/detail", server.ServersDetail(cloud)
    yield "/servers/{server_id}", server.Server(cloud)
    yield "/servers/{server_id}/action", server_action.Action(cloud)
    yield "/servers/{server_id}/remote-consoles", server_action.RemoteConsoles(cloud)
    yield "/servers/{server_id}/topology", server.Topology(cloud)
    yield "/servers/{server_id}/diagnostics", diagnostics.Diagnostics(cloud)
    yield "/servers/{server_id}/metadata", metadata.Metadata(cloud)
    yield "/servers/{server_id}/metadata/{key}", metadata.MetadataItem(cloud)
    yield "/servers/{server_id}/tags", metadata.Tags(cloud)
    yield "/servers/{server_id}/tags/{tag}", metadata.OneTag(cloud)
    yield "/servers/{server_id}/ips", metadata.Addresses(cloud)
    yield "/servers/{server_id}/ips/{network}", metadata.Addresses(cloud)
    yield "/servers/{server_id}/os-interface", attachment.Interfaces(cloud)
    yield "/servers/{server_id}/os-interface/{port_id}", attachment.Interface(cloud)
    yield "/servers/{server_id}/os-volume_attachments", attachment.VolumeAttachments(cloud)
    yield "/servers/{server_id}/os-volume_attachments/{volume_id}", attachment.VolumeAttachment(cloud)
    yield "/servers/{server_id}/os-security-groups", security_group.OfServer(cloud)
    yield "/servers/{server_id}/os-instance-actions", instance_action.InstanceActions(cloud)
    yield "/servers/{server_id}/os-instance-actions/{request_id}", instance_action.InstanceAction(cloud)
    yield "/servers/{server_id}/os-server-password", extension.ServerPassword(cloud)
    yield "/servers/{server_id}/migrations", extension.ServerMigrations(cloud)
    yield "/servers/{server_id}/migrations/{id}", extension.ServerMigrations(cloud)
    yield from ((path, extension.Removed()) for path in _REMOVED)


_REMOVED = (
    "/os-agents", "/os-agents/{id}", "/os-cells", "/os-cells/{id}", "/os-certificates", "/os-certificates/{id}", "/os-cloudpipe", "/os-cloudpipe/{id}",
    "/os-fixed-ips/{id}", "/os-floating-ip-dns", "/os-floating-ips-bulk", "/os-fping", "/os-fping/{id}",
    "/os-security-group-default-rules", "/servers/{server_id}/consoles", "/servers/{server_id}/os-virtual-interfaces",
)  # fmt: skip


def routes(cloud: Cloud) -> Iterable[tuple[str, object]]:
    yield "", version.Versions(cloud)
    yield "/v2", version.OneVersion(cloud, "v2.0")
    yield "/v2.1", version.OneVersion(cloud, "v2.1")
    for path, resource in _routes(cloud):
        yield f"/v2.1{path}", resource


def _headers(req: Request, resp: Response) -> None:
    resp.set_header("X-Compute-Request-Id", req.context.request_id)


SERVICE = Service(
    name="compute",
    prefix="/compute",
    routes=routes,
    envelope=envelope,
    versions=version.SPOKEN,
    version_root="/v2.1",
    scoped=True,
    trailing_slash=False,
    headers=_headers,
)

__all__ = ["SERVICE"]
