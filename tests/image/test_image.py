"""Images as a user of the Image API sees them."""

import hashlib
import io
import struct
from pathlib import Path
from typing import Any

import pytest

from stackling.base.errors import BadRequest
from stackling.image import store
from stackling.image.actions import data as image_data
from stackling.image.actions import image as images
from stackling.image.state.image import image

V2 = "/image/v2/images"
OCTETS = {"Content-Type": "application/octet-stream"}
PATCH = {"Content-Type": "application/openstack-images-v2.1-json-patch"}
OLD_PATCH = {"Content-Type": "application/openstack-images-v2.0-json-patch"}
RAW = bytes(range(256)) * 8


def qcow2(*, backing: bytes = b"", size: int = 1 << 20) -> bytes:
    """A qcow2 file with nothing in it; `backing` names a backing file."""
    where = 256 if backing else 0
    header = struct.pack(
        ">4sIQIIQIIQQIIQQQQII",
        b"QFI\xfb",
        3,
        where,
        len(backing),
        16,
        size,
        0,
        1,
        3 << 16,
        1 << 16,
        1,
        0,
        0,
        0,
        0,
        0,
        4,
        104,
    )
    return (header.ljust(256, b"\0") + backing).ljust(4 << 16, b"\0")


def create(user: Any, **more: Any) -> dict[str, Any]:
    made = user.post(V2, {"name": "web", "disk_format": "raw", "container_format": "bare", **more})
    assert made.status == 201, made
    return made.json


def upload(user: Any, id: str, data: bytes = RAW) -> Any:
    return user.put(f"{V2}/{id}/file", data=data, headers=OCTETS)


def active(user: Any, data: bytes = RAW, **more: Any) -> dict[str, Any]:
    made = create(user, **more)
    got = upload(user, made["id"], data)
    assert got.status == 204, got
    return user.get(f"{V2}/{made['id']}").json


def names(answer: Any) -> list[str]:
    assert answer.status == 200, answer
    return [i["name"] for i in answer.json["images"]]


def files(cloud: Any) -> list[str]:
    """What is in any store, and waits in staging."""
    return sorted(p.name for p in (cloud.home / "state").glob("images*/*"))


def test_versions_need_no_token(cloud: Any) -> None:
    for path, status in (("/image", 300), ("/image/", 300), ("/image/versions", 200)):
        got = cloud.nobody.get(path)
        assert got.status == status
        assert [v["status"] for v in got.json["versions"]].count("CURRENT") == 1
        assert got.json["versions"][0]["links"][0]["href"].endswith("/image/v2/")


def test_image_is_registered_filled_and_read_back(cloud: Any, alice: Any) -> None:
    made = create(alice, min_disk=1, os_distro="tiny", tags=["a", "b"])
    assert made["status"] == "queued"
    assert made["size"] is None
    assert (made["visibility"], made["owner"], made["os_distro"], made["tags"]) == (
        "shared",
        alice.project_id,
        "tiny",
        ["a", "b"],
    )
    assert made["created_at"].endswith("Z")
    empty = alice.get(f"{V2}/{made['id']}/file")
    assert (empty.status, empty.content) == (204, b"")
    assert upload(alice, made["id"]).status == 204
    got = alice.get(f"{V2}/{made['id']}").json
    assert (got["status"], got["size"], got["virtual_size"]) == ("active", len(RAW), len(RAW))
    assert got["checksum"] == hashlib.md5(RAW, usedforsecurity=False).hexdigest()
    assert (got["os_hash_algo"], got["os_hash_value"]) == ("sha512", hashlib.sha512(RAW).hexdigest())
    data = alice.get(f"{V2}/{made['id']}/file")
    assert (data.status, data.content) == (200, RAW)
    assert data.headers["content-md5"] == got["checksum"]
    assert files(cloud) == [made["id"]]
    assert upload(alice, made["id"]).status == 409


def test_ranges(alice: Any) -> None:
    id = active(alice)["id"]
    for asked, part, says in (
        ("bytes=0-9", RAW[:10], f"bytes 0-9/{len(RAW)}"),
        ("bytes=2000-", RAW[2000:], f"bytes 2000-{len(RAW) - 1}/{len(RAW)}"),
        ("bytes=-5", RAW[-5:], f"bytes {len(RAW) - 5}-{len(RAW) - 1}/{len(RAW)}"),
    ):
        got = alice.get(f"{V2}/{id}/file", headers={"Range": asked})
        assert (got.status, got.content, got.headers["content-range"]) == (206, part, says)
    for bad in ("bytes=9999-", "bytes=5-2", "bytes=x-y", "bytes=-"):
        assert alice.get(f"{V2}/{id}/file", headers={"Range": bad}).status == 416


def test_qcow2_knows_its_virtual_size(alice: Any) -> None:
    got = active(alice, qcow2(size=1 << 20), disk_format="qcow2")
    assert (got["virtual_size"], got["size"]) == (1 << 20, 4 << 16)


@pytest.mark.parametrize(
    ("disk_format", "data", "word"),
    [
        ("qcow2", RAW, "not qcow2"),
        ("raw", qcow2(), "qcow2"),
        ("qcow2", qcow2(backing=b"/etc/passwd"), "backing file"),
        ("qcow2", b"", "empty"),
    ],
)
def test_lying_data_is_refused_and_nothing_kept(
    cloud: Any, alice: Any, disk_format: str, data: bytes, word: str
) -> None:
    id = create(alice, disk_format=disk_format)["id"]
    got = upload(alice, id, data)
    assert got.status == 400
    assert word in got.json["message"]
    assert alice.get(f"{V2}/{id}").json["status"] == "queued"
    assert files(cloud) == []
    assert alice.get(f"{V2}/{id}/file").status == 204


def test_upload_needs_formats_and_media_type(alice: Any) -> None:
    bare = alice.post(V2, {"name": "x"}).json["id"]
    got = upload(alice, bare)
    assert (got.status, "disk_format" in got.text) == (400, True)
    id = create(alice)["id"]
    assert alice.put(f"{V2}/{id}/file", data=RAW, headers={"Content-Type": "text/plain"}).status == 415


def test_upload_that_breaks_off_leaves_the_image_queued(cloud: Any, alice: Any) -> None:
    from stackling.base.context import Caller

    id = create(alice)["id"]
    who = Caller(
        policy=cloud.cloud.policy,
        user_id=alice.id,
        project_id=alice.project_id,
        roles=frozenset({"member", "reader"}),
    )
    with pytest.raises(BadRequest, match="incomplete"):
        image_data.receive(cloud.cloud, who, id, iter([RAW[:100]]), len(RAW))
    assert alice.get(f"{V2}/{id}").json["status"] == "queued"
    assert files(cloud) == []


def test_upload_whose_process_died_is_given_up(cloud: Any, alice: Any) -> None:
    id = create(alice)["id"]

    def dying() -> Any:
        yield RAW
        assert alice.get(f"{V2}/{id}").json["status"] == "saving"
        assert upload(alice, id).status == 409
        raise SystemExit

    from stackling.base.context import Caller

    who = Caller(
        policy=cloud.cloud.policy,
        user_id=alice.id,
        project_id=alice.project_id,
        roles=frozenset({"member", "reader"}),
    )
    with pytest.raises(SystemExit):
        image_data.receive(cloud.cloud, who, id, dying(), None)
    # A killed process writes nothing: put the row back as it was in the middle of the upload.
    part = store.of(cloud.cloud)["file"].incoming(id, "11111111-1111-1111-1111-111111111111")
    part.write(RAW)
    part.finish()
    with cloud.db.begin() as tx:
        tx.execute(
            image.update()
            .where(image.c.id == id)
            .values(state="saving", upload="1", heard_at=cloud.clock.now())
        )
    cloud.turn(200, every=50)
    assert alice.get(f"{V2}/{id}").json["status"] == "saving"
    cloud.turn(400, every=50)
    assert alice.get(f"{V2}/{id}").json["status"] == "queued"
    assert files(cloud) == []
    assert upload(alice, id).status == 204


def test_image_deleted_during_its_upload(cloud: Any, alice: Any) -> None:
    from stackling.base.context import Caller
    from stackling.base.errors import Gone

    id = create(alice)["id"]
    who = Caller(
        policy=cloud.cloud.policy,
        user_id=alice.id,
        project_id=alice.project_id,
        roles=frozenset({"member", "reader"}),
    )

    def deleting() -> Any:
        yield RAW
        assert alice.delete(f"{V2}/{id}").status == 204

    with pytest.raises(Gone):
        image_data.receive(cloud.cloud, who, id, deleting(), None)
    cloud.settle()
    assert files(cloud) == []
    assert alice.get(f"{V2}/{id}").status == 404


def test_delete_removes_the_data_but_not_a_hosts_link(cloud: Any, alice: Any, tmp_path: Path) -> None:
    id = active(alice)["id"]
    (tmp_path / "kept").hardlink_to(store.of(cloud.cloud)["file"].path(id))
    assert alice.delete(f"{V2}/{id}").status == 204
    cloud.settle()
    assert files(cloud) == []
    assert (tmp_path / "kept").read_bytes() == RAW
    assert alice.delete(f"{V2}/{id}").status == 404


def test_protected_images_stay(alice: Any) -> None:
    id = create(alice, protected=True)["id"]
    assert alice.delete(f"{V2}/{id}").status == 403
    assert (
        alice.patch(
            f"{V2}/{id}", [{"op": "replace", "path": "/protected", "value": False}], headers=PATCH
        ).status
        == 200
    )
    assert alice.delete(f"{V2}/{id}").status == 204


def test_patch(alice: Any) -> None:
    id = active(alice, os_distro="tiny", tags=["a"])["id"]
    changes = [
        {"op": "replace", "path": "/name", "value": "mail"},
        {"op": "add", "path": "/hw_disk_bus", "value": "virtio"},
        {"op": "remove", "path": "/os_distro"},
        {"op": "add", "path": "/tags/-", "value": "b"},
        {"op": "replace", "path": "/min_ram", "value": 64},
        {"op": "add", "path": "/odd~1name", "value": "x"},
    ]
    got = alice.patch(f"{V2}/{id}", changes, headers=PATCH)
    assert got.status == 200, got
    assert (got.json["name"], got.json["hw_disk_bus"], got.json["tags"], got.json["min_ram"]) == (
        "mail",
        "virtio",
        ["a", "b"],
        64,
    )
    assert "os_distro" not in got.json
    assert got.json["odd/name"] == "x"
    old = alice.patch(f"{V2}/{id}", [{"replace": "/name", "value": "old"}], headers=OLD_PATCH)
    assert (old.status, old.json["name"]) == (200, "old")
    assert alice.get(f"{V2}/{id}").json == old.json


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"op": "replace", "path": "/status", "value": "queued"}, 403),
        ({"op": "replace", "path": "/id", "value": "x"}, 403),
        ({"op": "add", "path": "/os_glance_x", "value": "1"}, 403),
        ({"op": "remove", "path": "/name"}, 403),
        ({"op": "replace", "path": "/disk_format", "value": "qcow2"}, 403),
        ({"op": "replace", "path": "/owner", "value": "somebody"}, 403),
        ({"op": "replace", "path": "/visibility", "value": "public"}, 403),
        ({"op": "replace", "path": "/visibility", "value": "secret"}, 400),
        ({"op": "replace", "path": "/nothing", "value": "x"}, 409),
        ({"op": "remove", "path": "/nothing"}, 409),
        ({"op": "add", "path": "/number", "value": 5}, 400),
        ({"op": "add", "path": "/a/b/c", "value": "x"}, 400),
        ({"op": "move", "path": "/name", "from": "/x"}, 400),
        ({"op": "add", "path": "name", "value": "x"}, 400),
        ({"op": "add", "path": "/name"}, 400),
        ({"op": "replace", "path": "/min_ram", "value": -1}, 400),
        ({"op": "replace", "path": "/tags/7", "value": "x"}, 400),
        ("nonsense", 400),
    ],
)
def test_patch_refusals_change_nothing(alice: Any, change: Any, status: int) -> None:
    before = active(alice)
    got = alice.patch(
        f"{V2}/{before['id']}", [{"op": "replace", "path": "/name", "value": "y"}, change], headers=PATCH
    )
    assert got.status == status, got
    assert alice.get(f"{V2}/{before['id']}").json == before


def test_patch_media_types(alice: Any) -> None:
    id = create(alice)["id"]
    assert alice.patch(f"{V2}/{id}", []).status == 415
    assert alice.patch(f"{V2}/{id}", {}, headers=PATCH).status == 400


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"disk_format": "floppy"}, 400),
        ({"container_format": "box"}, 400),
        ({"name": "x" * 256}, 400),
        ({"name": 5}, 400),
        ({"min_disk": "big"}, 400),
        ({"min_ram": 2**40}, 400),
        ({"visibility": "hidden"}, 400),
        ({"id": "no-uuid"}, 400),
        ({"tags": "x"}, 400),
        ({"tags": ["x" * 256]}, 400),
        ({"colour": ["red"]}, 400),
        ({"colour": None}, 400),
        ({"status": "active"}, 403),
        ({"size": 5}, 403),
        ({"checksum": "x"}, 403),
        ({"os_glance_x": "1"}, 403),
        ({"visibility": "public"}, 403),
        ({"owner": "f" * 32}, 403),
        ({"tags": [str(n) for n in range(200)]}, 413),
        ({f"p{n}": "x" for n in range(200)}, 413),
        (["list"], 400),
        ("text", 400),
    ],
)
def test_bad_images_are_refused(alice: Any, body: Any, status: int) -> None:
    got = alice.post(V2, body)
    assert got.status == status, got
    assert names(alice.get(V2)) == []


def test_errors_are_json_or_html_as_asked(alice: Any) -> None:
    got = alice.get(f"{V2}/nothing")
    assert (got.status, got.json["code"], got.json["title"]) == (404, "404 Not Found", "Not Found")
    page = alice.get(f"{V2}/nothing", headers={"Accept": "*/*"})
    assert page.headers["content-type"].startswith("text/html")
    assert alice.get("/image/v2/nonsense").status == 404
    assert alice.call("PUT", V2).status == 405
    assert alice.get(f"{V2}/").status == 404


def test_foreign_images_do_not_exist(alice: Any, bob: Any, admin: Any) -> None:
    id = active(alice)["id"]
    own = f"{V2}/{id}"
    assert bob.get(own).status == 404
    assert bob.get(f"{own}/file").status == 404
    assert bob.delete(own).status == 404
    assert bob.patch(own, [], headers=PATCH).status == 404
    assert upload(bob, id).status == 404
    assert bob.put(f"{own}/tags/x").status == 404
    assert bob.post(f"{own}/actions/deactivate").status == 404
    assert bob.get(f"{own}/members").status == 404
    assert bob.post(f"{own}/members", {"member": bob.project_id}).status == 404
    assert names(bob.get(V2)) == []
    assert names(admin.get(V2)) == ["web"]


def test_a_reader_reads(alice: Any, reader: Any) -> None:
    id = active(alice)["id"]
    assert reader.get(f"{V2}/{id}").status == 200
    assert reader.get(f"{V2}/{id}/file").status == 403
    assert reader.post(V2, {"name": "x"}).status == 403
    assert reader.delete(f"{V2}/{id}").status == 403
    assert upload(reader, id).status == 403


def test_visibility(alice: Any, bob: Any, admin: Any) -> None:
    public = active(admin, name="public", visibility="public")
    community = active(alice, name="community", visibility="community")
    active(alice, name="private", visibility="private")
    active(alice, name="shared")
    assert names(bob.get(V2)) == ["public"]
    assert names(bob.get(f"{V2}?visibility=community")) == ["community"]
    assert sorted(names(bob.get(f"{V2}?visibility=all"))) == ["community", "public"]
    assert sorted(names(alice.get(V2))) == ["community", "private", "public", "shared"]
    assert names(alice.get(f"{V2}?visibility=private")) == ["private"]
    for id in (public["id"], community["id"]):
        assert bob.get(f"{V2}/{id}/file").content == RAW
        assert bob.delete(f"{V2}/{id}").status == 403
        assert bob.patch(f"{V2}/{id}", [], headers=PATCH).status == 403


def test_sharing(alice: Any, bob: Any) -> None:
    id = active(alice)["id"]
    own = f"{V2}/{id}/members"
    made = alice.post(own, {"member": bob.project_id})
    assert (made.status, made.json["status"], made.json["member_id"]) == (200, "pending", bob.project_id)
    assert alice.post(own, {"member": bob.project_id}).status == 409
    assert bob.get(f"{V2}/{id}").status == 200
    assert names(bob.get(V2)) == []
    assert names(bob.get(f"{V2}?member_status=pending&visibility=shared")) == ["web"]
    assert alice.put(f"{own}/{bob.project_id}", {"status": "accepted"}).status == 403
    assert bob.put(f"{own}/{bob.project_id}", {"status": "maybe"}).status == 400
    assert bob.put(f"{own}/{bob.project_id}", {"status": "accepted"}).json["status"] == "accepted"
    assert names(bob.get(V2)) == ["web"]
    assert bob.get(f"{V2}/{id}/file").content == RAW
    assert bob.delete(f"{V2}/{id}").status == 403
    assert [m["status"] for m in alice.get(own).json["members"]] == ["accepted"]
    assert bob.get(f"{own}/{bob.project_id}").status == 200
    assert bob.put(f"{own}/{bob.project_id}", {"status": "rejected"}).status == 200
    assert names(bob.get(V2)) == []
    assert alice.delete(f"{own}/{bob.project_id}").status == 204
    assert alice.delete(f"{own}/{bob.project_id}").status == 404
    assert bob.get(f"{V2}/{id}").status == 404
    private = create(alice, visibility="private")["id"]
    assert alice.post(f"{V2}/{private}/members", {"member": bob.project_id}).status == 403
    assert alice.post(own, {"members": "x"}).status == 400


def test_tags(alice: Any) -> None:
    id = create(alice)["id"]
    assert alice.put(f"{V2}/{id}/tags/blue").status == 204
    assert alice.put(f"{V2}/{id}/tags/blue").status == 204
    assert alice.put(f"{V2}/{id}/tags/{'x' * 256}").status == 400
    assert alice.get(f"{V2}/{id}").json["tags"] == ["blue"]
    assert alice.delete(f"{V2}/{id}/tags/blue").status == 204
    assert alice.delete(f"{V2}/{id}/tags/blue").status == 404


def test_deactivated_images_are_not_downloaded(alice: Any, admin: Any) -> None:
    id = active(alice)["id"]
    assert alice.post(f"{V2}/{id}/actions/deactivate").status == 204
    assert alice.get(f"{V2}/{id}").json["status"] == "deactivated"
    assert alice.get(f"{V2}/{id}/file").status == 403
    assert admin.get(f"{V2}/{id}/file").status == 200
    assert alice.post(f"{V2}/{id}/actions/reactivate").status == 204
    assert alice.get(f"{V2}/{id}/file").status == 200
    queued = create(alice)["id"]
    assert alice.post(f"{V2}/{queued}/actions/deactivate").status == 403


def test_filters(alice: Any, cloud: Any) -> None:
    active(alice, name="one", os_distro="tiny", tags=["a", "b"])
    cloud.clock.turn(10)
    middle = alice.get(V2).json["images"][0]["created_at"]
    cloud.clock.turn(10)
    active(alice, RAW * 2, name="two", protected=True, tags=["a"], min_ram=64)
    create(alice, name="three, four", disk_format="qcow2", os_hidden=True)
    for query, found in (
        ("name=one", ["one"]),
        ("name=in:one,two", ["one", "two"]),
        ("os_hidden=true&name=in:%22three,%20four%22,one", ["three, four"]),
        ("os_hidden=True", ["three, four"]),
        ("status=active", ["one", "two"]),
        ("status=queued", []),
        ("tag=a", ["one", "two"]),
        ("tag=a&tag=b", ["one"]),
        ("os_distro=tiny", ["one"]),
        ("os_distro=big", []),
        (f"size_min={len(RAW) + 1}", ["two"]),
        (f"size_max={len(RAW)}", ["one"]),
        ("protected=true", ["two"]),
        ("min_ram=64", ["two"]),
        (f"owner={alice.project_id}", ["one", "two"]),
        ("owner=somebody", []),
        (f"created_at=gt:{middle}", ["two"]),
        (f"created_at=lte:{middle}", ["one"]),
        ("disk_format=raw", ["one", "two"]),
        ("container_format=bare", ["one", "two"]),
    ):
        assert sorted(names(alice.get(f"{V2}?{query}"))) == found, query
    for bad in (
        "limit=-1",
        "limit=x",
        "marker=nothing",
        "sort=colour:asc",
        "sort=name:up",
        "sort_key=colour",
        "sort_dir=up",
        "visibility=x",
        "member_status=x",
        "size_min=x",
        "created_at=soon",
        "protected=perhaps",
        "sort=name&sort_key=name",
        "name=in:%22a",
        "limit=99999999999",
    ):
        assert alice.get(f"{V2}?{bad}").status == 400, bad


def test_pages(alice: Any, cloud: Any) -> None:
    for name in "abcde":
        create(alice, name=name)
        cloud.clock.turn(1)
    assert names(alice.get(V2)) == list("edcba")
    assert names(alice.get(f"{V2}?sort=name:asc")) == list("abcde")
    assert names(alice.get(f"{V2}?sort_key=name&sort_dir=asc&limit=2")) == list("ab")
    seen: list[str] = []
    path = f"{V2}?limit=2&sort=name:asc"
    while path:
        got = alice.get(path)
        seen += names(got)
        assert got.json["first"] == "/v2/images?limit=2&sort=name%3Aasc"
        path = "/image" + got.json["next"] if "next" in got.json else ""
    assert seen == list("abcde")
    assert names(alice.get(f"{V2}?limit=0")) == []


def test_schemas_and_info(alice: Any, reader: Any, admin: Any) -> None:
    for name in ("image", "images", "member", "members"):
        assert alice.get(f"/image/v2/schemas/{name}").json["name"] == name
    assert alice.get("/image/v2/info/import").json["import-methods"]["type"] == "array"
    assert alice.get("/image/v2/info/stores").json["stores"][0]["id"] == "file"
    assert alice.get("/image/v2/info/stores/detail").status == 403
    assert admin.get("/image/v2/info/stores/detail").status == 200
    active(alice)
    usage = reader.get("/image/v2/info/usage").json["usage"]
    assert usage["image_count_total"] == {"usage": 1, "limit": -1}


def test_no_token(cloud: Any) -> None:
    for method, path in (
        ("GET", V2),
        ("POST", V2),
        ("GET", f"{V2}/x"),
        ("PUT", f"{V2}/x/file"),
        ("GET", "/image/v2/schemas/image"),
    ):
        assert cloud.nobody.call(method, path).status == 401


def test_an_image_for_a_disk(cloud: Any, alice: Any, bob: Any) -> None:
    from stackling.base.context import Caller
    from stackling.base.errors import NotFound

    made = active(alice, os_distro="tiny")
    who = Caller(
        policy=cloud.cloud.policy,
        user_id="u",
        project_id=alice.project_id,
        roles=frozenset({"member", "reader"}),
    )
    other = Caller(
        policy=cloud.cloud.policy,
        user_id="u",
        project_id=bob.project_id,
        roles=frozenset({"member", "reader"}),
    )
    queued = create(alice)["id"]
    with cloud.db.read() as tx:
        row = images.for_boot(tx, cloud.cloud, who, made["id"])
        assert images.ref(row).sha512 == made["os_hash_value"]
        assert images.properties(tx, row.id) == {"os_distro": "tiny"}
        with pytest.raises(BadRequest, match="queued"):
            images.for_boot(tx, cloud.cloud, who, queued)
        with pytest.raises(NotFound):
            images.for_boot(tx, cloud.cloud, other, made["id"])


def test_the_ready_image_is_registered_once(cloud: Any, alice: Any, tmp_path: Path) -> None:
    built = tmp_path / "ready.qcow2"
    built.write_bytes(qcow2())

    def register() -> str:
        with cloud.db.begin() as tx:
            return images.register(
                tx,
                cloud.cloud,
                name="stackling-ready",
                path=built,
                project_id="f" * 32,
                virtual_size=1 << 20,
                properties={"os_distro": "stackling"},
                min_ram=128,
            ).id

    id = register()
    assert register() == id
    got = alice.get(f"{V2}?name=stackling-ready").json["images"]
    assert [(i["id"], i["visibility"], i["min_ram"], i["os_distro"]) for i in got] == [
        (id, "public", 128, "stackling")
    ]
    assert alice.get(f"{V2}/{id}/file").content == built.read_bytes()
    store.of(cloud.cloud)["file"].path(id).unlink()
    assert register() == id
    assert io.BytesIO(alice.get(f"{V2}/{id}/file").content).read() == built.read_bytes()
    built.write_bytes(qcow2(size=2 << 20))
    assert register() != id
