"""Networks and ports in OVN: a logical switch each with its DNS names, and a logical switch port each."""

from __future__ import annotations

from uuid import UUID

from stackling.network.driver import Kind, Network, Port, PortKind, Ref
from stackling.network.drivers import ovn_dhcp
from stackling.network.drivers.ovn_acl import DROP_UUID
from stackling.network.drivers.ovn_rows import Row, derived, uuid_of

PHYSICAL = ("flat", "vlan")


def dns_uuid(network_id: str) -> UUID:
    """The UUID of a network's DNS row."""
    return derived(network_id, "dns")


def localnet_uuid(network_id: str) -> UUID:
    """The UUID of the port that leads to a network's physical network."""
    return derived(network_id, "localnet")


def network_rows(network: Network) -> list[Row]:
    """A network's switch, its DHCP options, its DNS row and its way to the physical network."""
    owner = Ref(Kind.NETWORK, network.id)
    served = {subnet.id: ovn_dhcp.serve(subnet, network) for subnet in network.subnets}
    subnets = sorted(id for id, what in served.items() if what is not None)
    dns = Row(table="DNS", uuid=dns_uuid(network.id), owner=owner, columns={})
    switch = Row(
        table="Logical_Switch",
        uuid=uuid_of(network.id),
        owner=owner,
        columns={
            "name": network.id,
            "dns_records": [dns.uuid],
            "other_config": {"mcast_snoop": "false", "vlan-passthru": "false"},
        },
        external_ids={"subnets": " ".join(subnets), "dns_domain": network.dns_domain.rstrip(".").lower()},
    )
    rows = [dns, switch]
    rows += [ovn_dhcp.subnet_row(id, network.id, what) for id, what in served.items() if what is not None]
    if network.network_type in PHYSICAL and network.physical_network:
        rows.append(_localnet(network, owner))
    return rows


def _localnet(network: Network, owner: Ref) -> Row:
    return Row(
        table="Logical_Switch_Port",
        uuid=localnet_uuid(network.id),
        owner=owner,
        parent=uuid_of(network.id),
        columns={
            "name": f"provnet-{network.id}",
            "type": "localnet",
            "addresses": ["unknown"],
            "options": {"network_name": network.physical_network, "mcast_flood": "false"},
            "tag": [network.segmentation_id]
            if network.network_type == "vlan" and network.segmentation_id
            else [],
        },
    )


def groups_of(port: Port) -> list[UUID]:
    """The port groups that a port is in."""
    if not guarded(port):
        return []
    return [DROP_UUID, *(uuid_of(id) for id in port.security_group_ids)]


def guarded(port: Port) -> bool:
    """Whether port security and security groups hold for it: never for the cloud's own ports."""
    return port.port_security_enabled and port.port_kind in (PortKind.SERVER, PortKind.OTHER)


def names_of(port: Port, dns_domain: str) -> dict[str, str]:
    """The DNS names that a port answers to on its network, and their addresses."""
    return dns_names(port.dns_name, dns_domain, " ".join(fixed.ip_address for fixed in port.fixed_ips))


def dns_names(name: str, domain: str, addresses: str) -> dict[str, str]:
    """A name alone and in its domain; OVN compares in lower case."""
    short, domain = name.rstrip(".").lower(), domain.rstrip(".").lower()
    if not short or not addresses:
        return {}
    return dict.fromkeys((short, f"{short}.{domain}" if domain else short), addresses)


def port_rows(port: Port, lookup: ovn_dhcp.Lookup) -> list[Row]:
    """A port's logical switch port, and DHCP options of its own when it asks for some."""
    wish = ovn_dhcp.wish_of(port)
    dhcp, own = ovn_dhcp.port_rows(port.id, wish, lookup)
    noted = {
        "network": port.network_id,
        "groups": " ".join(sorted(port.security_group_ids)) if guarded(port) else "",
        "guarded": "yes" if guarded(port) else "",
        "dns_name": port.dns_name.rstrip(".").lower(),
        "addresses": " ".join(fixed.ip_address for fixed in port.fixed_ips),
        "dhcp": ovn_dhcp.pack(wish),
    }
    switch_port = Row(
        table="Logical_Switch_Port",
        uuid=uuid_of(port.id),
        owner=Ref(Kind.PORT, port.id),
        parent=uuid_of(port.network_id),
        columns={"name": port.id, "enabled": [port.admin_state_up]} | _shape(port) | dhcp,
        external_ids=noted,
    )
    return [*own, switch_port]


def _shape(port: Port) -> dict[str, object]:
    """Type, addresses and options by what the port is for."""
    own = " ".join([port.mac_address, *(fixed.ip_address for fixed in port.fixed_ips)])
    if port.port_kind in (PortKind.ROUTER_INTERFACE, PortKind.ROUTER_GATEWAY):
        options = {"router-port": f"lrp-{port.id}"}
        if port.port_kind is PortKind.ROUTER_GATEWAY:
            # Tell the outside at once where floating IPs and SNAT live, also after a failover.
            options |= {"nat-addresses": "router", "exclude-lb-vips-from-garp": "true"}
        return {"type": "router", "addresses": ["router"], "port_security": [], "options": options}
    if port.port_kind is PortKind.METADATA:
        return {"type": "localport", "addresses": [own], "port_security": [], "options": {}}
    options = {}
    if port.requested_chassis:
        options["requested-chassis"] = ",".join(port.requested_chassis)
    if len(port.requested_chassis) > 1:
        # A guest on the move: the target stays silent until the guest speaks there, else both fight for it.
        options["activation-strategy"] = "rarp"
    lines = _allowed(port)
    if guarded(port):
        return {"type": "", "addresses": lines[0], "port_security": lines[1], "options": options}
    return {"type": "", "addresses": [own, "unknown"], "port_security": [], "options": options}


def _allowed(port: Port) -> tuple[list[str], list[str]]:
    """Where frames are delivered, and what may be sent: a line for each MAC address."""
    by_mac: dict[str, list[str]] = {port.mac_address: [fixed.ip_address for fixed in port.fixed_ips]}
    for pair in port.allowed_address_pairs:
        by_mac.setdefault((pair.mac_address or port.mac_address).lower(), []).append(pair.ip_address)
    addresses = [" ".join([port.mac_address, *(fixed.ip_address for fixed in port.fixed_ips)])]
    addresses += [mac for mac in by_mac if mac != port.mac_address]
    return addresses, [" ".join([mac, *dict.fromkeys(ips)]) for mac, ips in by_mac.items()]
