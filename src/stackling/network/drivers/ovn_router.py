"""Routers and floating IPs in OVN: a logical router each with its ports, routes and NAT."""

from __future__ import annotations

import ipaddress

from stackling.network.driver import FloatingIP, Kind, Ref, Router, RouterGateway, RouterInterface
from stackling.network.drivers.ovn_rows import Row, derived, uuid_of

OWNED = (
    ("ports", "Logical_Router_Port"),
    ("static_routes", "Logical_Router_Static_Route"),
    ("nat", "NAT"),
)
"""The columns of a logical router whose rows with the router's mark are the router's alone."""

NEIGHBOUR_SECONDS = 300
_ADDRESS_MODE = {
    "slaac": "slaac",
    "dhcpv6-stateful": "dhcpv6_stateful",
    "dhcpv6-stateless": "dhcpv6_stateless",
}


def port_name(port_id: str) -> str:
    """The logical router port at the other end of a logical switch port."""
    return f"lrp-{port_id}"


def router_rows(router: Router) -> list[Row]:
    """A router with all its legs, routes and SNAT."""
    owner = Ref(Kind.ROUTER, router.id)
    rows = [
        Row(
            table="Logical_Router",
            uuid=uuid_of(router.id),
            owner=owner,
            columns={
                "name": router.id,
                "enabled": [router.admin_state_up],
                # Neighbours are learned when needed: with many routers on a network, each ARP request
                # would otherwise become a row of the southbound database for every one of them.
                # Ageing: else a neighbour outside that got a new MAC address is lost for ever.
                "options": {
                    "always_learn_from_arp_request": "false",
                    "dynamic_neigh_routers": "true",
                    "mac_binding_age_threshold": str(NEIGHBOUR_SECONDS),
                },
            },
        )
    ]
    rows += [_interface(router, owner, interface) for interface in router.interfaces]
    if router.gateway is not None:
        rows += _gateway(router, owner, router.gateway)
    rows += [_route(router, owner, route.destination, route.nexthop, None) for route in router.routes]
    return rows


def _interface(router: Router, owner: Ref, interface: RouterInterface) -> Row:
    advertise = {}
    if interface.ipv6_ra_mode:
        advertise = {"address_mode": _ADDRESS_MODE[interface.ipv6_ra_mode], "send_periodic": "true"}
        if interface.mtu:
            advertise["mtu"] = str(interface.mtu)
    options = {"reside-on-redirect-chassis": "true"} if interface.reside_on_redirect_chassis else {}
    return Row(
        table="Logical_Router_Port",
        uuid=derived(interface.port_id, "lrp"),
        owner=owner,
        parent=uuid_of(router.id),
        columns={
            "name": port_name(interface.port_id),
            "mac": interface.mac_address,
            "networks": list(interface.networks),
            "options": options,
            "ipv6_ra_configs": advertise,
            "gateway_chassis": [],
        },
        external_ids={"network": interface.network_id},
    )


def _gateway(router: Router, owner: Ref, gateway: RouterGateway) -> list[Row]:
    name = port_name(gateway.port_id)
    leg = Row(
        table="Logical_Router_Port",
        uuid=derived(gateway.port_id, "lrp"),
        owner=owner,
        parent=uuid_of(router.id),
        columns={
            "name": name,
            "mac": gateway.mac_address,
            "networks": list(gateway.networks),
            "options": {"gateway_mtu": str(gateway.mtu)} if gateway.mtu else {},
            "ipv6_ra_configs": {},
        },
        external_ids={"network": gateway.network_id},
    )
    rows = [leg]
    for chassis in gateway.chassis:
        rows.append(
            Row(
                table="Gateway_Chassis",
                uuid=derived(gateway.port_id, "chassis", chassis.name),
                owner=owner,
                parent=leg.uuid,
                columns={
                    "name": f"{name}_{chassis.name}",
                    "chassis_name": chassis.name,
                    "priority": chassis.priority,
                },
            )
        )
    for ip in gateway.gateway_ips:
        rows.append(_route(router, owner, "::/0" if ":" in ip else "0.0.0.0/0", ip, name))
    outside = next((address.split("/")[0] for address in gateway.networks if ":" not in address), None)
    if router.enable_snat and outside:
        for cidr in dict.fromkeys(router.snat_cidrs):
            rows.append(_snat(router, owner, str(ipaddress.ip_network(cidr, strict=False)), outside))
    return rows


def _route(router: Router, owner: Ref, destination: str, nexthop: str, port: str | None) -> Row:
    return Row(
        table="Logical_Router_Static_Route",
        uuid=derived(router.id, "route", destination, nexthop),
        owner=owner,
        parent=uuid_of(router.id),
        columns={"ip_prefix": destination, "nexthop": nexthop, "output_port": [port] if port else []},
    )


def _snat(router: Router, owner: Ref, cidr: str, outside: str) -> Row:
    return Row(
        table="NAT",
        uuid=derived(router.id, "snat", cidr),
        owner=owner,
        parent=uuid_of(router.id),
        columns={"type": "snat", "logical_ip": cidr, "external_ip": outside},
    )


def floating_ip_rows(floating_ip: FloatingIP) -> list[Row]:
    """A floating IP's NAT. With an external MAC, the guest's own host answers for it."""
    distributed = floating_ip.external_mac is not None
    return [
        Row(
            table="NAT",
            uuid=uuid_of(floating_ip.id),
            owner=Ref(Kind.FLOATING_IP, floating_ip.id),
            parent=uuid_of(floating_ip.router_id),
            columns={
                "type": "dnat_and_snat",
                "external_ip": floating_ip.floating_ip_address,
                "logical_ip": floating_ip.fixed_ip_address,
                "external_mac": [floating_ip.external_mac] if distributed else [],
                "logical_port": [floating_ip.port_id] if distributed else [],
            },
            external_ids={"port": floating_ip.port_id},
        )
    ]
