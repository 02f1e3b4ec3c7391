"""Reading: what one authenticated GET, a list of 1,000 servers, a token's validation and a login cost.

    python -m bench.api [--seconds 5] [--servers 1000] [--json]

Against a bare Falcon under the same Granian in the same run, so that `times_hello` compares across machines.
"""

import argparse
from typing import Any

from bench import cloud, fill, hello, measure


def main() -> None:
    asked = argparse.ArgumentParser(prog="python -m bench.api", description=__doc__.splitlines()[0])
    asked.add_argument("--seconds", type=float, default=5.0, help="longest time a measurement")
    asked.add_argument("--count", type=int, default=2000, help="most requests a sequential measurement")
    asked.add_argument("--servers", type=int, default=1000, help="servers in the project")
    asked.add_argument("--clients", type=int, default=4)
    asked.add_argument("--json", action="store_true")
    options = asked.parse_args()
    found: dict[str, Any] = {"machine": measure.machine()}
    with hello.serving() as (url, pids):
        found["hello"] = _one(url, measure.request(url, "/"), 200, pids, options)
    with cloud.own() as target:
        template = fill.template(target)
        fill.servers(target, template, options.servers - 1)
        server = f"/servers/{template.server_id}"
        for name, service, wire, status in (
            ("GET server", "compute", target.wire("compute", server), 200),
            (
                "GET server, latest version",
                "compute",
                target.wire("compute", server, OpenStack_API_Version="compute latest"),
                200,
            ),
            ("GET network", "network", target.wire("network", f"/networks/{template.network_id}"), 200),
            (
                f"list {options.servers} servers, details",
                "compute",
                target.wire("compute", "/servers/detail"),
                200,
            ),
            (f"list {options.servers} servers", "compute", target.wire("compute", "/servers"), 200),
            (
                "validate token",
                "identity",
                target.wire("identity", "/auth/tokens", X_Subject_Token=target.token),
                200,
            ),
            ("log in by password", "identity", target.login_request(), 201),
        ):
            found[name] = _one(target.url(service), wire, status, target.pids, options)
    for name, value in found.items():
        if name != "machine":
            value["one"]["times_hello"] = round(value["one"]["p50_ms"] / found["hello"]["one"]["p50_ms"], 1)
    measure.report("api", found, as_json=options.json)


def _one(url: str, wire: bytes, status: int, pids: list[int], options: argparse.Namespace) -> dict[str, Any]:
    return {
        "one": measure.sequential(url, wire, status, pids, most=options.count, seconds=options.seconds),
        "together": measure.together(url, wire, status, clients=options.clients, seconds=options.seconds / 2),
    }


if __name__ == "__main__":
    main()
