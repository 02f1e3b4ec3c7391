"""Images whose data stays where it is."""

import hashlib
from typing import Any

import pytest

from tests.image.test_image import PATCH, RAW, V2, active, create, files, qcow2, upload
from tests.image.test_import import Site, allow, bring_in, show, site, tasks

__all__ = ["site"]
SHA512, SHA256 = hashlib.sha512(RAW).hexdigest(), hashlib.sha256(RAW).hexdigest()
MD5 = hashlib.md5(RAW).hexdigest()


@pytest.fixture
def page(cloud: Any, site: str) -> str:
    """A URL of raw data that the operator allows."""
    allow(cloud, web_download_allow=["127.0.0.1"])
    return f"{site}/raw"


def put(user: Any, id: str, op: str, path: str, value: Any = None) -> Any:
    change = {"op": op, "path": path} | ({} if op == "remove" else {"value": value})
    return user.patch(f"{V2}/{id}", [change], headers=PATCH)


def urls(user: Any, id: str) -> list[str]:
    return [place["url"] for place in show(user, id)["locations"]]


def test_uploaded_data_shows_its_store_and_no_path(cloud: Any, alice: Any) -> None:
    id = create(alice)["id"]
    assert show(alice, id)["locations"] == []
    assert upload(alice, id).status == 204
    assert show(alice, id)["locations"] == [{"url": f"file://file/{id}", "metadata": {}}]
    allow(cloud, show_multiple_locations=False)
    assert "locations" not in show(alice, id)
    assert put(alice, id, "add", "/locations/-", {"url": "http://x.example/"}).status == 403


def test_a_url_makes_a_queued_image_active(cloud: Any, alice: Any, bob: Any, page: str) -> None:
    id = create(alice)["id"]
    assert put(bob, id, "add", "/locations/-", {"url": page}).status == 404
    got = put(alice, id, "add", "/locations/-", {"url": page, "metadata": {"foo": "bar"}})
    assert got.status == 200, got
    image = got.json
    assert image["locations"] == [{"url": page, "metadata": {"foo": "bar"}}]
    assert (image["status"], image["stores"], image["size"]) == ("active", "web", len(RAW))
    assert (image["os_hash_algo"], image["os_hash_value"], image["checksum"]) == (None, None, None)
    assert alice.get(f"{V2}/{id}/file").content == RAW
    got = alice.get(f"{V2}/{id}/file", headers={"Range": "bytes=1000-1009"})
    assert (got.status, got.content) == (206, RAW[1000:1010])
    assert files(cloud) == []


def test_nobody_boots_what_nobody_inspected_until_it_is_copied(
    cloud: Any, alice: Any, admin: Any, page: str
) -> None:
    id = create(alice)["id"]
    put(alice, id, "add", "/locations/-", {"url": page})
    volume = {"volume": {"size": 1, "imageRef": id}}
    refused = alice.post("/volume/v3/volumes", volume)
    assert refused.status == 400
    assert "copy-image" in refused.text
    wish = {"method": {"name": "copy-image"}, "stores": ["file"]}
    assert admin.post(f"{V2}/{id}/import", wish).status == 202
    cloud.settle()
    got = show(alice, id)
    assert (got["stores"], got["os_hash_value"], got["virtual_size"]) == ("file,web", SHA512, len(RAW))
    assert urls(alice, id) == [f"file://file/{id}", page]
    assert alice.post("/volume/v3/volumes", volume).status == 202
    Site.pages["/raw"], kept = b"changed", Site.pages["/raw"]
    try:
        assert alice.get(f"{V2}/{id}/file").content == RAW  # from the heavier store
    finally:
        Site.pages["/raw"] = kept
    assert put(admin, id, "remove", "/locations/1").status == 200
    assert urls(alice, id) == [f"file://file/{id}"]


def test_a_copy_of_dangerous_data_is_refused(cloud: Any, alice: Any, admin: Any, site: str) -> None:
    allow(cloud, web_download_allow=["127.0.0.1"])
    id = create(alice, disk_format="qcow2")["id"]
    assert put(alice, id, "add", "/locations/-", {"url": f"{site}/evil"}).status == 200
    admin.post(f"{V2}/{id}/import", {"method": {"name": "copy-image"}, "stores": ["file"]})
    cloud.settle()
    got = show(alice, id)
    assert (got["status"], got["stores"], got["os_glance_failed_import"]) == ("active", "web", "file")
    assert "backing file" in tasks(admin, id)[0]["message"]
    assert files(cloud) == []


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "gopher://info.example/",
        "rbd://a/b/c/d",
        "filesystem:///etc/passwd",
        "http://127.0.0.1/x",
        "http://169.254.169.254/latest/meta-data",
        "http://[::1]/x",
        "http://localhost:9500/",
        "https://user:pass@images.example/x",
        "http://images.example:22/",
        "not a url",
        "",
        "http://" + "x" * 4000,
    ],
)
def test_what_is_no_location(cloud: Any, alice: Any, url: str) -> None:
    id = create(alice)["id"]
    assert put(alice, id, "add", "/locations/-", {"url": url}).status == 400
    assert alice.post(f"{V2}/{id}/locations", {"url": url}).status == 400
    got = show(alice, id)
    assert (got["status"], got["locations"]) == ("queued", [])


def test_a_redirect_to_the_cloud_itself_is_not_followed(cloud: Any, alice: Any, site: str) -> None:
    host = site.removeprefix("http://")
    allow(cloud, web_download_allow=[host.rpartition(":")[0]])
    id = create(alice)["id"]
    for to in ("http://169.254.169.254/latest", "file:///etc/passwd", "http://10.0.0.1/"):
        assert put(alice, id, "add", "/locations/-", {"url": f"{site}/to/{to}"}).status == 400
    assert put(alice, id, "add", "/locations/-", {"url": f"{site}/nothing"}).status == 400
    assert show(alice, id)["status"] == "queued"


def test_changes_of_the_list(cloud: Any, alice: Any, admin: Any, page: str) -> None:
    id = create(alice)["id"]
    put(alice, id, "add", "/locations/-", {"url": page})
    assert put(alice, id, "add", "/locations/-", {"url": page}).status == 400  # twice
    assert put(alice, id, "add", "/locations/-", {"url": f"{page}#new"}).status == 200
    assert put(alice, id, "add", "/locations/0", {"url": f"{page}#first"}).status == 200
    assert urls(alice, id) == [f"{page}#first", page, f"{page}#new"]
    places = show(alice, id)["locations"]
    places[0]["metadata"] = {"speed": "88mph"}
    assert put(alice, id, "replace", "/locations", places).status == 200
    assert show(alice, id)["locations"] == places
    assert put(alice, id, "replace", "/locations", places[:2]).status == 400
    assert put(alice, id, "replace", "/locations", [*places[:2], {"url": f"{page}#x"}]).status == 400
    assert put(alice, id, "replace", "/locations", []).status == 403
    assert put(alice, id, "replace", "/locations", "x").status == 400
    assert put(alice, id, "replace", "/locations/0", places[0]).status == 400
    assert put(alice, id, "add", "/locations", places).status == 400
    for place in ("9", "-1", "x", "1/2"):
        assert put(alice, id, "add", f"/locations/{place}", {"url": f"{page}#9"}).status == 400
        assert put(admin, id, "remove", f"/locations/{place}").status == 400
    for wrong in ({}, {"url": 5}, {"url": page, "x": 1}, "x", None, {"url": f"{page}#8", "metadata": "x"}):
        assert put(alice, id, "add", "/locations/-", wrong).status == 400, wrong
    assert show(alice, id)["locations"] == places
    assert put(alice, id, "remove", "/locations/0").status == 403  # the policy says admin
    assert put(admin, id, "remove", "/locations/0").status == 200
    assert put(admin, id, "remove", "/locations/0").status == 200
    assert put(admin, id, "remove", "/locations/0").status == 403  # the last one
    assert urls(alice, id) == [f"{page}#new"]


def test_what_is_said_of_the_data(cloud: Any, alice: Any, page: str) -> None:
    said = {"checksum": "1" * 32, "os_hash_value": "deadbeef" * 16, "os_hash_algo": "sha512"}
    id = create(alice)["id"]
    assert put(alice, id, "add", "/locations/-", {"url": page, "validation_data": said}).status == 200
    got = show(alice, id)
    assert [got[k] for k in said] == list(said.values())
    assert "validation_data" not in got["locations"][0]
    again = {"url": f"{page}#new", "validation_data": said}
    for key, value in (("checksum", "2" * 32), ("os_hash_value", "b" * 128), ("os_hash_algo", "md5")):
        wrong = {**said, key: value}
        assert put(alice, id, "add", "/locations/-", {**again, "validation_data": wrong}).status == 409
    assert put(alice, id, "add", "/locations/-", again).status == 200
    for wrong in ({"checksum": "1"}, {**said, "os_hash_algo": "sha0"}, {**said, "checksum": "z" * 32}, 5):
        fresh = create(alice)["id"]
        bad = {"url": page, "validation_data": wrong}
        assert put(alice, fresh, "add", "/locations/-", bad).status == 400, wrong
        assert show(alice, fresh)["status"] == "queued"


# -- POST …/locations --------------------------------------------------------------------------------------------------


def locate(user: Any, id: str, url: str, **said: str) -> Any:
    return user.post(f"{V2}/{id}/locations", {"url": url, "validation_data": said})


def test_data_is_hashed_where_it_is(cloud: Any, alice: Any, bob: Any, page: str) -> None:
    id = create(alice)["id"]
    assert locate(bob, id, page).status == 404
    assert locate(alice, id, page).status == 202
    assert show(alice, id)["status"] == "importing"
    assert locate(alice, id, page).status == 409
    assert bring_in(alice, id, "web-download", uri=page).status == 409
    cloud.settle()
    got = show(alice, id)
    assert (got["status"], got["stores"], got["size"]) == ("active", "web", len(RAW))
    assert (got["os_hash_algo"], got["os_hash_value"], got["checksum"]) == ("sha512", SHA512, MD5)
    (task,) = tasks(alice, id)
    assert (task["type"], task["status"]) == ("location_import", "success")
    assert locate(alice, id, page).status == 409
    assert alice.post("/volume/v3/volumes", {"volume": {"size": 1, "imageRef": id}}).status == 202
    assert alice.get(f"{V2}/{id}/locations").status == 403
    service = cloud.user("nova", "blue", "service")
    assert [place["url"] for place in service.get(f"{V2}/{id}/locations").json] == [page]


def test_and_compared(cloud: Any, alice: Any, page: str) -> None:
    id = create(alice)["id"]
    assert locate(alice, id, page, os_hash_algo="sha256", os_hash_value=SHA256).status == 202
    cloud.settle()
    got = show(alice, id)
    assert (got["status"], got["os_hash_algo"], got["os_hash_value"]) == ("active", "sha256", SHA256)
    assert got["checksum"] == MD5
    wrong = create(alice)["id"]
    assert locate(alice, wrong, page, os_hash_algo="sha512", os_hash_value="beefdead" * 16).status == 202
    cloud.settle()
    got = show(alice, wrong)
    assert (got["status"], got["os_hash_algo"], got["checksum"]) == ("queued", None, None)
    assert tasks(alice, wrong)[0]["status"] == "failure"
    assert upload(alice, wrong).status == 204
    assert show(alice, wrong)["stores"] == "file"
    for said in (
        {"os_hash_algo": "sha512", "os_hash_value": "dbc9e0f80d131e64b94913a7b40bb5"},
        {"os_hash_value": SHA512},
        {"os_hash_algo": "sha123", "os_hash_value": SHA512},
        {"os_hash_algo": "sha512", "os_hash_value": SHA256},
    ):
        fresh = create(alice)["id"]
        assert locate(alice, fresh, page, **said).status == 400, said
        assert show(alice, fresh)["status"] == "queued"


def test_data_that_is_no_disk_can_be_downloaded_and_not_booted(cloud: Any, alice: Any, page: str) -> None:
    id = create(alice, disk_format="qcow2")["id"]
    assert locate(alice, id, page).status == 202
    cloud.settle()
    got = show(alice, id)
    assert (got["status"], got["os_hash_value"], got["virtual_size"]) == ("active", SHA512, None)
    assert alice.post("/volume/v3/volumes", {"volume": {"size": 1, "imageRef": id}}).status == 400


def test_without_hashing(cloud: Any, alice: Any, page: str) -> None:
    allow(cloud, do_secure_hash=False)
    id, said = create(alice)["id"], create(alice)["id"]
    locate(alice, id, page)
    locate(alice, said, page, os_hash_algo="sha512", os_hash_value="beefdead" * 16)
    cloud.settle()
    got = show(alice, id)
    assert (got["status"], got["size"], got["checksum"], got["os_hash_value"]) == (
        "active",
        len(RAW),
        None,
        None,
    )
    assert show(alice, said)["os_hash_value"] == "beefdead" * 16


def test_deleted_while_it_is_hashed(cloud: Any, alice: Any, page: str) -> None:
    id = create(alice)["id"]
    locate(alice, id, page)
    assert alice.delete(f"{V2}/{id}").status == 204
    cloud.settle()
    assert alice.get(f"{V2}/{id}").status == 404
    assert files(cloud) == []


def test_there_may_be_no_store_of_the_web(cloud: Any, alice: Any, page: str) -> None:
    stores = cloud.cloud.config.image.stores
    allow(cloud, stores=[s for s in stores if s.type == "file"])
    id = create(alice)["id"]
    assert locate(alice, id, page).status == 400
    assert put(alice, id, "add", "/locations/-", {"url": page}).status == 400
    assert "web" not in alice.get("/image/v2/info/stores").text


def test_an_image_of_the_clouds_own_can_lie_on_the_web_too(cloud: Any, alice: Any, page: str) -> None:
    id = active(alice)["id"]
    assert put(alice, id, "add", "/locations/-", {"url": page}).status == 200
    assert urls(alice, id) == [f"file://file/{id}", page]
    assert show(alice, id)["os_hash_value"] == SHA512
    assert qcow2() in Site.pages.values()
