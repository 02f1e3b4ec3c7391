"""From rows to the description that a host works by: the only place where a `Domain` is made.

The documents for the guest follow the published formats of the OpenStack metadata service and of EC2's.
"""

import base64
import ipaddress
from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from stackling.base.db import Row
from stackling.compute.driver import Disk, Domain, GuestData, LocalDisk, MetadataPort, Nic, tap_name
from stackling.compute.state.block_device import Attached
from stackling.image.cache import ImageRef
from stackling.network.actions.port import Plug
from stackling.volume.driver import Connection


def domain(
    row: Row,
    *,
    devices: list[Row],
    plugs: list[Plug],
    tags: Mapping[str, str | None],
    connections: Mapping[str, Connection],
    shared: Collection[str] = (),
    zone: str,
    running: bool = True,
) -> Domain:
    """A server as its host should have it.

    `devices` and `plugs` are those wanted on it, in order; `tags` the device tags by port id; `connections` how to
    open each volume, by its id, and `shared` those that others may have open. `running` False: only prepare it.
    """
    flavor = row.flavor
    volumes = [d for d in devices if d.destination == "volume" and d.state != Attached.DETACHING]
    return Domain(
        id=row.id,
        name=row.name,
        vcpus=flavor["vcpus"],
        memory_mib=flavor["ram"],
        image=msgspec.convert(row.image, ImageRef) if row.image else None,
        root_disk_gib=flavor["disk"] if row.image else 0,
        root_device=row.root_device,
        local_disks=tuple(_local(d) for d in devices if d.destination == "local" and d.source == "blank"),
        disks=tuple(
            Disk(
                volume_id=d.volume_id,
                connection=connections[d.volume_id],
                device=d.device,
                shared=d.volume_id in shared,
                boot_index=d.boot_index if (d.boot_index or 0) >= 0 else None,
            )
            for d in volumes
        ),
        nics=tuple(_nic(p) for p in plugs),
        guest_data=guest_data(row, devices=devices, plugs=plugs, tags=tags, zone=zone),
        config_drive=row.config_drive,
        running=running,
        generation=row.generation,
        rescue=msgspec.convert(row.rescue, ImageRef) if row.rescue else None,
    )


def _local(device: Row) -> LocalDisk:
    if device.guest_format == "swap":
        return LocalDisk(kind="swap", size_mib=device.size_gib, device=device.device)
    return LocalDisk(kind="ephemeral", size_mib=device.size_gib * 1024, device=device.device)


def _nic(plug: Plug) -> Nic:
    metadata = None
    if plug.metadata is not None:
        metadata = MetadataPort(
            port_id=plug.metadata.port_id, mac=plug.metadata.mac_address, cidrs=plug.metadata.cidrs
        )
    return Nic(
        port_id=plug.port_id,
        mac=plug.mac_address,
        network_id=plug.network_id,
        mtu=plug.mtu,
        fixed_ips=tuple(f.ip_address for f in plug.fixed_ips),
        metadata=metadata,
    )


# -- what the guest reads about itself ---------------------------------------------------------------------------------


def guest_data(
    row: Row, *, devices: list[Row], plugs: list[Plug], tags: Mapping[str, str | None], zone: str
) -> GuestData:
    return GuestData(
        meta_data=meta_data(row, devices=devices, plugs=plugs, tags=tags, zone=zone),
        network_data=network_data(plugs),
        ec2=ec2_tree(row, devices=devices, plugs=plugs, zone=zone),
        user_data=base64.b64decode(row.user_data) if row.user_data else None,
    )


def meta_data(
    row: Row, *, devices: list[Row], plugs: list[Plug], tags: Mapping[str, str | None], zone: str
) -> dict[str, Any]:
    """meta_data.json; its `random_seed` is made on the host, fresh for each reading."""
    made: dict[str, Any] = {
        "uuid": row.id,
        "name": row.name,
        "hostname": row.hostname,
        "availability_zone": zone,
        "launch_index": row.launch_index,
        "project_id": row.project_id,
        "devices": _devices(devices, plugs, tags),
        "dedicated_cpus": [],
    }
    if row.meta:
        made["meta"] = row.meta
    if row.key:
        made["public_keys"] = {row.key_name: row.key["public_key"]}
        made["keys"] = [{"name": row.key_name, "type": row.key["type"], "data": row.key["public_key"]}]
    if row.admin_pass:
        made["admin_pass"] = row.admin_pass
    return made


def _devices(devices: list[Row], plugs: list[Plug], tags: Mapping[str, str | None]) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    for plug in plugs:
        tag = tags.get(plug.port_id)
        made.append({"type": "nic", "bus": "pci", "mac": plug.mac_address, "tags": [tag] if tag else []})
    for device in devices:
        if device.volume_id and device.state != Attached.DETACHING:
            named = [device.tag] if device.tag else []
            made.append(
                {
                    "type": "disk",
                    "bus": "virtio",
                    "path": f"/dev/{device.device}",
                    "serial": device.volume_id,
                    "tags": named,
                }
            )
    return made


def network_data(plugs: list[Plug]) -> dict[str, Any]:
    """network_data.json: links, the networks on them, and services."""
    links: list[dict[str, Any]] = []
    networks: list[dict[str, Any]] = []
    services: list[dict[str, str]] = []
    for plug in plugs:
        link = tap_name(plug.port_id)
        links.append(
            {
                "id": link,
                "vif_id": plug.port_id,
                "type": "ovs",
                "mtu": plug.mtu,
                "ethernet_mac_address": plug.mac_address,
            }
        )
        for fixed in plug.fixed_ips:
            net = ipaddress.ip_network(f"{fixed.ip_address}/{fixed.prefixlen}", strict=False)
            routes = [_route(r.destination, r.nexthop) for r in fixed.host_routes]
            if fixed.gateway_ip:
                routes.insert(0, _route("0.0.0.0/0" if net.version == 4 else "::/0", fixed.gateway_ip))
            dns = [{"type": "dns", "address": a} for a in fixed.dns_nameservers]
            networks.append(
                {
                    "id": f"network{len(networks)}",
                    "type": f"ipv{net.version}",
                    "link": link,
                    "ip_address": fixed.ip_address,
                    "netmask": str(net.netmask),
                    "routes": routes,
                    "network_id": plug.network_id,
                    "services": dns,
                }
            )
            services += [d for d in dns if d not in services]
    return {"links": links, "networks": networks, "services": services}


def _route(destination: str, gateway: str) -> dict[str, str]:
    net = ipaddress.ip_network(destination, strict=False)
    return {"network": str(net.network_address), "netmask": str(net.netmask), "gateway": gateway}


def ec2_tree(row: Row, *, devices: list[Row], plugs: list[Plug], zone: str) -> dict[str, Any]:
    """What EC2's metadata service would say: directories are dicts."""
    fixed = [f.ip_address for p in plugs for f in p.fixed_ips if f.ip_version == 4]
    floating = [ip for p in plugs for ip in p.floating_ips]
    groups = list(dict.fromkeys(name for p in plugs for name in p.security_group_names))
    mapping = {"ami": row.root_device, "root": f"/dev/{row.root_device}"}
    mapping |= {
        f"ebs{i}": f"/dev/{d.device}"
        for i, d in enumerate(d for d in devices if d.volume_id and d.boot_index != 0)
    }
    return {
        "ami-id": f"ami-{(row.image_id or row.id)[:8]}",
        "ami-launch-index": str(row.launch_index),
        "ami-manifest-path": "",
        "block-device-mapping": mapping,
        "hostname": row.hostname,
        "instance-action": "none",
        "instance-id": f"i-{row.id[:8]}",
        "instance-type": row.flavor["name"],
        "local-hostname": row.hostname,
        "local-ipv4": fixed[0] if fixed else "",
        "placement": {"availability-zone": zone},
        "public-hostname": row.hostname,
        "public-ipv4": floating[0] if floating else "",
        "reservation-id": row.reservation_id,
        "security-groups": "\n".join(groups),
    }
