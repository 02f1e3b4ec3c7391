"""Images as compute spoke of them before 2.36."""

from tests.compute.bed import V, act, at, boot, image
from tests.conftest import Bed, User


def test_lists_shows_and_deletes(cloud: Bed, alice: User, bob: User) -> None:
    id = image(alice, min_ram=5, flavour="plain")
    shown = alice.get(f"{V}/images/{id}").json["image"]
    assert (shown["status"], shown["minRam"], shown["progress"]) == ("ACTIVE", 5, 100)
    assert (shown["metadata"], shown["OS-EXT-IMG-SIZE:size"]) == ({"flavour": "plain"}, 1 << 20)
    assert bob.get(f"{V}/images/{id}").status == 404
    assert bob.delete(f"{V}/images/{id}").status == 404
    assert [i["id"] for i in alice.get(f"{V}/images").json["images"]] == [id]
    assert alice.get(f"{V}/images/detail?name=tiny").json["images"] == [shown]
    for empty in ("name=x", "status=SAVING", "server=x", "minRam=7"):
        assert alice.get(f"{V}/images?{empty}").json["images"] == [], empty
    assert alice.get(f"{V}/images?changes-since=x").status == 400
    assert alice.get(f"{V}/images", headers=at("2.36")).status == 404
    assert alice.delete(f"{V}/images/{id}").status == 204
    assert alice.get(f"{V}/images/{id}").status == 404


def test_an_image_of_a_server_names_it(cloud: Bed, alice: User) -> None:
    id = boot(cloud, alice)["id"]
    made = act(alice, id, "createImage", {"name": "mine"}, "2.45").json["image_id"]
    shown = alice.get(f"{V}/images/{made}").json["image"]
    assert (shown["status"], shown["server"]["id"]) == ("SAVING", id)
    for server in (id, shown["server"]["links"][0]["href"]):
        assert [i["id"] for i in alice.get(f"{V}/images?server={server}").json["images"]] == [made]
    assert [i["id"] for i in alice.get(f"{V}/images?type=snapshot").json["images"]] == [made]


def test_metadata(cloud: Bed, alice: User, bob: User, reader: User) -> None:
    id = image(alice, a="1")
    path = f"{V}/images/{id}/metadata"
    assert alice.post(path, {"metadata": {"b": "2"}}).json == {"metadata": {"a": "1", "b": "2"}}
    assert alice.put(path, {"metadata": {"c": "3"}}).json == {"metadata": {"c": "3"}}
    assert alice.put(f"{path}/d", {"meta": {"d": "4"}}).json == {"meta": {"d": "4"}}
    assert alice.put(f"{path}/d", {"meta": {"e": "4"}}).status == 400
    assert alice.get(f"{path}/d").json == {"meta": {"d": "4"}}
    assert alice.delete(f"{path}/d").status == 204
    assert alice.delete(f"{path}/d").status == 404
    assert alice.get(f"{path}/d").status == 404
    assert bob.get(path).status == 404
    assert reader.post(path, {"metadata": {"b": "2"}}).status == 403
    assert alice.post(path, {"metadata": {"": "2"}}).status == 400
    assert alice.get(path, headers=at("2.38")).json == {"metadata": {"c": "3"}}
    assert alice.get(path, headers=at("2.39")).status == 404
