"""Security groups in OVN: a port group each with its ACLs, and one that drops what no rule lets through.

Every port with port security is in `pg_drop`, which drops all IP at priority 1001; rules allow at 1002.
A rule's remote group is the address set that ovn-northd keeps for each port group.
"""

from __future__ import annotations

import ipaddress
import logging

from stackling.network.driver import Kind, Ref, SecurityGroup, SecurityGroupRule
from stackling.network.drivers.ovn_rows import Row, derived, uuid_of

LOG = logging.getLogger(__name__)

ALLOW, DROP = 1002, 1001
DROP_GROUP = "pg_drop"
DROP_OWNER = Ref(Kind.SECURITY_GROUP, DROP_GROUP)
DROP_UUID = derived(DROP_GROUP)

_TRANSPORTS = {"tcp": "tcp", "6": "tcp", "udp": "udp", "17": "udp", "sctp": "sctp", "132": "sctp"}
_ICMP = ("icmp", "1", "icmpv6", "ipv6-icmp", "58")
# Protocol numbers of the names that Neutron takes (IANA's).
_NUMBERS = {
    "ah": 51,
    "dccp": 33,
    "egp": 8,
    "esp": 50,
    "gre": 47,
    "hopopt": 0,
    "igmp": 2,
    "ip": 0,
    "ipip": 4,
    "ipv6-encap": 41,
    "ipv6-frag": 44,
    "ipv6-nonxt": 59,
    "ipv6-opts": 60,
    "ipv6-route": 43,
    "ospf": 89,
    "pgm": 113,
    "rsvp": 46,
    "udplite": 136,
    "vrrp": 112,
}
# What a guest needs before any rule of its owner can matter: to ask for an address, and to find neighbours. The
# answers of OVN's own DHCP pass by themselves (ovn-northd adds a flow); those of other guests need a rule.
_ALWAYS = (
    ("from-lport", "ip4 && udp.src == 68 && udp.dst == 67"),
    ("from-lport", "ip6 && udp.src == 546 && udp.dst == 547"),
    ("from-lport", "nd || nd_rs || mldv1 || mldv2"),
    ("to-lport", "nd || nd_ra || mldv1 || mldv2"),
)


def group_name(id: str) -> str:
    """The port group of a security group; OVN takes no dashes in names."""
    return "pg_" + str(uuid_of(id)).replace("-", "_")


def group_row(id: str) -> Row:
    """The port group of a security group, without its ACLs."""
    return Row(
        table="Port_Group",
        uuid=uuid_of(id),
        owner=Ref(Kind.SECURITY_GROUP, id),
        columns={"name": group_name(id)},
    )


def drop_rows() -> list[Row]:
    """`pg_drop` with its ACLs."""
    group = Row(table="Port_Group", uuid=DROP_UUID, owner=DROP_OWNER, columns={"name": DROP_GROUP})
    rows = [group]
    for direction, side in (("from-lport", "inport"), ("to-lport", "outport")):
        rows.append(_drop_acl(direction, f"{side} == @{DROP_GROUP} && ip", DROP, "drop"))
    for direction, what in _ALWAYS:
        side = "inport" if direction == "from-lport" else "outport"
        rows.append(_drop_acl(direction, f"{side} == @{DROP_GROUP} && ({what})", ALLOW, "allow"))
    return rows


def _drop_acl(direction: str, match: str, priority: int, action: str) -> Row:
    columns = {"direction": direction, "match": match, "priority": priority, "action": action}
    return Row(
        table="ACL",
        uuid=derived(DROP_GROUP, direction, match),
        owner=DROP_OWNER,
        columns=columns,
        parent=DROP_UUID,
    )


def acl_rows(group: SecurityGroup) -> list[Row]:
    """The ACLs of a security group, one for each rule."""
    action = "allow-related" if group.stateful else "allow-stateless"
    rows = []
    for rule in group.rules:
        match = match_of(group.id, rule)
        if match is None:
            LOG.warning("security group rule %s cannot be said in OVN and lets nothing through", rule.id)
            continue
        columns = {
            "direction": "to-lport" if rule.direction == "ingress" else "from-lport",
            "match": match,
            "priority": ALLOW,
            "action": action,
        }
        rows.append(
            Row(
                table="ACL",
                uuid=uuid_of(rule.id),
                owner=Ref(Kind.SECURITY_GROUP, group.id),
                columns=columns,
                parent=uuid_of(group.id),
            )
        )
    return rows


def remote_group_ids(group: SecurityGroup) -> set[str]:
    """The groups that its rules point to."""
    return {rule.remote_group_id for rule in group.rules if rule.remote_group_id}


def match_of(group_id: str, rule: SecurityGroupRule) -> str | None:
    """A rule in OVN's match language (ovn-sb(5), Logical_Flow); None when it has no words for it."""
    ingress = rule.direction == "ingress"
    family = "ip4" if rule.ethertype == "IPv4" else "ip6"
    terms = [f"{'outport' if ingress else 'inport'} == @{group_name(group_id)}", family]
    remote = f"{family}.{'src' if ingress else 'dst'}"
    if rule.remote_ip_prefix:
        prefix = ipaddress.ip_network(rule.remote_ip_prefix, strict=False)
        if prefix.prefixlen:
            terms.append(f"{remote} == {prefix}")
    if rule.remote_group_id:
        terms.append(f"{remote} == ${group_name(rule.remote_group_id)}_{family}")
    protocol = _protocol_terms(rule)
    return None if protocol is None else " && ".join(terms + protocol)


def _protocol_terms(rule: SecurityGroupRule) -> list[str] | None:
    name = (rule.protocol or "any").lower()
    low, high = rule.port_range_min, rule.port_range_max
    if name == "any":
        return []
    if name in _TRANSPORTS:
        transport = _TRANSPORTS[name]
        if low is None and high is None:
            return [transport]
        first, last = low if low is not None else high, high if high is not None else low
        if first == last:
            return [transport, f"{transport}.dst == {first}"]
        return [transport, f"{transport}.dst >= {first}", f"{transport}.dst <= {last}"]
    if name in _ICMP:
        # Neutron lets "icmp" stand for ICMPv6 too in a rule of ethertype IPv6.
        word = "icmp4" if rule.ethertype == "IPv4" else "icmp6"
        if word == "icmp4" and name not in ("icmp", "1"):
            return ["ip.proto == 58"]
        terms = [word]
        if low is not None:
            terms.append(f"{word}.type == {low}")
            if high is not None:
                terms.append(f"{word}.code == {high}")
        return terms
    number = _NUMBERS.get(name, int(name) if name.isdecimal() and int(name) < 256 else None)
    if number is None or low is not None or high is not None:
        return None  # ports of dccp or udplite: OVN cannot match them, and all ports would be too many
    return [f"ip.proto == {number}"]
