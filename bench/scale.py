"""Does an operation cost the same in a large cloud? The same calls with 100 and with 100,000 servers in the database.

    python -m bench.scale [--few 100] [--many 100000] [--one-project] [--json]

The servers beyond the first are spread over projects of a hundred, each with its own network; with `--one-project`
all are the caller's own. A ratio of 1 means: the same.
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
        fill.servers(cloud, template, options.few - 1)
        few = _all(cloud, template, options)
        more = options.many - options.few
        fill.servers(
            cloud,
            template,
            more,
            first=options.few,
            projects=0 if options.one_project else max(1, more // 100),
        )
        many = _all(cloud, template, options)
    for name, value in few.items():
        measured = "cpu_ms" if "cpu_ms" in value else "p50_ms"
        found[name] = {
            f"{options.few}": value,
            f"{options.many}": many[name],
            "ratio": {measured: round(many[name][measured] / value[measured], 2)},
        }
    measure.report("scale", found, as_json=options.json)


def _all(cloud: Cloud, template: fill.Template, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    image, flavor = cloud.image(), cloud.flavor()
    marker = cloud.call("compute", "/servers?limit=20").json["servers"][-1]["id"]
    made = {}
    for name, service, path in (
        ("GET server", "compute", f"/servers/{template.server_id}"),
        ("page of 50 servers", "compute", "/servers/detail?limit=50"),
        ("page of 50 of all projects", "compute", "/servers/detail?limit=50&all_tenants=1"),
        ("page after a marker", "compute", f"/servers?limit=20&marker={marker}"),
        ("server by name", "compute", "/servers?name=^bench-7$"),
        ("ports of a server", "network", f"/ports?device_id={template.server_id}"),
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
        lambda: create.server(cloud, image, flavor, template.network_id), 20, options.seconds * 2
    )
    return made


if __name__ == "__main__":
    main()
