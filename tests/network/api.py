"""Short words for what the network tests ask of the cloud."""

from typing import Any

V2 = "/network/v2.0"


def make(user: Any, kind: str, *, expect: int = 201, plural: str | None = None, **attributes: Any) -> Any:
    """Create one; its attributes, or the error when another status is expected."""
    wire = {name.replace("__", ":"): value for name, value in attributes.items()}
    got = user.post(f"{V2}/{(plural or kind + 's').replace('_', '-')}", {kind: wire})
    assert got.status == expect, got
    return got.json[kind] if expect == 201 else got.json["NeutronError"]


def show(user: Any, kind: str, id: str) -> Any:
    got = user.get(f"{V2}/{kind.replace('_', '-')}s/{id}")
    assert got.status == 200, got
    return got.json[kind]


def change(user: Any, kind: str, id: str, *, expect: int = 200, **attributes: Any) -> Any:
    wire = {name.replace("__", ":"): value for name, value in attributes.items()}
    got = user.put(f"{V2}/{kind.replace('_', '-')}s/{id}", {kind: wire})
    assert got.status == expect, got
    return got.json[kind] if expect == 200 else got.json["NeutronError"]


def remove(user: Any, kind: str, id: str, *, expect: int = 204) -> Any:
    got = user.delete(f"{V2}/{kind.replace('_', '-')}s/{id}")
    assert got.status == expect, got
    return None if expect == 204 else got.json["NeutronError"]


def listed(user: Any, kind: str, query: str = "") -> list[Any]:
    got = user.get(f"{V2}/{kind.replace('_', '-')}s{'?' + query if query else ''}")
    assert got.status == 200, got
    return list(got.json[f"{kind}s"])


def net(user: Any, cidr: str = "10.0.0.0/24", **attributes: Any) -> tuple[Any, Any]:
    """A network with one subnet."""
    network = make(user, "network", **attributes)
    version = 6 if ":" in cidr else 4
    return network, make(user, "subnet", network_id=network["id"], cidr=cidr, ip_version=version)


def outside(user: Any) -> Any:
    """The external network."""
    return listed(user, "network", "router:external=true")[0]


def leg(user: Any, router_id: str, expect: int = 200, verb: str = "add", **body: Any) -> Any:
    got = user.put(f"{V2}/routers/{router_id}/{verb}_router_interface", body)
    assert got.status == expect, got
    return got.json


def things(cloud: Any, kind: str) -> dict[str, Any]:
    """What the fabric holds of a kind, after all steps have run."""
    cloud.settle()
    return {ref.id: thing for ref, thing in cloud.fabric.things.items() if ref.kind == kind}
