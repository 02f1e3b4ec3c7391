"""Properties that an operator protects, and what a project's images may take."""

from pathlib import Path
from typing import Any

import pytest

from stackling.image.actions.usage import QUOTAS
from tests.image.test_image import PATCH, RAW, V2, active, create, files, upload
from tests.image.test_import import allow, bring_in, show, stage

RULES = """
[^x_billing_.*]
create = admin
read = admin,member
update = admin
delete = !

[^x_secret$]
create = admin
read = admin
update = admin
delete = admin

[.*]
create = @
read = @
update = @
delete = @
"""


def change(user: Any, id: str, op: str, name: str, value: str | None = None) -> int:
    body = {"op": op, "path": f"/{name}"} | ({"value": value} if value is not None else {})
    return int(user.patch(f"{V2}/{id}", [body], headers=PATCH).status)


@pytest.fixture
def rules(cloud: Any, tmp_path: Path) -> Path:
    file = tmp_path / "protections.conf"
    file.write_text(RULES)
    allow(cloud, property_protection_file=str(file))
    return file


def test_by_roles(alice: Any, admin: Any, reader: Any, rules: Path) -> None:
    assert alice.post(V2, {"name": "x", "x_billing_code": "1"}).status == 403
    id = create(alice, owner_says="hello")["id"]
    assert change(alice, id, "add", "x_billing_code", "1") == 403
    for name in ("x_billing_code", "x_secret"):
        assert change(admin, id, "add", name, "1") == 200
    got = show(alice, id)
    assert (got["x_billing_code"], "x_secret" in got) == ("1", False)
    assert "x_billing_code" not in show(reader, id)
    assert "x_secret" not in alice.get(V2).json["images"][0]
    assert change(alice, id, "replace", "x_billing_code", "2") == 403
    assert change(alice, id, "remove", "x_billing_code") == 403
    assert change(alice, id, "replace", "x_secret", "2") == 409  # which is not there for her
    assert change(alice, id, "add", "x_secret", "2") == 403
    assert change(alice, id, "replace", "owner_says", "bye") == 200
    assert show(admin, id)["x_secret"] == "1"  # a change by one who does not see it leaves it
    assert change(admin, id, "replace", "x_billing_code", "2") == 200
    assert change(admin, id, "remove", "x_billing_code") == 403
    assert change(admin, id, "remove", "x_secret") == 200
    assert change(alice, id, "remove", "owner_says") == 200
    assert alice.delete(f"{V2}/{id}").status == 204


def test_by_policy_rules(cloud: Any, alice: Any, admin: Any, tmp_path: Path) -> None:
    file = tmp_path / "protections.conf"
    file.write_text("[^x_.*]\ncreate = billing\nread = @\nupdate = billing\ndelete = nowhere\n")
    (cloud.home / "etc" / "policy.yaml").write_text('"billing": "role:admin"\n')
    cloud.cloud.policy.reload()
    allow(cloud, property_protection_file=str(file), property_protection_rule_format="policies")
    id = create(alice)["id"]
    assert change(alice, id, "add", "x_code", "1") == 403
    assert change(admin, id, "add", "x_code", "1") == 200
    assert show(alice, id)["x_code"] == "1"
    assert change(admin, id, "remove", "x_code") == 403
    assert alice.post(V2, {"name": "y", "other": "1"}).status == 403  # what no section matches is nobody's


@pytest.mark.parametrize(
    "text", ["[x", "[^x$]\ncreate = admin\n", "[(]\ncreate=@\nread=@\nupdate=@\ndelete=@\n", "\xff\xfe"]
)
def test_rules_that_cannot_be_read_open_nothing(cloud: Any, alice: Any, rules: Path, text: str) -> None:
    id = create(alice, a="1")["id"]
    rules.write_text(text, encoding="latin-1")
    import os

    os.utime(rules, (1, 1))
    assert "a" not in show(alice, id)
    assert alice.post(V2, {"name": "y", "b": "1"}).status == 403
    assert alice.post(V2, {"name": "y"}).status == 201


# -- quotas ------------------------------------------------------------------------------------------------------------


def may_have(cloud: Any, **limits: int) -> None:
    with cloud.db.begin() as tx:
        QUOTAS.set_defaults(tx, cloud.cloud, limits)


def usage(user: Any) -> dict[str, tuple[int, int]]:
    told = user.get("/image/v2/info/usage").json["usage"]
    return {name: (one["usage"], one["limit"]) for name, one in told.items()}


def test_images_are_counted(cloud: Any, alice: Any, bob: Any) -> None:
    may_have(cloud, image_count_total=2)
    create(alice)
    id = create(alice)["id"]
    refused = alice.post(V2, {"name": "third"})
    assert refused.status == 413
    assert "image_count_total" in refused.text
    assert usage(alice)["image_count_total"] == (2, 2)
    create(bob)
    alice.delete(f"{V2}/{id}")
    create(alice)


def test_so_is_their_size_once_it_is_known(cloud: Any, alice: Any) -> None:
    may_have(cloud, image_size_total=3)
    two = bytes(2 << 20)
    active(alice, two)
    active(alice, two)
    assert usage(alice)["image_size_total"] == (4, 3)
    id = create(alice)["id"]
    assert upload(alice, id, two).status == 413
    assert (show(alice, id)["status"], len(files(cloud))) == ("queued", 2)
    stage(alice, id)
    assert bring_in(alice, id, "glance-direct").status == 413
    assert show(alice, id)["status"] == "uploading"


def test_each_copy_counts(cloud: Any, alice: Any, admin: Any) -> None:
    may_have(cloud, image_size_total=3)
    id = active(admin, bytes(2 << 20))["id"]
    wish = {"method": {"name": "copy-image"}, "all_stores": True}
    assert admin.post(f"{V2}/{id}/import", wish).status == 413
    may_have(cloud, image_size_total=4)
    assert admin.post(f"{V2}/{id}/import", wish).status == 202
    cloud.settle()
    assert usage(admin)["image_size_total"] == (4, 4)
    assert admin.delete(f"/image/v2/stores/spare/{id}").status == 204
    cloud.settle()
    assert usage(admin)["image_size_total"] == (2, 4)


def test_so_is_what_is_staged(cloud: Any, alice: Any) -> None:
    may_have(cloud, image_stage_total=1)
    first, second = create(alice)["id"], create(alice)["id"]
    assert stage(alice, first, bytes(2 << 20)).status == 204
    assert stage(alice, second).status == 413
    assert files(cloud) == [first]


def test_so_are_uploads(cloud: Any, alice: Any) -> None:
    may_have(cloud, image_count_uploading=1)
    first, second = create(alice)["id"], create(alice)["id"]
    assert stage(alice, first).status == 204
    assert upload(alice, second).status == 413
    assert usage(alice)["image_count_uploading"] == (1, 1)
    direct = {"method": {"name": "glance-direct"}}
    assert alice.post(f"{V2}/{first}/import", direct).status == 202  # it counts already
    cloud.settle()
    assert upload(alice, second, RAW).status == 204
