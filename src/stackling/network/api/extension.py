"""`/v2.0/extensions`: what this service offers beyond Neutron's core. Only what works stands here."""

from typing import Any

from falcon import Request, Response

from stackling.base.cloud import Cloud
from stackling.base.errors import NotFound

# alias: (name, description)
EXTENSIONS: dict[str, tuple[str, str]] = {
    "aap-reject-multicast": (
        "Allowed address pairs: no multicast",
        "Refuses multicast addresses in allowed address pairs",
    ),
    "address-group": ("Address group", "Named sets of addresses for security group rules"),
    "address-scope": ("Address scope", "Groups of subnet pools whose prefixes don't overlap"),
    "agent": ("agent", "The hosts that take part in the network"),
    "allowed-address-pairs": ("Allowed Address Pairs", "Further addresses that a port may send from"),
    "auto-allocated-topology": ("Auto Allocated Topology Services", "A routed network for the asking"),
    "availability_zone": ("Availability Zone", "Availability zones of the network"),
    "binding": ("Port Binding", "On which host a port is, and how it is plugged there"),
    "default-subnetpools": ("Default Subnetpools", "A subnet pool for subnets that name none"),
    "dhcp_agent_scheduler": ("DHCP Agent Scheduler", "Which hosts answer DHCP for a network"),
    "dns-domain-ports": ("dns_domain for ports", "A DNS domain of a port's own"),
    "dns-integration": ("DNS Integration", "Names of ports in the network's own resolver"),
    "dvr": ("Distributed Virtual Router", "Floating IPs that answer on the guest's own host"),
    "empty-string-filtering": ("Empty String Filtering Extension", "Lists filtered by the empty string"),
    "ext-gw-mode": ("Neutron L3 Configurable external gateway mode", "Source NAT of a router on or off"),
    "external-net": ("Neutron external network", "Networks that lead outside"),
    "extra_dhcp_opt": ("Neutron Extra DHCP options", "DHCP options of a port's own"),
    "extraroute": ("Neutron Extra Route", "Static routes of a router"),
    "extraroute-atomic": (
        "Atomically add/remove extra routes",
        "Routes added to and taken from those that a router has",
    ),
    "filter-validation": ("Filter parameters validation", "Refuses unknown filters"),
    "fip-port-details": (
        "Floating IP Port Details Extension",
        "Details of the port that a floating IP leads to",
    ),
    "ip-substring-filtering": ("IP address substring filtering", "Ports filtered by a part of an address"),
    "l3-ha": ("HA Router extension", "Routers whose gateway moves to another host when one dies"),
    "l3_agent_scheduler": ("L3 Agent Scheduler", "Which hosts carry a router's gateway"),
    "metering": ("Neutron Metering", "Labels of traffic that is to be told apart"),
    "metering_source_and_destination_fields": (
        "Neutron Metering with source and destination filtering",
        "Both ends of metered traffic",
    ),
    "net-mtu": ("Network MTU", "The largest packet of a network"),
    "net-mtu-writable": ("Network MTU (writable)", "The largest packet of a network can be set"),
    "network-ip-availability": ("Network IP Availability", "How many addresses of a network are used"),
    "network_availability_zone": ("Network Availability Zone", "Availability zones of a network"),
    "pagination": ("Pagination support", "Lists in pages"),
    "port-mac-address-regenerate": ("Neutron Port MAC address regenerate", "A new MAC address for a port"),
    "port-security": ("Port Security", "Protection against spoofed addresses on or off"),
    "port-security-groups-filtering": (
        "Port filtering on security groups",
        "Ports filtered by security group",
    ),
    "project-id": ("project_id field enabled", "project_id beside tenant_id"),
    "provider": ("Provider Network", "How a network is built"),
    "quota-check-limit": ("Quota engine limit check", "A limit below what is used can be refused"),
    "quota_details": ("Quota details management support", "Quotas with what is used of them"),
    "quotas": ("Quota management support", "Quotas by project"),
    "rbac-address-group": ("Add address_group type to RBAC", "Address groups shared with other projects"),
    "rbac-address-scope": ("Add address_scope type to RBAC", "Address scopes shared with other projects"),
    "rbac-policies": ("RBAC Policies", "What a project shares with another"),
    "rbac-security-groups": (
        "Add security_group type to network RBAC",
        "Security groups shared with other projects",
    ),
    "rbac-subnetpool": ("Add subnetpool type to RBAC", "Subnet pools shared with other projects"),
    "revision-if-match": (
        "If-Match constraints based on revision_number",
        "Changes only to the revision that was looked at",
    ),
    "router": ("Neutron L3 Router", "Routers and floating IPs"),
    "router_availability_zone": ("Router Availability Zone", "Availability zones of a router"),
    "security-group": ("security-group", "Security groups and their rules"),
    "security-groups-normalized-cidr": (
        "Normalized CIDR field for security group rules",
        "A rule's prefix without host bits",
    ),
    "security-groups-remote-address-group": (
        "Remote address group id field for security group rules",
        "Rules that let a named set of addresses through",
    ),
    "security-groups-shared-filtering": (
        "Security group filtering on the shared field",
        "Security groups filtered by sharing",
    ),
    "service-type": ("Neutron Service Type Management", "Providers of services"),
    "sort-key-validation": ("Sort keys validation", "Refuses unknown sort keys"),
    "sorting": ("Sorting support", "Sorted lists"),
    "standard-attr-description": ("standard-attr-description", "A description of each resource"),
    "standard-attr-revisions": ("Resource revision numbers", "How often a resource has changed"),
    "standard-attr-tag": ("Tag support for resources with standard attribute", "Tags on resources"),
    "standard-attr-timestamp": ("Resource timestamps", "When a resource was made and changed"),
    "stateful-security-group": (
        "Stateful security group",
        "Security groups with and without connection tracking",
    ),
    "subnet-external-network": ("Subnet belongs to an external network", "router:external on subnets"),
    "subnet-service-types": ("Subnet service types", "Subnets for certain kinds of ports"),
    "subnet_allocation": ("Subnet Allocation", "Subnet pools"),
    "subnetpool-prefix-ops": (
        "Subnet Pool Prefix Operations",
        "Prefixes added to and taken from a subnet pool",
    ),
    "tag-creation": ("Tag creation extension", "Several tags added at once"),
    "tag-ports-during-bulk-creation": ("Tag Ports During Bulk Creation", "Tags of ports from the start"),
}
_UPDATED = "2026-01-01T00:00:00-00:00"


def _view(alias: str) -> dict[str, Any]:
    name, says = EXTENSIONS[alias]
    return {"alias": alias, "name": name, "description": says, "updated": _UPDATED, "links": []}


class Extensions:
    """`/v2.0/extensions`"""

    public = True

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response) -> None:
        resp.media = {"extensions": [_view(alias) for alias in EXTENSIONS]}


class Extension:
    """`/v2.0/extensions/{alias}`"""

    public = True

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response, alias: str) -> None:
        if alias not in EXTENSIONS:
            raise NotFound(f"Extension with alias {alias[:64]} does not exist")
        resp.media = {"extension": _view(alias)}
