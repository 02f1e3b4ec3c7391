"""What holds for the whole cloud, whoever adds to it: routes, states, secrets, tables."""

import re
from pathlib import Path
from typing import Any

import pytest

from stackling.base.db import Database
from stackling.boot import assembly, schema, states

from .conftest import Bed

ROOT = Path(__file__).parents[1]
FILL = "0123456789abcdef0123456789abcdef"


def routes(bed: Bed) -> list[tuple[str, str, Any]]:
    """Every (method, path, resource) that is served, path parameters filled in with an id that nobody has."""
    found = []
    for service in assembly.services():
        for path, resource in service.routes(bed.cloud):
            filled = service.prefix + re.sub(r"\{[^}]*\}", FILL, path)
            for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
                if hasattr(resource, f"on_{method.lower()}"):
                    found.append((method, filled, resource))
    return found


def test_no_route_answers_without_a_token_unless_it_is_public(cloud: Bed) -> None:
    open_doors = []
    for method, path, resource in routes(cloud):
        answer = cloud.nobody.call(method, path, {} if method in ("POST", "PUT", "PATCH") else None)
        if not getattr(resource, "public", False) and answer.status != 401:
            open_doors.append((method, path, answer.status))
    assert open_doors == []


@pytest.mark.parametrize("who", ["admin", "alice", "reader"])
@pytest.mark.parametrize(
    "body",
    [None, {}, [], {"x": {"y": "\ud800"}}, "text", {"server": None, "network": 5, "volume": [], "user": "u"}],
)
def test_no_route_fails_whatever_is_sent(cloud: Bed, who: str, body: Any) -> None:
    """A 5xx is a bug. 501 and 503 are answers."""
    user = getattr(cloud, who)
    failed = []
    for method, path, _ in routes(cloud):
        if body is not None and method in ("GET", "DELETE"):
            continue
        answer = user.call(method, path, body)
        if answer.status >= 500 and answer.status not in (501, 503):
            failed.append((method, path, answer.status, answer.text[:200]))
    assert failed == []


@pytest.mark.parametrize(
    "query",
    [
        "limit=-1",
        "limit=x",
        "limit=99999999999999999999",
        "marker='; DROP TABLE server; --",
        "sort_key=password",
        "sort=%00",
        "name=%27%20OR%201=1",
        "status=%F0%9F%92%A9&name=%C3%28",
        "id=../../etc/passwd&fields=__class__",
        "changes-since=yesterday",
        "limit=1&limit=2&marker=&marker=",
    ],
)
def test_no_list_fails_whatever_is_asked(cloud: Bed, query: str) -> None:
    failed = []
    for method, path, _ in routes(cloud):
        if method == "GET":
            answer = cloud.alice.get(f"{path}?{query}")
            if answer.status >= 500 and answer.status not in (501, 503):
                failed.append((path, answer.status, answer.text[:200]))
    assert failed == []


def test_a_reader_changes_nothing(cloud: Bed) -> None:
    """What needs a role beyond reader says so, or says that the thing is not there; nothing is made."""
    allowed = []
    for method, path, resource in routes(cloud):
        if method in ("POST", "PUT", "PATCH", "DELETE") and not getattr(resource, "public", False):
            answer = cloud.reader.call(method, path, {} if method != "DELETE" else None)
            if answer.status < 300:
                allowed.append((method, path, answer.status))
    assert [a for a in allowed if "/users/" not in a[1]] == []


def test_unknown_paths_and_methods_are_not_errors_of_ours(cloud: Bed) -> None:
    for service in assembly.services():
        for path in (
            "/nowhere",
            "/v2.1/nowhere",
            "/v3/no/where",
            "/%2e%2e/%2e%2e/etc/passwd",
            "/v2.0/networks/x/y/z",
        ):
            assert cloud.admin.get(service.prefix + path).status in (300, 400, 404), (service.prefix, path)
            assert cloud.admin.call("PATCH", service.prefix + path, {}).status in (400, 404, 405), (
                service.prefix,
                path,
            )


def test_every_answer_carries_a_request_id(cloud: Bed) -> None:
    for service in assembly.services():
        for answer in (cloud.admin.get(service.prefix + "/"), cloud.nobody.get(service.prefix + "/nowhere")):
            form = r"tx[0-9a-f]{21}-[0-9a-f]{10}" if service.name == "object-store" else r"req-[0-9a-f-]{36}"
            assert re.fullmatch(form, answer.headers["x-openstack-request-id"]), service.name


def test_every_job_kind_has_its_drawing_with_all_states(cloud: Bed) -> None:
    for machine in assembly.machines():
        drawn = states.drawing(machine)
        for state in machine.steps:
            assert f"{state} --> " in drawn, f"{machine.kind}: state {state} leads nowhere in the drawing"


def test_every_state_of_a_machine_has_a_way_on_or_is_where_one_rests() -> None:
    for machine in assembly.machines():
        for state, (_, within) in machine.steps.items():
            assert within is None or machine.on_failed is not None, (
                f"{machine.kind}: {state} has a deadline and nowhere to go"
            )


def test_migrations_make_the_tables_that_the_code_knows(database_url: str) -> None:
    assembly.load_tables()
    database = Database(database_url, durable=False)
    schema.upgrade(database)
    assert schema.current(database) == schema.newest()
    assert schema.difference(database) == []
    schema.upgrade(database)
    database.close()


def test_every_policy_rule_is_declared_once_and_parses() -> None:
    names = [rule.name for rule in assembly.rules()]
    assert sorted({n for n in names if names.count(n) > 1}) == []


def test_every_service_has_a_readme() -> None:
    assert [s for s in assembly.SERVICES if not (ROOT / "src/stackling" / s / "README.md").exists()] == []
