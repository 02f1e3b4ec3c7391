"""Imports: staged data, data from the web, data of other images; and the tasks that tell of them."""

import http.server
import ipaddress
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest
import sqlalchemy as sa

from stackling.base import jobs
from stackling.image import download, store
from stackling.image.drivers.file import FileStore
from stackling.image.state.image import image
from stackling.image.state.task import image_task
from stackling.image.steps import task as steps
from tests.image.test_image import OCTETS, PATCH, RAW, V2, active, create, files, qcow2, upload

TASKS = "/image/v2/tasks"


class Site(http.server.BaseHTTPRequestHandler):
    """A web site of one image, and of ways to go wrong."""

    pages: ClassVar[dict[str, bytes]] = {
        "/raw": RAW,
        "/qcow2": qcow2(),
        "/evil": qcow2(backing=b"/etc/passwd"),
    }
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path[4:])
            self.end_headers()
            return
        data = self.pages.get(self.path)
        cut = self.path == "/cut"
        if data is None and not cut:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(RAW) * 2 if cut else len(data or b"")))
        if self.path == "/huge":
            self.send_header("Content-Length", str(1 << 60))
        self.end_headers()
        self.wfile.write(RAW if cut else data or b"")

    def log_message(self, *args: Any) -> None:
        """Nothing is logged."""


@pytest.fixture
def site() -> Iterator[str]:
    Site.asked.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def allow(cloud: Any, **options: Any) -> None:
    config = cloud.cloud.config
    cloud.cloud.config = msgspec.structs.replace(
        config, image=msgspec.structs.replace(config.image, **options)
    )


def stage(user: Any, id: str, data: bytes = RAW) -> Any:
    return user.put(f"{V2}/{id}/stage", data=data, headers=OCTETS)


def bring_in(user: Any, id: str, name: str, **method: Any) -> Any:
    return user.post(f"{V2}/{id}/import", {"method": {"name": name, **method}})


def show(user: Any, id: str) -> Any:
    return user.get(f"{V2}/{id}").json


def tasks(user: Any, id: str) -> list[dict[str, Any]]:
    return user.get(f"{V2}/{id}/tasks").json["tasks"]


def test_what_is_offered(alice: Any) -> None:
    got = alice.get("/image/v2/info/import").json["import-methods"]
    assert got["value"] == ["glance-direct", "web-download", "copy-image", "glance-download"]
    made = alice.post(V2, {"name": "x"})
    assert made.headers["openstack-image-import-methods"] == ",".join(got["value"])


def test_staged_data_is_imported(cloud: Any, alice: Any, bob: Any) -> None:
    id = create(alice)["id"]
    assert bring_in(alice, id, "glance-direct").status == 409
    assert stage(bob, id).status == 404
    assert stage(alice, id).status == 204
    got = show(alice, id)
    assert (got["status"], got["size"]) == ("uploading", len(RAW))
    assert alice.get("/image/v2/info/usage").json["usage"]["image_stage_total"]["usage"] == 1
    assert stage(alice, id).status == 409
    assert upload(alice, id).status == 409
    cloud.turn(900, every=300)
    assert bring_in(bob, id, "glance-direct").status == 404
    asked = bring_in(alice, id, "glance-direct")
    assert (asked.status, asked.content) == (202, b"")
    got = show(alice, id)
    assert (got["status"], got["os_glance_importing_to_stores"]) == ("importing", "file")
    assert bring_in(alice, id, "glance-direct").status == 409
    assert [t["status"] for t in tasks(alice, id)] == ["pending"]
    cloud.settle()
    got = show(alice, id)
    assert (got["status"], got["stores"], got["size"], got["virtual_size"]) == (
        "active",
        "file",
        len(RAW),
        len(RAW),
    )
    assert (got["os_glance_importing_to_stores"], got["os_glance_failed_import"]) == ("", "")
    assert alice.get(f"{V2}/{id}/file").content == RAW
    assert got["checksum"] == active(alice)["checksum"]
    (task,) = tasks(alice, id)
    assert (task["status"], task["type"], task["result"]) == ("success", "api_image_import", {"image_id": id})
    assert task["input"]["import_req"] == {"method": {"name": "glance-direct"}}
    assert task["request_id"] == asked.headers["x-openstack-request-id"]
    assert task["user_id"] == alice.id
    unknown = bob.get(f"{V2}/{id}/tasks")
    assert (unknown.status, unknown.json["message"]) == (404, "<br /><br />\n\n\n")
    assert bring_in(alice, id, "glance-direct").status == 409


def test_lying_staged_data_is_refused(cloud: Any, alice: Any) -> None:
    id = create(alice, disk_format="qcow2")["id"]
    assert stage(alice, id, qcow2(backing=b"/etc/passwd")).status == 204
    assert bring_in(alice, id, "glance-direct").status == 202
    cloud.settle()
    got = show(alice, id)
    assert (got["status"], got["size"], got["os_glance_failed_import"]) == ("queued", None, "file")
    (task,) = tasks(alice, id)
    assert task["status"] == "failure"
    assert "backing file" in task["message"]
    assert files(cloud) == []
    assert stage(alice, id, qcow2()).status == 204
    assert bring_in(alice, id, "glance-direct").status == 202
    cloud.settle()
    assert show(alice, id)["status"] == "active"
    assert sorted(t["status"] for t in tasks(alice, id)) == ["failure", "success"]


def test_broken_staging_leaves_the_image_queued(cloud: Any, alice: Any) -> None:
    id = create(alice)["id"]
    cut = alice.put(f"{V2}/{id}/stage", data=RAW, headers={**OCTETS, "Content-Length": str(len(RAW) + 10)})
    assert cut.status == 400
    assert show(alice, id)["status"] == "queued"
    assert files(cloud) == []
    assert alice.put(f"{V2}/{id}/stage", data=RAW, headers={"Content-Type": "text/plain"}).status == 415


def test_a_stager_that_died_is_found_out(cloud: Any, alice: Any) -> None:
    id = create(alice)["id"]
    part = store.of(cloud.cloud).staging.incoming(id, "dead").path
    now = cloud.clock.now()
    with cloud.db.begin() as tx:
        tx.execute(
            sa.update(image).where(image.c.id == id).values(state="uploading", upload="dead", heard_at=now)
        )
        jobs.start(tx, "image.image", id, now=now)
    cloud.turn(400, every=100)
    assert show(alice, id)["status"] == "queued"
    assert not part.exists()


def test_deleted_while_staged_or_importing(cloud: Any, alice: Any) -> None:
    for imported in (False, True):
        id = create(alice)["id"]
        stage(alice, id)
        if imported:
            bring_in(alice, id, "glance-direct")
        assert alice.delete(f"{V2}/{id}").status == 204
        cloud.settle()
        assert files(cloud) == []
    with cloud.db.read() as tx:
        (row,) = tx.execute(sa.select(image_task)).all()
    assert (row.state, row.failure) == ("failure", "The image was deleted.")


def test_an_import_killed_anywhere_is_done_by_the_next(
    cloud: Any, alice: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process dies while data is read, after it was moved, and after the row was written."""
    for where in ("read", "moved", "kept"):
        id = create(alice)["id"]
        stage(alice, id)
        bring_in(alice, id, "glance-direct")
        files_of = store.of(cloud.cloud)
        if where == "read":
            half = files_of.staging.incoming(id, "dead")
            half.write(b"half")
            half.finish()
        elif where == "moved":
            files_of["file"].take(files_of.staging.path(id), id)
        else:
            with cloud.db.read() as tx:
                target = tx.execute(sa.select(image).where(image.c.id == id)).one()
                row = tx.execute(sa.select(image_task).where(image_task.c.image_id == id)).one()
            steps.read(row, target, cloud.cloud)
        cloud.settle()
        assert show(alice, id)["status"] == "active", where
        assert alice.get(f"{V2}/{id}/file").content == RAW
        assert [t["status"] for t in tasks(alice, id)] == ["success"]
    assert not [f for f in files(cloud) if "." in f]


def test_a_bug_does_not_leave_an_image_importing(
    cloud: Any, alice: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise KeyError("oops")

    monkeypatch.setattr(steps, "read", broken)
    id = create(alice)["id"]
    stage(alice, id)
    bring_in(alice, id, "glance-direct")
    cloud.settle()
    assert show(alice, id)["status"] == "queued"
    assert tasks(alice, id)[0]["message"] == "An unexpected error ended the import."
    assert files(cloud) == []


def test_an_image_deleted_and_made_anew_keeps_its_data(cloud: Any, alice: Any) -> None:
    id = create(alice)["id"]
    stage(alice, id)
    bring_in(alice, id, "glance-direct")
    assert alice.delete(f"{V2}/{id}").status == 204
    create(alice, id=id)
    assert upload(alice, id).status == 204
    cloud.settle()
    assert alice.get(f"{V2}/{id}/file").content == RAW
    assert [t["status"] for t in tasks(alice, id)] == ["failure"]


def test_staged_data_that_is_gone_fails(cloud: Any, alice: Any) -> None:
    id = create(alice)["id"]
    stage(alice, id)
    store.of(cloud.cloud).staging.path(id).unlink()
    bring_in(alice, id, "glance-direct")
    cloud.settle()
    assert show(alice, id)["status"] == "queued"
    assert "stage it again" in tasks(alice, id)[0]["message"]


def test_an_import_that_takes_too_long_is_given_up(
    cloud: Any, alice: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    ended = threading.Event()
    read = steps.read

    def slow(*args: Any) -> None:
        release.wait(20)
        try:
            read(*args)
        finally:
            ended.set()

    monkeypatch.setattr(steps, "read", slow)
    allow(cloud, import_timeout=60)
    id = create(alice)["id"]
    stage(alice, id)
    bring_in(alice, id, "glance-direct")
    cloud.settle()
    assert tasks(alice, id)[0]["status"] == "processing"
    assert show(alice, id)["status"] == "importing"
    cloud.turn(62, every=31)
    assert show(alice, id)["status"] == "queued"
    assert "longer than 60 seconds" in tasks(alice, id)[0]["message"]
    release.set()
    assert ended.wait(20)
    assert show(alice, id)["status"] == "queued"
    assert files(cloud) == []


def test_from_the_web(cloud: Any, alice: Any, site: str) -> None:
    allow(cloud, web_download_allow=["127.0.0.0/8"])
    id = create(alice)["id"]
    assert bring_in(alice, id, "web-download", uri=f"{site}/missing").status == 202
    assert show(alice, id)["status"] == "importing"
    cloud.settle()
    assert show(alice, id)["status"] == "queued"
    assert "answered 404" in tasks(alice, id)[0]["message"]
    cloud.clock.turn(1)
    assert bring_in(alice, id, "web-download", uri=f"{site}/to//raw").status == 202
    cloud.settle()
    got = show(alice, id)
    assert (got["status"], got["size"], got["os_glance_failed_import"]) == ("active", len(RAW), "")
    assert [t["status"] for t in tasks(alice, id)] == ["success", "failure"]
    assert alice.get(f"{V2}/{id}/file").content == RAW
    assert files(cloud) == [id]


WRONG = (
    ("/cut", "broke off after 2048 of 4096 bytes"),
    ("/evil", "not raw"),
    ("/to//to//to//to//to//to//raw", "redirects"),
    ("/to/http://169.254.169.254/latest/meta-data", "169.254.169.254 is not a public address"),
    ("/to/file:///etc/passwd", "only http and https"),
)


def test_what_the_web_does_wrong(cloud: Any, alice: Any, site: str) -> None:
    allow(cloud, web_download_allow=["127.0.0.0/8"])
    id = create(alice)["id"]
    for page, says in WRONG:
        cloud.clock.turn(1)
        assert bring_in(alice, id, "web-download", uri=site + page).status == 202
        cloud.settle()
        assert show(alice, id)["status"] == "queued"
        assert says in tasks(alice, id)[0]["message"]
        assert files(cloud) == []


def test_more_than_the_largest_is_not_read(
    cloud: Any, alice: Any, site: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(Site.pages, "/big", b"\0" * (2 << 20))
    monkeypatch.setattr(FileStore, "free_bytes", lambda _: 1 << 20)
    allow(cloud, web_download_allow=["127.0.0.1"])
    id = create(alice)["id"]
    bring_in(alice, id, "web-download", uri=f"{site}/big")
    cloud.settle()
    assert "not enough disk space" in tasks(alice, id)[0]["message"]
    assert files(cloud) == []


@pytest.mark.parametrize(
    "uri",
    [
        "file:///etc/passwd",
        "ftp://images.example/x",
        "http://",
        "http://x y/",
        "http://[x/",
        "http://images.example:22/x",
        "http://images.example:99999/x",
        "http://user:secret@images.example/x",
        "http://127.0.0.1/x",
        "http://localhost/x",
        "http://LOCALHOST./x",
        "http://169.254.169.254/latest",
        "http://10.0.0.5/x",
        "http://[::1]/x",
        "http://[::ffff:10.0.0.5]/x",
        "http://[64:ff9b::a00:5]/x",
        "http://[2002:a00:5::1]/x",
        "http://[fd00::1]/x",
        "http://0.0.0.0/x",
        "http://224.0.0.1/x",
        "http://100.64.0.1/x",
    ],
)
def test_what_is_refused_at_once(uri: str) -> None:
    with pytest.raises(download.Refused):
        download.check(uri, download.Allowed())


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "127.1", "localtest"])
def test_names_of_the_clouds_own_are_refused_when_looked_up(
    host: str, site: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if host == "localtest":
        own = [(2, 1, 6, "", ("93.184.216.34", 80)), (2, 1, 6, "", ("127.0.0.1", 80))]
        monkeypatch.setattr(download.socket, "getaddrinfo", lambda *_, **__: own)
    with (
        pytest.raises(download.Refused, match="not a public address"),
        download.fetch(f"http://{host}/raw", download.Allowed()),
    ):
        pass
    assert Site.asked == []


def test_what_an_operator_allows() -> None:
    allowed = download.Allowed(hosts=("mirror.lan", "10.1.0.0/16"))
    assert download.check("http://mirror.lan:8080/x", allowed).named
    assert download.check("http://10.1.2.3:8080/x?y=z", allowed).path == "/x?y=z"
    assert download.check("https://93.184.216.34/x", allowed).port == 443
    for bad in ("http://10.2.0.1/x", "http://93.184.216.34:8080/x"):
        with pytest.raises(download.Refused):
            download.check(bad, allowed)
    download.judge(ipaddress.ip_address("93.184.216.34"), allowed, "x")


def test_bad_requests(alice: Any, bob: Any, reader: Any) -> None:
    id = create(alice)["id"]
    for bad in (
        {"name": "magic"},
        {"name": "web-download"},
        {"name": "glance-direct", "uri": "http://x/"},
        {"name": 5},
        {},
        {"name": "web-download", "uri": "file:///etc/passwd"},
        {"name": "web-download", "uri": "http://127.0.0.1/"},
        {"name": "glance-download", "glance_region": "RegionOne"},
        {"name": "glance-download", "glance_region": "RegionOne", "glance_image_id": "foo"},
    ):
        got = alice.post(f"{V2}/{id}/import", {"method": bad})
        assert got.status == 400, (bad, got)
    assert "does not look like a UUID" in got.json["message"]
    assert "does not pass filtering" in bring_in(alice, id, "web-download", uri="ftp://x/").json["message"]
    web = {"method": {"name": "web-download", "uri": "http://images.example/x"}}
    assert alice.post(f"{V2}/{id}/import", {**web, "stores": ["moon"]}).status == 409
    assert alice.post(f"{V2}/{id}/import", {**web, "stores": ["file"], "all_stores": True}).status == 400
    assert alice.post(f"{V2}/{id}/import", []).status == 400
    assert reader.post(f"{V2}/{id}/import", web).status == 403
    bare = alice.post(V2, {"name": "no formats"}).json["id"]
    assert alice.post(f"{V2}/{bare}/import", web).status == 409
    assert stage(alice, bare).status == 204
    assert bring_in(alice, bare, "glance-direct").status == 409
    full = active(alice)["id"]
    assert alice.post(f"{V2}/{full}/import", web).status == 409


def test_copying_to_all_stores_finds_it_there(cloud: Any, admin: Any, alice: Any) -> None:
    id = active(alice)["id"]
    assert bring_in(alice, id, "copy-image").status == 403
    assert (
        admin.post(f"{V2}/{id}/import", {"method": {"name": "copy-image"}, "all_stores": True}).status == 202
    )
    cloud.settle()
    got = show(alice, id)
    assert (got["status"], got["os_glance_importing_to_stores"], got["os_glance_failed_import"]) == (
        "active",
        "",
        "",
    )
    assert [t["status"] for t in tasks(alice, id)] == ["success"]
    assert bring_in(admin, create(alice)["id"], "copy-image").status == 409


def test_from_another_image(cloud: Any, alice: Any, bob: Any) -> None:
    source = active(bob, qcow2(), disk_format="qcow2", hw_disk_bus="scsi", os_distro="debian", speed="88mph")
    id = create(alice, disk_format="iso", container_format="ovf", os_distro="windows")["id"]

    def copy(**more: str) -> None:
        cloud.clock.turn(1)
        asked = {
            "glance_image_id": source["id"],
            "glance_region": "RegionOne",
            "glance_service_interface": "public",
            **more,
        }
        assert bring_in(alice, id, "glance-download", **asked).status == 202
        cloud.settle()

    for more, says in (
        ({}, "not open to this project"),
        ({"glance_region": "elsewhere"}, "region 'elsewhere'"),
        ({"glance_service_interface": "none"}, "No none endpoint"),
    ):
        copy(**more)
        assert says in tasks(alice, id)[0]["message"]
        got = show(alice, id)
        assert (got["status"], got["os_distro"]) == ("queued", "windows")
    bob.patch(
        f"{V2}/{source['id']}",
        [{"op": "replace", "path": "/visibility", "value": "community"}],
        headers=PATCH,
    )
    copy()
    got = show(alice, id)
    assert (got["status"], got["disk_format"], got["container_format"]) == ("active", "qcow2", "bare")
    assert (got["os_distro"], got["hw_disk_bus"], got.get("speed")) == ("debian", "scsi", None)
    assert got["os_hash_value"] == source["os_hash_value"]


def test_users_do_not_set_what_imports_tell(alice: Any) -> None:
    assert alice.post(V2, {"name": "x", "os_glance_failed_import": "x"}).status == 403


# -- /v2/tasks ---------------------------------------------------------------------------------------------------------


def wanted(uri: str, **properties: Any) -> dict[str, Any]:
    given = {"disk_format": "raw", "container_format": "bare", "name": "from a task", **properties}
    return {
        "type": "import",
        "input": {"import_from": uri, "import_from_format": "raw", "image_properties": given},
    }


def test_a_task_makes_an_image(cloud: Any, admin: Any, alice: Any, site: str) -> None:
    allow(cloud, web_download_allow=["127.0.0.1"])
    assert alice.post(TASKS, wanted(f"{site}/raw")).status == 403
    assert alice.get(TASKS).status == 403
    made = admin.post(TASKS, wanted(f"{site}/raw", visibility="public"))
    assert made.status == 201, made
    assert made.headers["location"].endswith(made.json["self"])
    assert (made.json["status"], made.json["result"], made.json["message"]) == ("pending", None, "")
    cloud.settle()
    got = admin.get(f"{TASKS}/{made.json['id']}").json
    assert (got["status"], got["type"]) == ("success", "import")
    assert show(alice, got["result"]["image_id"])["status"] == "active"
    assert alice.get(f"{TASKS}/{got['id']}").status == 403
    assert admin.get(f"{TASKS}/{V2}").status == 404
    cloud.turn(49 * 3600, every=12 * 3600)
    with cloud.db.read() as tx:
        assert tx.execute(sa.select(image_task)).all() == []
        assert tx.execute(sa.select(image.c.state)).scalars().all() == ["active"]


def test_a_task_that_fails_leaves_no_image(cloud: Any, admin: Any, site: str) -> None:
    allow(cloud, web_download_allow=["127.0.0.1"])
    before = len(admin.get(V2).json["images"])
    id = admin.post(TASKS, wanted(f"{site}/missing", tags=["a"])).json["id"]
    cloud.settle()
    got = admin.get(f"{TASKS}/{id}").json
    assert (got["status"], got["result"], "404" in got["message"]) == ("failure", None, True)
    assert len(admin.get(V2).json["images"]) == before
    assert files(cloud) == []


def test_lists_of_tasks(cloud: Any, admin: Any, alice: Any) -> None:
    made = []
    for _ in range(3):
        id = create(alice)["id"]
        stage(alice, id)
        bring_in(alice, id, "glance-direct")
        cloud.settle()
        cloud.clock.turn(1)
        made.append(tasks(alice, id)[0]["id"])
    got = admin.get(TASKS).json
    assert [t["id"] for t in got["tasks"]] == made[::-1]
    assert "input" not in got["tasks"][0]
    assert (got["first"], got["schema"]) == ("/v2/tasks", "/v2/schemas/tasks")
    page = admin.get(f"{TASKS}?limit=2&sort_dir=asc").json
    assert [t["id"] for t in page["tasks"]] == made[:2]
    assert [t["id"] for t in admin.get("/image" + page["next"]).json["tasks"]] == made[2:]
    assert len(admin.get(f"{TASKS}?status=success&type=api_image_import").json["tasks"]) == 3
    assert admin.get(f"{TASKS}?status=failure").json["tasks"] == []
    for bad in ("status=x", "type=x", "sort_key=input", "sort_dir=up", "limit=-1", "marker=x"):
        assert admin.get(f"{TASKS}?{bad}").status == 400, bad
    assert admin.delete(f"{TASKS}/{made[0]}").status == 405
    for name in ("task", "tasks"):
        assert admin.get(f"/image/v2/schemas/{name}").json["name"] == name


BAD_TASKS: tuple[Any, ...] = (
    {},
    {"type": "export", "input": {}},
    {"type": "import", "input": {}},
    {"type": "import", "input": {"import_from": "http://images.example/x"}},
    wanted("file:///etc/passwd"),
    wanted("http://images.example/x", disk_format="wrong"),
    {**wanted("http://images.example/x"), "status": "success"},
)


def test_bad_tasks(cloud: Any, admin: Any) -> None:
    for bad in BAD_TASKS:
        assert admin.post(TASKS, bad).status == 400, bad
    assert admin.get(TASKS).json["tasks"] == []


def test_no_file_is_left_in_the_store(cloud: Any, alice: Any) -> None:
    """Whatever was tried, only images have files."""
    staging: Path = cloud.home / "state" / "images-staging"
    id = create(alice)["id"]
    stage(alice, id)
    assert [p.name for p in staging.iterdir()] == [id]
    assert files(cloud) == [id]
    alice.delete(f"{V2}/{id}")
    cloud.settle()
    assert files(cloud) == []
