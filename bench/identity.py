"""Identity: logging in, validating tokens and long lists, against Keystone in the same run.

    python -m bench.identity [--users 1000] [--assignments 10000] [--seconds 4] [--keystone-venv DIR] [--uncached] [--json]
    python -m bench.identity --os            the Identity v3 endpoint that the OS_* variables name, alone

Only the public API is used, so any Keystone can be measured. What it makes there (a domain with projects, users and
their roles) is deleted afterwards.
"""

import argparse
import contextlib
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench import cloud as clouds
from bench import fill, keystone, measure
from bench.cloud import Cloud
from bench.measure import request

_PASSWORD = "bench-pass-word"
_LIST_CALLS = 20  # most of a long list that are measured
_ROUNDS = 3  # of several clients at once, of which the best counts


def main() -> None:
    asked = argparse.ArgumentParser(prog="python -m bench.identity", description=__doc__.splitlines()[0])
    asked.add_argument("--users", type=int, default=1000)
    asked.add_argument("--assignments", type=int, default=10_000)
    asked.add_argument("--seconds", type=float, default=4.0, help="longest time a measurement")
    asked.add_argument("--count", type=int, default=2000, help="most requests a sequential measurement")
    asked.add_argument("--clients", type=int, default=4)
    asked.add_argument("--os", action="store_true", help="measure the endpoint of the OS_* variables alone")
    asked.add_argument("--keystone-venv", type=Path, help="where Keystone is, or shall be, installed")
    asked.add_argument(
        "--uncached", action="store_true", help="Keystone as a new installation has it, without a cache"
    )
    asked.add_argument("--json", action="store_true")
    options = asked.parse_args()
    found: dict[str, Any] = {"machine": measure.machine()}
    if options.os:
        found |= _measured({"endpoint": clouds.named_by_environment()}, options)
    else:
        cache = keystone.INSTALLED if options.uncached else keystone.CACHED
        with clouds.own() as ours, keystone.serving(options.keystone_venv, cache) as theirs:
            found |= _measured({"stackling": ours, "keystone": theirs}, options)
        found["times Keystone's"] = {
            name: _ratios(found["stackling"][name], found["keystone"][name]) for name in found["stackling"]
        }
    measure.report("identity", found, as_json=options.json)


def _ratios(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, float]:
    """How many times as fast, and at how many times the throughput."""
    made = {"faster": round(theirs["one"]["p50_ms"] / ours["one"]["p50_ms"], 1)}
    made["less_cpu"] = (
        round(theirs["one"]["cpu_ms"] / ours["one"]["cpu_ms"], 1) if ours["one"]["cpu_ms"] else 0.0
    )
    if "together" in ours:
        made["throughput"] = round(ours["together"]["per_second"] / theirs["together"]["per_second"], 1)
    return made


def _measured(targets: dict[str, Cloud], options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """What was measured of each target. They take turns, so that what else the machine does meets all of them."""
    found: dict[str, dict[str, Any]] = {name: {} for name in targets}
    with contextlib.ExitStack() as filled:
        for cloud in targets.values():
            filled.enter_context(_filled(cloud, options.users, options.assignments))
        for what, wire_of, status in (
            ("log in by password", Cloud.login_request, 201),
            ("log in by application credential", _application_credential, 201),
            ("validate token", _validation, 200),
        ):
            wires = {name: wire_of(cloud) for name, cloud in targets.items()}
            for name, cloud in targets.items():
                found[name][what] = _one(cloud, wires[name], status, options)
            for _ in range(_ROUNDS):
                for name, cloud in targets.items():
                    many = measure.together(
                        cloud.auth_url, wires[name], status, clients=options.clients, seconds=options.seconds
                    )
                    best = found[name][what].setdefault("together", many)
                    if many["per_second"] > best["per_second"]:
                        found[name][what]["together"] = many
        for what, path in (
            (f"list {options.users} users", "/users"),
            (f"list {options.assignments} role assignments", "/role_assignments"),
            ("the same, effective", "/role_assignments?effective"),
            ("the same, with names", "/role_assignments?include_names"),
        ):
            for name, cloud in targets.items():
                wire = cloud.wire("identity", path)
                found[name][what] = _one(cloud, wire, 200, options, most=_LIST_CALLS, least=1)
    return found


def _validation(cloud: Cloud) -> bytes:
    return cloud.wire("identity", "/auth/tokens", X_Subject_Token=cloud.token)


def _one(
    cloud: Cloud, wire: bytes, status: int, options: argparse.Namespace, *, most: int = 0, least: int = 5
) -> dict[str, Any]:
    taken = measure.sequential(
        cloud.auth_url, wire, status, cloud.pids,
        most=most or options.count, seconds=options.seconds, least=least,
    )  # fmt: skip
    return {"one": taken}


@contextlib.contextmanager
def _filled(cloud: Cloud, users: int, assignments: int) -> Iterator[None]:
    """So many users more, who have so many roles in all, in a domain that goes with all it has.

    Where the database is at hand one user is made through the API and copied.
    """
    call = _caller(cloud)
    name = f"bench-{uuid.uuid4().hex[:8]}"
    each = assignments // users
    domain = call("POST", "/domains", {"domain": {"name": name}}, 201)["domain"]["id"]
    projects = [
        call("POST", "/projects", {"project": {"name": f"{name}-{n}", "domain_id": domain}}, 201)["project"][
            "id"
        ]
        for n in range(each)
    ]
    role = next(r["id"] for r in call("GET", "/roles", None, 200)["roles"] if r["name"] == "reader")

    def make(name: str) -> str:
        made = call("POST", "/users", {"user": {"name": name, "domain_id": domain}}, 201)["user"]["id"]
        for project in projects:
            call("PUT", f"/projects/{project}/users/{made}/roles/{role}", None, 204)
        return str(made)

    first = make(name)
    if cloud.database is not None:
        fill.copies(cloud, first, name, users - 1)
        yield  # the cloud itself goes afterwards
        return
    try:
        for number in range(users - 1):
            make(f"{name}-{number}")
        yield
    finally:
        call("PATCH", f"/domains/{domain}", {"domain": {"enabled": False}}, 200)
        call("DELETE", f"/domains/{domain}", None, 204)


def _application_credential(cloud: Cloud) -> bytes:
    """A request that logs in by a new one; it goes with the administrator's next."""
    call = _caller(cloud)
    path = f"/users/{cloud.user_id}/application_credentials"
    for old in call("GET", f"{path}?name=bench", None, 200)["application_credentials"]:
        call("DELETE", f"{path}/{old['id']}", None, 204)
    want = {"application_credential": {"name": "bench", "secret": _PASSWORD}}
    made = call("POST", path, want, 201)["application_credential"]
    proof = {"methods": ["application_credential"]}
    proof["application_credential"] = {"id": made["id"], "secret": _PASSWORD}
    return request(cloud.auth_url, "/auth/tokens", method="POST", body={"auth": {"identity": proof}})


def _caller(cloud: Cloud) -> Callable[[str, str, Any, int], Any]:
    client = measure.Client(cloud.auth_url)

    def call(method: str, path: str, body: Any, expect: int) -> Any:
        answer = client.expect(cloud.wire("identity", path, method, body), expect)
        return answer.json if answer.body else None

    return call


if __name__ == "__main__":
    main()
