"""What one process ends has ended in every other one with the commit."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from stackling.base import policy
from tests.conftest import Bed, User
from tests.identity.process import another

V3 = "/identity/v3"


def _role(admin: User, name: str) -> str:
    return str(next(r["id"] for r in admin.get(f"{V3}/roles").json["roles"] if r["name"] == name))


def _revoke(bed: Bed, eve: User, domain: str) -> int:
    return eve.delete(f"{V3}/auth/tokens", headers={"X-Subject-Token": eve.token}).status


def _disable_user(bed: Bed, eve: User, domain: str) -> int:
    return bed.admin.patch(f"{V3}/users/{eve.id}", {"user": {"enabled": False}}).status


def _delete_user(bed: Bed, eve: User, domain: str) -> int:
    return bed.admin.delete(f"{V3}/users/{eve.id}").status


def _password(bed: Bed, eve: User, domain: str) -> int:
    change = {"user": {"original_password": "eve-pass-word", "password": "another-pass-word"}}
    return bed.nobody.post(f"{V3}/users/{eve.id}/password", change).status


def _reset(bed: Bed, eve: User, domain: str) -> int:
    return bed.admin.patch(f"{V3}/users/{eve.id}", {"user": {"password": "another-pass-word"}}).status


def _disable_project(bed: Bed, eve: User, domain: str) -> int:
    return bed.admin.patch(f"{V3}/projects/{eve.project_id}", {"project": {"enabled": False}}).status


def _disable_tree(bed: Bed, eve: User, domain: str) -> int:
    return bed.admin.patch(f"{V3}/projects/{eve.project_id}/cascade", {"project": {"enabled": False}}).status


def _disable_domain(bed: Bed, eve: User, domain: str) -> int:
    return bed.admin.patch(f"{V3}/domains/{domain}", {"domain": {"enabled": False}}).status


def _remove_role(bed: Bed, eve: User, domain: str) -> int:
    path = f"{V3}/projects/{eve.project_id}/users/{eve.id}/roles/{_role(bed.admin, 'member')}"
    return bed.admin.delete(path).status


def _delete_role(bed: Bed, eve: User, domain: str) -> int:
    member = _role(bed.admin, "member")
    assert bed.admin.patch(f"{V3}/roles/{member}", {"role": {"options": {"immutable": False}}}).status == 200
    return bed.admin.delete(f"{V3}/roles/{member}").status


@pytest.mark.parametrize(
    "end",
    [
        _revoke,
        _disable_user,
        _delete_user,
        _password,
        _reset,
        _disable_project,
        _disable_tree,
        _disable_domain,
        _remove_role,
        _delete_role,
    ],
)
def test_what_ends_a_token_ends_it_in_the_other_process(
    cloud: Bed, end: Callable[[Bed, User, str], int]
) -> None:
    admin = cloud.admin
    domain = admin.post(f"{V3}/domains", {"domain": {"name": "d"}}).json["domain"]["id"]
    project = admin.post(f"{V3}/projects", {"project": {"name": "p", "domain_id": domain}}).json["project"]
    new = {"name": "eve", "password": "eve-pass-word", "domain_id": domain}
    user = admin.post(f"{V3}/users", {"user": new}).json["user"]
    path = f"{V3}/projects/{project['id']}/users/{user['id']}/roles/{_role(admin, 'member')}"
    assert admin.put(path).status == 204
    eve = cloud.login("eve", "eve-pass-word", domain=domain, scope={"project": {"id": project["id"]}})
    with another(cloud) as other:
        there = User(other, eve.token)
        for _ in range(2):  # looked up, then known
            assert there.get(f"{V3}/auth/projects").status == 200
            assert there.get("/compute/v2.1/servers").status == 200
        assert end(cloud, eve, domain) in (200, 204)
        assert there.get("/compute/v2.1/servers").status == 401
        assert there.get(f"{V3}/auth/projects").status == 401


def test_an_operators_policy_is_read_again_by_every_process(
    cloud: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within a second and without a restart; a file that can't be used changes nothing in any of them."""
    passed = [time.monotonic()]
    monkeypatch.setattr(policy.time, "monotonic", lambda: passed[0])
    file = Path(cloud.config.paths.config_dir) / "policy.yaml"
    with another(cloud) as other:
        everywhere = [cloud.alice, User(other, cloud.alice.token)]

        def answers(path: str) -> set[int]:
            passed[0] += 1.1
            return {user.get(path).status for user in everywhere}

        users, servers = f"{V3}/users", "/compute/v2.1/servers"
        assert answers(users) == {403}
        file.write_text('"identity:list_users": "role:admin or role:member"\n')
        assert [user.get(users).status for user in everywhere] == [403, 403]  # looked a moment ago
        assert answers(users) == {200}
        file.write_text('"identity:list_users": "role:admin"\n"os_compute_api:servers:index": "role:admin"\n')
        assert (answers(users), answers(servers)) == ({403}, {403})
        file.write_text("not: [a policy")
        assert (answers(users), answers(servers)) == ({403}, {403})
        file.write_text('"identity:list_users": "role:member and"\n')
        assert (answers(users), answers(servers)) == ({403}, {403})
        file.unlink()
        assert (answers(users), answers(servers)) == ({403}, {200})
