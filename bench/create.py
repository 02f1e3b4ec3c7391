"""Making things: a network with subnet and port, a volume until it is available, a server until it is ACTIVE.

    python -m bench.create [--rounds 30] [--seconds 20] [--os] [--json]

By default with fake hosts, so that what is measured is the control plane: API, jobs, database. `--os` measures the
cloud that the `OS_*` variables name. Everything that is made is deleted again after its round.
"""

import argparse
import contextlib
import time
from collections.abc import Callable
from typing import Any

from bench import cloud as clouds
from bench import measure
from bench.cloud import Cloud


def main() -> None:
    asked = argparse.ArgumentParser(prog="python -m bench.create", description=__doc__.splitlines()[0])
    asked.add_argument("--rounds", type=int, default=30)
    asked.add_argument("--seconds", type=float, default=20.0, help="longest time a measurement")
    asked.add_argument("--os", action="store_true", help="measure the cloud of the OS_* variables")
    asked.add_argument("--json", action="store_true")
    options = asked.parse_args()
    found: dict[str, Any] = {"machine": measure.machine()}
    with contextlib.nullcontext(clouds.named_by_environment()) if options.os else clouds.own() as cloud:
        image, flavor, rounds = cloud.image(), cloud.flavor(), (options.rounds, options.seconds)
        found["network, subnet and port"] = spread(lambda: network(cloud), *rounds)
        found["volume until available"] = spread(lambda: volume(cloud), *rounds)
        with kept_network(cloud) as made:
            found["server until ACTIVE"] = spread(lambda: server(cloud, image, flavor, made), *rounds)
    measure.report("create", found, as_json=options.json)


def spread(of: Callable[[], float], rounds: int, seconds: float) -> dict[str, float]:
    of()  # the first of its kind compiles statements and makes what a project has once
    taken: list[float] = []
    ends = time.perf_counter() + seconds
    while len(taken) < 3 or (len(taken) < rounds and time.perf_counter() < ends):
        taken.append(of())
    return measure.spread(taken)


def network(cloud: Cloud) -> float:
    """Seconds for a network, its subnet and a port on it."""
    began = time.perf_counter()
    id = cloud.call("network", "/networks", "POST", {"network": {"name": "bench"}}, expect=201).json[
        "network"
    ]["id"]
    subnet = {"network_id": id, "ip_version": 4, "cidr": "10.9.0.0/24"}
    cloud.call("network", "/subnets", "POST", {"subnet": subnet}, expect=201)
    port = cloud.call("network", "/ports", "POST", {"port": {"network_id": id}}, expect=201).json["port"][
        "id"
    ]
    took = time.perf_counter() - began
    cloud.call("network", f"/ports/{port}", "DELETE", expect=204)
    cloud.call("network", f"/networks/{id}", "DELETE", expect=204)
    return took


def volume(cloud: Cloud) -> float:
    """Seconds until a new volume of 1 GiB is available."""
    began = time.perf_counter()
    id = cloud.call("volume", "/volumes", "POST", {"volume": {"size": 1, "name": "bench"}}, expect=202).json[
        "volume"
    ]["id"]
    cloud.until(
        lambda: cloud.call("volume", f"/volumes/{id}").json["volume"]["status"] == "available", "a volume"
    )
    took = time.perf_counter() - began
    cloud.call("volume", f"/volumes/{id}", "DELETE", expect=202)
    cloud.until(lambda: cloud.status("volume", f"/volumes/{id}") == 404, "deletion of a volume")
    return took


@contextlib.contextmanager
def kept_network(cloud: Cloud) -> Any:
    """A network for the servers."""
    id = cloud.call("network", "/networks", "POST", {"network": {"name": "bench"}}, expect=201).json[
        "network"
    ]["id"]
    cloud.call(
        "network",
        "/subnets",
        "POST",
        {"subnet": {"network_id": id, "ip_version": 4, "cidr": "10.8.0.0/16"}},
        expect=201,
    )
    yield id
    cloud.call("network", f"/networks/{id}", "DELETE", expect=204)


def server(cloud: Cloud, image: str, flavor: str, network_id: str) -> float:
    """Seconds until a new server is ACTIVE."""
    want = {"name": "bench", "imageRef": image, "flavorRef": flavor, "networks": [{"uuid": network_id}]}
    began = time.perf_counter()
    id = cloud.call("compute", "/servers", "POST", {"server": want}, expect=202).json["server"]["id"]
    cloud.until(lambda: cloud.server(id)["status"] == "ACTIVE", "a server", seconds=300)
    took = time.perf_counter() - began
    cloud.call("compute", f"/servers/{id}", "DELETE", expect=204)
    cloud.until(lambda: cloud.status("compute", f"/servers/{id}") == 404, "deletion of a server")
    return took


if __name__ == "__main__":
    main()
