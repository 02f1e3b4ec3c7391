"""Does an operation cost the same in a large cloud? The same calls with 100 and with 100,000 of everything in the database.

    python -m bench.scale [--few 100] [--many 100000] [--one-project] [--json]

Servers with their ports, and as many images and users. The servers beyond the first are spread over projects of a
hundred, each with its own network; with `--one-project` all are the caller's own, as the images always are. A ratio of 1
means: the same.
"""

import argparse
from typing import Any

from bench import cloud as clouds
from bench import create, fill, measure
from bench.cloud import Cloud


def main() -> None:
    asked = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__.splitlines()[0])
    asked.add_argument("--few", type=int, default=100)
    asked.add_argument("--many", type=int, default=100_000)
    asked.add_argument("--one-project", action="store_true", help="all servers in the caller's project")
    asked.add_argument("--seconds", type=float, default=4.0, help="longest time a measurement")
    asked.add_argument("--count", type=int, default=1000, help="most requests a measurement")
    asked.add_argument("--json", action="store_true")
    options = asked.parse_args()
    found: dict[str, Any] = {"machine": measure.machine()}
    with clouds.own() as cloud:
        for quota in ("instances", "cores", "ram"):
            cloud.call("compute", f"/os-quota-sets/{cloud.project_id}", "PUT", {"quota_set": {quota: -1}})
        cloud.call("network", f"/quotas/{cloud.project_id}", "PUT", {"quota": {"port": -1}})
        template = fill.template(cloud)
        others = _others(cloud)
        fill.servers(cloud, template, options.few - 1)
        for id, name in others:
            fill.copies(cloud, id, name, options.few - 1)
        few = _all(cloud, template, options)
        more = options.many - options.few
        fill.servers(
            cloud,
            template,
            more,
            first=options.few,
            projects=0 if options.one_project else max(1, more // 100),
        )
        for id, name in others:
            fill.copies(cloud, id, name, more, first=options.few)
        many = _all(cloud, template, options)
    for name, value in few.items():
        measured = "cpu_ms" if "cpu_ms" in value else "p50_ms"
        found[name] = {
            f"{options.few}": value,
            f"{options.many}": many[name],
            "ratio": {measured: round(many[name][measured] / value[measured], 2)},
        }
    measure.report("scale", found, as_json=options.json)


def _others(cloud: Cloud) -> list[tuple[str, str]]:
    """An image and a user, with their names."""
    image = cloud.call("image", "/images", "POST", {"name": "bench-image"}, expect=201).json
    user = cloud.call("identity", "/users", "POST", {"user": {"name": "bench-user"}}, expect=201).json["user"]
    return [(image["id"], "bench-image"), (user["id"], "bench-user")]


def _marker(cloud: Cloud, service: str, path: str, key: str, size: int = 20) -> str:
    """The id of the last of the first `size`, to ask for what comes after."""
    sign = "&" if "?" in path else "?"
    return str(cloud.call(service, f"{path}{sign}limit={size}").json[key][-1]["id"])


def _all(cloud: Cloud, template: fill.Template, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    boot, flavor = cloud.image(), cloud.flavor()
    made = {}
    marker = _marker(cloud, "compute", "/servers", "servers")
    deep = _marker(cloud, "compute", "/servers?all_tenants=1&sort_dir=asc&sort_key=created_at", "servers")
    port = _marker(cloud, "network", "/ports", "ports")
    image = _marker(cloud, "image", "/images", "images")
    user = _marker(cloud, "identity", "/users", "users")
    for name, service, path in (
        ("GET server", "compute", f"/servers/{template.server_id}"),
        ("page of 50 servers", "compute", "/servers/detail?limit=50"),
        ("page of 50 of all projects", "compute", "/servers/detail?limit=50&all_tenants=1"),
        ("page after a marker", "compute", f"/servers?limit=20&marker={marker}"),
        ("page from the end, all projects", "compute", f"/servers?limit=20&all_tenants=1&marker={deep}"),
        ("server by name", "compute", "/servers?name=^bench-7$"),
        ("ports of a server", "network", f"/ports?device_id={template.server_id}"),
        ("page of 50 ports", "network", "/ports?limit=50"),
        ("ports after a marker", "network", f"/ports?limit=20&marker={port}"),
        ("page of 25 images", "image", "/images?limit=25"),
        ("images after a marker", "image", f"/images?limit=20&marker={image}"),
        ("image by name", "image", "/images?name=bench-image-7"),
        ("page of 50 users", "identity", "/users?limit=50"),
        ("users after a marker", "identity", f"/users?limit=20&marker={user}"),
        ("user by name", "identity", "/users?name=bench-user-7"),
    ):
        made[name] = measure.sequential(
            cloud.url(service),
            cloud.wire(service, path),
            200,
            cloud.pids,
            most=options.count,
            seconds=options.seconds,
        )
    made["network, subnet and port"] = create.spread(lambda: create.network(cloud), 20, options.seconds)
    made["server until ACTIVE"] = create.spread(
        lambda: create.server(cloud, boot, flavor, template.network_id), 20, options.seconds * 2
    )
    return made


if __name__ == "__main__":
    main()
