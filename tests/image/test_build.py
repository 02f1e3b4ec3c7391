"""Builds of images as their API shows them, with a fake builder."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from stackling.image import builds
from stackling.image.driver import Builder
from stackling.image.drivers.fake import FakeBuilder

from ..conftest import Bed, User

V2 = "/image/v2"


@pytest.fixture(autouse=True)
def _let_go(cloud: Bed) -> Iterator[None]:
    """A build that a failed test holds would hold up all others."""
    yield
    builder(cloud).hold.clear()


def builder(cloud: Bed) -> FakeBuilder:
    found = cloud.cloud.driver(Builder)
    assert isinstance(found, FakeBuilder)
    return found


def asked(user: User, **more: Any) -> dict[str, Any]:
    got = user.post(f"{V2}/builds", {"recipe": "debian-12", **more})
    assert got.status == 202, got
    made: dict[str, Any] = got.json
    return made


def ended(cloud: Bed, id: str, user: User | None = None) -> dict[str, Any]:
    """The build once it has ended."""
    until = time.monotonic() + 120
    while True:
        cloud.settle()
        shown: dict[str, Any] = (user or cloud.admin).get(f"{V2}/builds/{id}").json
        if shown["status"] in ("succeeded", "failed", "cancelled"):
            return shown
        assert time.monotonic() < until, shown
        cloud.clock.turn(1)


def pass_time(cloud: Bed, seconds: float) -> None:
    """Time enough for tokens to expire."""
    cloud.clock.turn(seconds)
    cloud.settle()
    cloud._users.clear()


def image_of(cloud: Bed, build: dict[str, Any]) -> dict[str, Any]:
    got = cloud.admin.get(f"{V2}/images/{build['image_id']}")
    assert got.status == 200, got
    found: dict[str, Any] = got.json
    return found


def test_a_build_becomes_an_image_that_says_what_it_is(cloud: Bed) -> None:
    made = asked(cloud.admin, name="debian", visibility="public")
    assert (made["status"], made["recipe"], made["name"]) == ("queued", "debian-12", "debian")
    done = ended(cloud, made["id"])
    assert (done["status"], done["progress"]) == ("succeeded", 100)
    image = image_of(cloud, done)
    assert (image["status"], image["name"], image["visibility"]) == ("active", "debian", "public")
    assert (image["disk_format"], image["virtual_size"], image["min_ram"]) == ("qcow2", 1 << 20, 512)
    assert image["os_distro"] == "debian"
    assert image["stackling_recipe"] == "debian-12"
    assert image["stackling_recipe_digest"] == done["recipe_digest"]
    assert image["stackling_build"] == made["id"]
    assert not (builds.directory(cloud.cloud, made["id"]) / "image.qcow2").exists()


def test_log_and_packages_of_a_build_are_there_also_in_parts(cloud: Bed) -> None:
    made = asked(cloud.admin)
    ended(cloud, made["id"])
    whole = cloud.admin.get(f"{V2}/builds/{made['id']}/log")
    assert (whole.status, whole.headers["content-type"]) == (200, "text/plain; charset=UTF-8")
    assert whole.text == "building debian-12\ndone\n"
    part = cloud.admin.get(f"{V2}/builds/{made['id']}/log", headers={"Range": "bytes=9-"})
    assert (part.status, part.text) == (206, "debian-12\ndone\n")
    nothing_new = cloud.admin.get(f"{V2}/builds/{made['id']}/log", headers={"Range": "bytes=24-"})
    assert nothing_new.status == 416
    packages = cloud.admin.get(f"{V2}/builds/{made['id']}/packages")
    assert packages.json["spdxVersion"] == "SPDX-2.3"


def test_a_failed_build_leaves_its_reason_and_no_image(cloud: Bed) -> None:
    builder(cloud).fail = "Booting the image as a test: no login"
    made = asked(cloud.admin)
    done = ended(cloud, made["id"])
    assert (done["status"], done["image_id"]) == ("failed", None)
    assert done["message"] == "Booting the image as a test: no login"
    assert cloud.admin.get(f"{V2}/builds/{made['id']}/log").text.endswith("no login\n")
    assert cloud.admin.get(f"{V2}/images?name=debian-12").json["images"] == []


def test_a_build_shows_how_far_it_is_and_can_be_cancelled(cloud: Bed) -> None:
    builder(cloud).hold.set()
    made = asked(cloud.admin)
    cloud.clock.turn(1)
    second = asked(cloud.admin)
    until = time.monotonic() + 120
    while cloud.admin.get(f"{V2}/builds/{made['id']}").json["progress"] != 10:
        cloud.settle()
        cloud.clock.turn(1)
        assert time.monotonic() < until
    shown = cloud.admin.get(f"{V2}/builds/{made['id']}").json
    assert (shown["status"], shown["message"]) == ("building", "building debian-12")
    waiting = cloud.admin.get(f"{V2}/builds/{second['id']}").json
    assert (waiting["status"], waiting["message"]) == ("queued", "1 other builds come first")
    assert cloud.admin.delete(f"{V2}/builds/{made['id']}").status == 409
    assert cloud.admin.post(f"{V2}/builds/{made['id']}/actions/cancel").status == 202
    assert ended(cloud, made["id"])["status"] == "cancelled"
    assert cloud.admin.post(f"{V2}/builds/{made['id']}/actions/cancel").status == 409
    builder(cloud).hold.clear()
    assert ended(cloud, second["id"])["status"] == "succeeded"


def test_a_build_that_waits_can_be_cancelled(cloud: Bed) -> None:
    made = asked(cloud.admin)
    assert cloud.admin.post(f"{V2}/builds/{made['id']}/actions/cancel").status == 202
    assert ended(cloud, made["id"])["status"] == "cancelled"
    assert builder(cloud).built == []


def test_deleting_a_build_takes_its_files_and_leaves_its_image(cloud: Bed) -> None:
    done = ended(cloud, asked(cloud.admin)["id"])
    place = builds.directory(cloud.cloud, done["id"])
    assert place.is_dir()
    assert cloud.admin.delete(f"{V2}/builds/{done['id']}").status == 204
    cloud.settle()
    assert cloud.admin.get(f"{V2}/builds/{done['id']}").status == 404
    assert not place.exists()
    assert image_of(cloud, done)["status"] == "active"


def test_lists_are_filtered_and_paged(cloud: Bed) -> None:
    ids = []
    for name in ("one", "two", "three"):
        ids.append(ended(cloud, asked(cloud.admin, name=name)["id"])["id"])
        cloud.clock.turn(1)
    got = cloud.admin.get(f"{V2}/builds?limit=2").json
    assert [b["id"] for b in got["builds"]] == ids[:0:-1]
    rest = cloud.admin.get("/image" + got["next"]).json
    assert [b["id"] for b in rest["builds"]] == ids[:1]
    assert [b["name"] for b in cloud.admin.get(f"{V2}/builds?name=two").json["builds"]] == ["two"]
    assert cloud.admin.get(f"{V2}/builds?status=failed").json["builds"] == []
    assert cloud.admin.get(f"{V2}/builds?status=odd").status == 400
    assert cloud.admin.get(f"{V2}/builds?marker=odd").status == 400


@pytest.mark.parametrize(
    "body, status, says",
    [
        ({}, 400, "recipe"),
        ({"recipe": "debian-99"}, 404, "There are: debian-12"),
        ({"recipe": "debian-12", "keep": 0}, 400, "keep"),
        ({"recipe": "debian-12", "visibility": "odd"}, 400, "visibility"),
        ({"recipe": "debian-12", "colour": "red"}, 400, "colour"),
        ({"recipe": {"name": "x"}}, 400, "recipe.repositories"),
        ({"recipe": {"name": "x", "packages": ["--option"]}}, 400, "recipe.packages[0]"),
        ({"recipe": {"name": "x", "kind": "micro", "keyring": "/etc/passwd"}}, 400, "recipe.keyring"),
    ],
)
def test_bad_orders_are_refused_by_field(cloud: Bed, body: Any, status: int, says: str) -> None:
    got = cloud.admin.post(f"{V2}/builds", body)
    assert got.status == status, got
    assert says in got.text
    assert cloud.admin.get(f"{V2}/builds").json["builds"] == []


def test_readers_can_not_build_and_tenants_do_not_see_what_others_build(cloud: Bed) -> None:
    assert cloud.reader.post(f"{V2}/builds", {"recipe": "debian-12"}).status == 403
    assert cloud.reader.post(f"{V2}/build_schedules", {"recipe": "micro", "cron": "0 0 * * *"}).status == 403
    done = ended(cloud, asked(cloud.admin)["id"])
    for user in (cloud.alice, cloud.bob, cloud.reader):
        assert user.get(f"{V2}/builds").json["builds"] == []
        for path in ("", "/log", "/packages"):
            assert user.get(f"{V2}/builds/{done['id']}{path}").status == 404
        assert user.delete(f"{V2}/builds/{done['id']}").status == 404
        assert user.post(f"{V2}/builds/{done['id']}/actions/cancel").status == 404


INSTALLED: dict[str, Any] = {
    "name": "own",
    "kind": "installer",
    "disk": {"size_mib": 4096},
    "installer": {
        "iso": "http://127.0.0.1/x.iso",
        "sha256": "0" * 64,
        "kernel": "/linux",
        "initrd": "/initrd",
        "minutes": 60,
    },
}
OWN: dict[str, Any] = {
    "name": "own",
    "release": "bookworm",
    "repositories": [{"uri": "http://deb.debian.org/debian"}],
    "packages": ["linux-image-cloud-amd64", "cloud-init"],
    "commands": ["touch /made"],
}


def test_members_build_their_own_recipes_in_a_virtual_machine(cloud: Bed) -> None:
    made = asked(cloud.alice, recipe=OWN)
    assert made["in_machine"] is True
    assert cloud.bob.get(f"{V2}/builds/{made['id']}").status == 404
    done = ended(cloud, made["id"], cloud.reader)
    assert done["status"] == "succeeded"
    image = cloud.alice.get(f"{V2}/images/{done['image_id']}").json
    assert (image["owner"], image["visibility"]) == (cloud.alice.project_id, "private")
    assert cloud.bob.get(f"{V2}/images/{done['image_id']}").status == 404
    assert ended(cloud, asked(cloud.alice, recipe="micro")["id"])["in_machine"] is True
    assert builder(cloud).in_machine == ["own", "micro"]
    assert cloud.reader.delete(f"{V2}/builds/{made['id']}").status == 403
    assert cloud.bob.delete(f"{V2}/builds/{made['id']}").status == 404
    assert cloud.alice.delete(f"{V2}/builds/{made['id']}").status == 204


def test_members_cancel_their_own_builds_only(cloud: Bed) -> None:
    builder(cloud).hold.set()
    made = asked(cloud.alice, recipe=OWN)
    assert cloud.bob.post(f"{V2}/builds/{made['id']}/actions/cancel").status == 404
    assert cloud.reader.post(f"{V2}/builds/{made['id']}/actions/cancel").status == 403
    assert cloud.alice.post(f"{V2}/builds/{made['id']}/actions/cancel").status == 202
    assert ended(cloud, made["id"])["status"] == "cancelled"


def test_what_a_member_schedules_is_built_in_a_virtual_machine_too(cloud: Bed) -> None:
    project_id = cloud.alice.project_id
    got = cloud.alice.post(f"{V2}/build_schedules", {"recipe": OWN, "cron": "0 3 * * *"})
    assert (got.status, got.json["in_machine"]) == (201, True)
    assert cloud.bob.get(f"{V2}/build_schedules/{got.json['id']}").status == 404
    while not (found := cloud.admin.get(f"{V2}/builds").json["builds"]):
        pass_time(cloud, 3600)
    assert ended(cloud, found[0]["id"])["owner"] == project_id
    assert builder(cloud).in_machine == ["own"]


def test_administrators_build_on_the_host_unless_policy_says_otherwise(cloud: Bed) -> None:
    assert asked(cloud.admin)["in_machine"] is False
    (cloud.home / "etc" / "policy.yaml").write_text('"image_build:on_host": "!"\n')
    cloud.cloud.policy.reload()
    made = asked(cloud.admin)
    assert made["in_machine"] is True
    ended(cloud, made["id"])
    assert builder(cloud).in_machine == ["debian-12"]


def test_an_operator_may_keep_builds_to_himself(cloud: Bed) -> None:
    (cloud.home / "etc" / "policy.yaml").write_text('"image_build:create_custom": "role:admin"\n')
    cloud.cloud.policy.reload()
    assert cloud.alice.post(f"{V2}/builds", {"recipe": OWN}).status == 403
    (cloud.home / "etc" / "policy.yaml").write_text('"add_image": "role:admin"\n')
    cloud.cloud.policy.reload()
    assert cloud.alice.post(f"{V2}/builds", {"recipe": "micro"}).status == 403
    assert cloud.admin.get(f"{V2}/builds").json["builds"] == []


@pytest.mark.parametrize(
    "change, says",
    [
        ({"repositories": [{"uri": "http://169.254.169.254/x"}]}, "recipe.repositories[0].uri: none of"),
        ({"repositories": [{"uri": "file:/etc"}]}, "recipe.repositories[0].uri: none of"),
        ({"memory_mib": 4096}, "recipe.memory_mib: 4096 is more than this cloud's 1024"),
        ({"disk": {"size_mib": 1 << 20}}, "recipe.disk.size_mib: "),
        ({"disk": {"spare_mib": 1 << 20}}, "recipe.disk.spare_mib: "),
        (INSTALLED, "recipe.installer.iso: "),
        (
            {**INSTALLED, "installer": {**INSTALLED["installer"], "iso": "/etc/shadow"}},
            "recipe.installer.iso: ",
        ),
        (
            {**INSTALLED, "installer": {**INSTALLED["installer"], "minutes": 1440}},
            "recipe.installer.minutes: ",
        ),
    ],
)
def test_tenants_recipes_have_limits_that_those_of_administrators_have_not(
    cloud: Bed, change: dict[str, Any], says: str
) -> None:
    body = {"recipe": {**OWN, **change} if "kind" not in change else change}
    got = cloud.alice.post(f"{V2}/builds", body)
    assert got.status == 400, got
    assert says in got.text
    assert cloud.alice.post(f"{V2}/build_schedules", {**body, "cron": "0 0 * * *"}).status == 400
    assert cloud.admin.get(f"{V2}/builds").json["builds"] == []
    ended(cloud, cloud.admin.post(f"{V2}/builds", body).json["id"])


def test_repositories_that_the_operator_adds_are_tenants_too(
    cloud: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = {**OWN, "repositories": [{"uri": "http://packages.example/debian/"}]}
    assert cloud.alice.post(f"{V2}/builds", {"recipe": ours}).status == 400
    image = msgspec.structs.replace(
        cloud.cloud.config.image, build_repositories=["http://packages.example/debian"]
    )
    monkeypatch.setattr(cloud.cloud, "config", msgspec.structs.replace(cloud.cloud.config, image=image))
    ended(cloud, asked(cloud.alice, recipe=ours)["id"])


def test_an_image_is_public_or_has_a_protected_property_only_if_its_builder_may_say_so(
    cloud: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cloud.alice.post(f"{V2}/builds", {"recipe": "micro", "visibility": "public"}).status == 403
    rules = cloud.home / "protection.conf"
    verbs = ("create", "read", "update", "delete")
    rules.write_text(
        "[billing]\n" + "".join(f"{verb} = admin\n" for verb in verbs)
        + "[.*]\n" + "".join(f"{verb} = @\n" for verb in verbs)
    )  # fmt: skip
    image = msgspec.structs.replace(cloud.cloud.config.image, property_protection_file=str(rules))
    monkeypatch.setattr(cloud.cloud, "config", msgspec.structs.replace(cloud.cloud.config, image=image))
    free = {**OWN, "properties": {"billing": "free"}}
    got = cloud.alice.post(f"{V2}/builds", {"recipe": free})
    assert (got.status, "billing" in got.text) == (403, True)
    ended(cloud, asked(cloud.admin, recipe=free)["id"])


def test_projects_take_turns(cloud: Bed) -> None:
    builder(cloud).hold.set()
    mine = []
    for _ in range(3):
        mine.append(asked(cloud.alice, recipe="micro")["id"])
        cloud.clock.turn(1)
        cloud.settle()
    theirs = asked(cloud.bob, recipe="micro")["id"]
    cloud.settle()
    assert cloud.bob.get(f"{V2}/builds/{theirs}").json["message"] == "1 other builds come first"
    cloud.turn(4, every=1)
    assert cloud.alice.get(f"{V2}/builds/{mine[1]}").json["message"] == "2 other builds come first"
    assert cloud.alice.get(f"{V2}/builds/{mine[2]}").json["message"] == "3 other builds come first"
    for user, id in [*((cloud.alice, id) for id in mine), (cloud.bob, theirs)]:
        user.post(f"{V2}/builds/{id}/actions/cancel")
        ended(cloud, id)


def test_a_project_has_only_so_many_builds_at_once(cloud: Bed) -> None:
    builder(cloud).hold.set()
    for _ in range(cloud.config.image.builds):
        asked(cloud.admin)
    got = cloud.admin.post(f"{V2}/builds", {"recipe": "micro"})
    assert got.status == 413
    assert "builds" in got.text
    for row in cloud.admin.get(f"{V2}/builds").json["builds"]:
        cloud.admin.post(f"{V2}/builds/{row['id']}/actions/cancel")
        ended(cloud, row["id"])


def test_recipes_are_listed_and_shown(cloud: Bed) -> None:
    names = [r["name"] for r in cloud.alice.get(f"{V2}/build_recipes").json["build_recipes"]]
    assert {"micro", "debian-12", "debian-13", "debian-7", "debian-6", "ubuntu-24.04"} <= set(names)
    shown = cloud.alice.get(f"{V2}/build_recipes/debian-7").json
    assert (shown["release"], shown["cloud"]) == ("wheezy", "agent")
    assert cloud.alice.get(f"{V2}/build_recipes/odd").status == 404


def test_a_schedule_builds_again_and_again_and_the_newest_has_the_name(cloud: Bed) -> None:
    got = cloud.admin.post(
        f"{V2}/build_schedules", {"recipe": "debian-12", "name": "debian", "cron": "0 3 * * *", "keep": 2}
    )
    assert got.status == 201, got
    schedule = got.json
    seen: list[str] = []
    for _ in range(4):
        due = cloud.admin.get(f"{V2}/build_schedules/{schedule['id']}").json["next_at"]
        while cloud.admin.get(f"{V2}/build_schedules/{schedule['id']}").json["next_at"] == due:
            pass_time(cloud, 1800)
        newest = cloud.admin.get(f"{V2}/builds").json["builds"][0]
        assert newest["schedule_id"] == schedule["id"]
        seen.append(ended(cloud, newest["id"])["image_id"])
    named = cloud.admin.get(f"{V2}/images?name=debian").json["images"]
    assert [i["id"] for i in named] == seen[-1:]
    hidden = cloud.admin.get(f"{V2}/images?os_hidden=true").json["images"]
    assert [i["id"] for i in hidden] == seen[-2:-1]
    assert hidden[0]["name"].startswith("debian (20")
    for gone in seen[:2]:
        assert cloud.admin.get(f"{V2}/images/{gone}").status == 404


def test_a_protected_image_outlives_its_retention(cloud: Bed) -> None:
    first = ended(cloud, asked(cloud.admin, name="d", keep=1)["id"])
    protect = [{"op": "replace", "path": "/protected", "value": True}]
    patched = cloud.admin.patch(
        f"{V2}/images/{first['image_id']}",
        protect,
        headers={"Content-Type": "application/openstack-images-v2.1-json-patch"},
    )
    assert patched.status == 200, patched
    cloud.clock.turn(60)
    second = ended(cloud, asked(cloud.admin, name="d", keep=1)["id"])
    assert image_of(cloud, first)["os_hidden"] is True
    assert image_of(cloud, second)["os_hidden"] is False


def test_a_schedule_can_be_switched_off_changed_and_deleted(cloud: Bed) -> None:
    made = cloud.admin.post(
        f"{V2}/build_schedules", {"recipe": "micro", "cron": "* * * * *", "enabled": False}
    ).json
    assert made["next_at"] is None
    cloud.turn(300, every=60)
    assert cloud.admin.get(f"{V2}/builds").json["builds"] == []
    path = f"{V2}/build_schedules/{made['id']}"
    assert cloud.admin.patch(path, {"cron": "61 * * * *"}).status == 400
    assert cloud.admin.patch(path, {"cron": "0 0 31 2 *"}).status == 400
    changed = cloud.admin.patch(path, {"enabled": True, "cron": "30 1 * * *", "keep": 3}).json
    assert (changed["keep"], changed["next_at"][11:16]) == (3, "01:30")
    assert cloud.alice.get(path).status == 404
    assert cloud.alice.delete(path).status == 404
    assert cloud.admin.delete(path).status == 204
    assert cloud.admin.get(path).status == 404
    for _ in range(48):
        pass_time(cloud, 3600)
    assert cloud.admin.get(f"{V2}/builds").json["builds"] == []


def test_a_build_whose_process_dies_every_time_is_given_up(
    cloud: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each new process finds the build where the last one left it."""
    builder(cloud).hold.set()
    made = asked(cloud.admin)
    from stackling.base.background import Background
    from stackling.image.steps import build as steps

    for _ in range(steps.MOST_RUNS):
        cloud.clock.turn(5)
        cloud.settle()
        monkeypatch.setattr(steps, "_running", Background("build"))  # what ran is forgotten, as after a kill
        monkeypatch.setattr(steps, "_alone", threading.Lock())
    done = ended(cloud, made["id"])
    assert done["status"] == "failed"
    assert "died 3 times" in done["message"]
    builder(cloud).hold.clear()
