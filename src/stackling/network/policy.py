"""Who may do what in the network service: Neutron's rule names and defaults.

`field:networks:shared=True` in an operator's policy file compares an attribute of the target, as in Neutron.
"""

import re
from typing import Any

from oslo_policy import policy

from stackling.base.policy import Rule

ADMIN = "rule:admin_only"
MEMBER = "rule:admin_only or (role:member and project_id:%(project_id)s)"
READER = "rule:admin_only or (role:reader and project_id:%(project_id)s)"
NET_OWNER = "rule:admin_only or (role:member and rule:network_owner)"
NET_OWNER_READER = "rule:admin_only or (role:reader and rule:network_owner)"
NET_OWNER_OR_MEMBER = f"{MEMBER} or (role:member and rule:network_owner)"
SERVICE = "rule:admin_only or role:service"
ANY = "@"


class FieldCheck(policy.Check):
    """`field:<collection>:<attribute>=<value>`: whether the target's attribute has that value, or fits `~<regex>`."""

    def __init__(self, kind: str, match: str) -> None:
        super().__init__(kind, match)
        _, _, pair = match.partition(":")
        self._name, _, self._value = pair.rpartition("=")

    def __call__(self, target: Any, creds: Any, enforcer: Any, current_rule: Any = None) -> bool:
        found = target.get(self._name)
        if found is None:
            return False
        if self._value.startswith("~"):
            return re.match(self._value[1:], str(found)) is not None
        return str(found) == self._value


policy.register("field", FieldCheck)


def _rules(check: str, *names: str) -> list[Rule]:
    return [Rule(name, check) for name in names]


def _crud(
    noun: str, *, create: str = MEMBER, get: str = READER, update: str = MEMBER, delete: str = MEMBER
) -> list[Rule]:
    return [
        Rule(f"create_{noun}", create),
        Rule(f"get_{noun}", get),
        Rule(f"update_{noun}", update),
        Rule(f"delete_{noun}", delete),
    ]


def _tags(collection: str) -> list[Rule]:
    return [
        *_rules(READER, f"get_{collection}_tags"),
        *_rules(
            MEMBER, f"create_{collection}_tags", f"update_{collection}_tags", f"delete_{collection}_tags"
        ),
    ]


RULES = [
    Rule("admin_only", "role:admin", "An administrator of the cloud"),
    Rule(
        "network_owner", "tenant_id:%(network:tenant_id)s", "The project that owns the network of the target"
    ),
    Rule("shared", "field:networks:shared=True", "The network is shared"),
    Rule("external", "field:networks:router:external=True", "The network is external"),
    Rule("shared_subnetpools", "field:subnetpools:shared=True", "The subnet pool is shared"),
    Rule("shared_address_scopes", "field:address_scopes:shared=True", "The address scope is shared"),
    # networks
    *_crud("network", get=f"{READER} or rule:shared or rule:external"),
    *_rules(MEMBER, "create_network:port_security_enabled", "update_network:port_security_enabled"),
    *(
        rule
        for verb in ("create", "update")
        for rule in _rules(
            ADMIN,
            f"{verb}_network:shared",
            f"{verb}_network:router:external",
            f"{verb}_network:is_default",
            f"{verb}_network:provider:network_type",
            f"{verb}_network:provider:physical_network",
            f"{verb}_network:provider:segmentation_id",
        )
    ),
    *_rules(
        ADMIN,
        "get_network:provider:network_type",
        "get_network:provider:physical_network",
        "get_network:provider:segmentation_id",
        "get_network_ip_availability",
    ),
    *_tags("networks"),
    # subnets
    *_crud(
        "subnet",
        create=NET_OWNER,
        get=f"{READER} or rule:shared or rule:external or (role:reader and rule:network_owner)",
        update=NET_OWNER_OR_MEMBER,
        delete=NET_OWNER_OR_MEMBER,
    ),
    *_rules(ADMIN, "create_subnet:service_types", "update_subnet:service_types"),
    *_tags("subnets"),
    # subnet pools
    *_crud("subnetpool", get=f"{READER} or rule:shared_subnetpools"),
    *_rules(
        ADMIN, "create_subnetpool:shared", "create_subnetpool:is_default", "update_subnetpool:is_default"
    ),
    *_rules(MEMBER, "add_prefixes", "remove_prefixes"),
    *_tags("subnetpools"),
    *_crud("address_scope", get=f"{READER} or rule:shared_address_scopes"),
    *_rules(ADMIN, "create_address_scope:shared", "update_address_scope:shared"),
    # ports
    *_crud(
        "port",
        get=f"{READER} or (role:reader and rule:network_owner)",
        update=f"{SERVICE} or {MEMBER}",
        delete=f"{SERVICE} or {NET_OWNER_OR_MEMBER}",
    ),
    *(
        rule
        for verb in ("create", "update")
        for rule in [
            *_rules(
                f"not rule:network_device or {SERVICE} or (role:member and rule:network_owner)",
                f"{verb}_port:device_owner",
            ),
            *_rules(
                f"{SERVICE} or (role:member and rule:network_owner)",
                f"{verb}_port:fixed_ips:ip_address",
                f"{verb}_port:port_security_enabled",
                f"{verb}_port:mac_address",
            ),
            *_rules(
                f"{SERVICE} or (role:member and rule:network_owner) or rule:shared",
                f"{verb}_port:fixed_ips",
                f"{verb}_port:fixed_ips:subnet_id",
            ),
            *_rules(NET_OWNER, f"{verb}_port:allowed_address_pairs"),
            *_rules(SERVICE, f"{verb}_port:binding:host_id", f"{verb}_port:binding:profile"),
            *_rules(f"{SERVICE} or {MEMBER}", f"{verb}_port:binding:vnic_type"),
        ]
    ),
    Rule(
        "network_device", "field:port:device_owner=~^network:", "The port is a device of the network itself"
    ),
    *_rules(SERVICE, "get_port:binding:host_id", "get_port:binding:profile"),
    *_rules(ADMIN, "get_port:binding:vif_type", "get_port:binding:vif_details"),
    *_tags("ports"),
    # routers
    *_crud("router"),
    *_rules(ADMIN, "create_router:distributed", "update_router:distributed", "get_router:distributed"),
    *_rules(ADMIN, "create_router:ha", "update_router:ha", "get_router:ha"),
    *(
        rule
        for verb in ("create", "update")
        for rule in [
            *_rules(
                MEMBER,
                f"{verb}_router:external_gateway_info",
                f"{verb}_router:external_gateway_info:network_id",
            ),
            *_rules(
                ADMIN,
                f"{verb}_router:external_gateway_info:enable_snat",
                f"{verb}_router:external_gateway_info:external_fixed_ips",
            ),
        ]
    ),
    *_rules(
        MEMBER, "add_router_interface", "remove_router_interface", "add_extraroutes", "remove_extraroutes"
    ),
    *_tags("routers"),
    # floating IPs
    *_crud("floatingip"),
    *_rules(ADMIN, "create_floatingip:floating_ip_address"),
    *_rules(ANY, "get_floatingip_pool"),
    *_tags("floatingips"),
    # security groups
    *_crud("address_group", get=f"{READER} or rule:shared_address_groups"),
    Rule(
        "shared_address_groups",
        "field:address_groups:shared=True",
        "The address group is shared with the caller's project",
    ),
    *_rules(MEMBER, "add_addresses", "remove_addresses"),
    *_tags("address_groups"),
    *_crud("security_group", get=f"{READER} or rule:shared_security_group"),
    Rule(
        "shared_security_group",
        "field:security_groups:shared=True",
        "The security group is shared with the caller's project",
    ),
    *_crud("security_group_rule"),
    *_tags("security_groups"),
    # the cloud itself
    *_crud("rbac_policy"),
    Rule(
        "restrict_wildcard",
        "(not field:rbac_policy:target_tenant=*) or rule:admin_only",
        "Only administrators share with everybody",
    ),
    *_rules("rule:restrict_wildcard", "create_rbac_policy:target_tenant", "update_rbac_policy:target_tenant"),
    *_rules(READER, "get_quota"),
    *_rules(ADMIN, "update_quota", "delete_quota"),
    *_rules(ADMIN, "get_agent", "update_agent", "delete_agent"),
    *_rules(ADMIN, "get_l3-agents", "get_l3-routers", "create_l3-router", "delete_l3-router"),
    *_rules(ADMIN, "get_dhcp-agents", "get_dhcp-networks", "create_dhcp-network", "delete_dhcp-network"),
    *(
        rule
        for noun in ("metering_label", "metering_label_rule")
        for rule in _rules(ADMIN, f"create_{noun}", f"get_{noun}", f"delete_{noun}")
    ),
    *_rules(ANY, "get_availability_zone", "get_service_provider"),
    *_rules(MEMBER, "get_auto_allocated_topology", "delete_auto_allocated_topology"),
]
