"""What most tests of compute need: an image, a network, a server."""

from typing import Any

from tests.conftest import Answer, Bed, User

V = "/compute/v2.1"


def at(version: str) -> dict[str, str]:
    """The header that asks for a microversion."""
    return {"OpenStack-API-Version": f"compute {version}"}


def image(user: User, size: int = 1 << 20, **more: Any) -> str:
    """The id of an active image of `size` zero bytes."""
    want = {"name": "tiny", "disk_format": "raw", "container_format": "bare", **more}
    made = user.post("/image/v2/images", want)
    assert made.status == 201, made
    sent = user.put(
        f"/image/v2/images/{made.json['id']}/file",
        data=b"\0" * size,
        headers={"Content-Type": "application/octet-stream"},
    )
    assert sent.status == 204, sent
    return str(made.json["id"])


def network(user: User, name: str = "net", cidr: str = "10.1.0.0/24") -> str:
    made = user.post("/network/v2.0/networks", {"network": {"name": name}})
    assert made.status == 201, made
    id = str(made.json["network"]["id"])
    subnet = user.post("/network/v2.0/subnets", {"subnet": {"network_id": id, "cidr": cidr, "ip_version": 4}})
    assert subnet.status == 201, subnet
    return id


def boot(
    bed: Bed,
    user: User,
    *,
    version: str = "2.37",
    flavor: str = "42",
    settle: bool = True,
    hints: Any = None,
    **more: Any,
) -> dict[str, Any]:
    """A server of the smallest flavor; settled and shown."""
    want = {"name": "web", "flavorRef": flavor, "networks": "none", **more}
    if "block_device_mapping_v2" not in want and "imageRef" not in want:
        want["imageRef"] = bed.__dict__.setdefault("image_of", {}).get(user.project_id) or image(user)
        bed.__dict__["image_of"][user.project_id] = want["imageRef"]
    body = {"server": want} | ({"os:scheduler_hints": hints} if hints else {})
    made = user.post(f"{V}/servers", body, headers=at(version))
    assert made.status == 202, made
    if settle:
        bed.settle()
    return show(user, made.json["server"]["id"])


def show(user: User, id: str, version: str = "2.1") -> dict[str, Any]:
    got = user.get(f"{V}/servers/{id}", headers=at(version))
    assert got.status == 200, got
    return dict(got.json["server"])


def act(user: User, id: str, verb: str, value: Any = None, version: str = "2.1") -> Answer:
    return user.post(f"{V}/servers/{id}/action", {verb: value}, headers=at(version))


def status(user: User, id: str) -> str:
    got = user.get(f"{V}/servers/{id}")
    return str(got.json["server"]["status"]) if got.status == 200 else str(got.status)
