"""The hosts' image caches, as an administrator sees them."""

import threading
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from stackling.image.cache import ImageCache, ImageDamaged, ImageRef, StoredFiles
from stackling.image.data_driver import CacheUnavailable, NodeCache
from tests.image.test_image import RAW, V2, active, create
from tests.image.test_import import allow

CACHE = "/image/v2/cache"


def cache(cloud: Any, host: str = "n1") -> Any:
    return cloud.cloud.driver(NodeCache, host)


def listed(admin: Any) -> tuple[list[str], list[str]]:
    told = admin.get(CACHE).json
    return [i["image_id"] for i in told["cached_images"]], told["queued_images"]


def boot(cloud: Any, user: Any, image_id: str) -> str:
    flavor = user.get("/compute/v2.1/flavors").json["flavors"][0]["id"]
    want = {"name": "web", "imageRef": image_id, "flavorRef": flavor, "networks": "none"}
    made = user.post(
        "/compute/v2.1/servers", {"server": want}, headers={"X-OpenStack-Nova-API-Version": "2.37"}
    )
    assert made.status == 202, made
    cloud.settle()
    return str(made.json["server"]["id"])


def test_only_for_those_who_may(alice: Any) -> None:
    for method, path in (
        ("GET", ""),
        ("DELETE", ""),
        ("PUT", f"/{uuid.uuid4()}"),
        ("DELETE", f"/{uuid.uuid4()}"),
        ("POST", "/clean"),
        ("POST", "/prune"),
    ):
        assert alice.call(method, CACHE + path).status == 403, (method, path)


def test_an_image_is_queued_cached_and_dropped(cloud: Any, admin: Any, alice: Any) -> None:
    assert listed(admin) == ([], [])
    assert admin.put(f"{CACHE}/no-such-image").status == 404
    assert admin.put(f"{CACHE}/{create(alice)['id']}").status == 400
    id = active(alice)["id"]
    assert admin.put(f"{CACHE}/{id}").status == 202
    assert admin.put(f"{CACHE}/{id}").status == 202
    assert listed(admin) == ([], [id])
    cloud.settle()
    assert listed(admin) == ([id], [])
    (one,) = admin.get(CACHE).json["cached_images"]
    assert (one["size"], one["hits"], one["hosts"]) == (len(RAW), 0, ["n1"])
    assert one["last_accessed"] >= one["last_modified"] > 1e9
    assert admin.get(f"{CACHE}/nodes/{id}").json == {"cached_nodes": ["n1"]}
    assert list(cache(cloud).images) == [id]
    assert admin.delete(f"{CACHE}/{uuid.uuid4()}").status == 404
    assert admin.delete(f"{CACHE}/{id}").status == 204
    assert listed(admin) == ([], [])
    assert admin.delete(f"{CACHE}/{id}").status == 404
    cloud.settle()
    assert cache(cloud).images == {}


def test_clearing(cloud: Any, admin: Any, alice: Any) -> None:
    first, second = active(alice)["id"], active(alice)["id"]
    admin.put(f"{CACHE}/{first}")
    cloud.settle()
    admin.put(f"{CACHE}/{second}")
    target = "x-image-cache-clear-target"
    assert admin.delete(CACHE, headers={target: "invalid"}).status == 400
    assert listed(admin) == ([first], [second])
    assert admin.delete(CACHE, headers={target: "queue"}).status == 204
    assert listed(admin) == ([first], [])
    assert admin.delete(CACHE, headers={target: "cache"}).status == 204
    assert listed(admin) == ([], [])
    admin.put(f"{CACHE}/{first}")
    assert admin.delete(CACHE).status == 204
    assert listed(admin) == ([], [])
    cloud.settle()
    assert cache(cloud).images == {}


def test_what_servers_brought_is_seen_and_stays_as_long_as_they(cloud: Any, admin: Any, alice: Any) -> None:
    id = active(alice)["id"]
    server = boot(cloud, alice, id)
    assert admin.post(f"{CACHE}/clean").status == 200
    cloud.settle()
    (one,) = admin.get(CACHE).json["cached_images"]
    assert (one["image_id"], one["hits"]) == (id, 1)
    assert admin.delete(f"{CACHE}/{id}").status == 204
    cloud.turn(120, every=60)
    assert id in cache(cloud).images
    assert alice.delete(f"/compute/v2.1/servers/{server}").status == 204
    cloud.turn(120, every=60)
    assert cache(cloud).images == {}


def test_unused_images_age_out(cloud: Any, admin: Any, alice: Any) -> None:
    used, unused = active(alice)["id"], active(alice)["id"]
    boot(cloud, alice, used)
    admin.put(f"{CACHE}/{unused}")
    cloud.settle()
    cloud.turn(80_000, every=2500)
    assert sorted(cache(cloud).images) == sorted([used, unused])
    cloud.turn(15_000, every=2500)
    assert list(cache(cloud).images) == [used]
    cloud._users.clear()  # the tokens are old too
    assert listed(cloud.admin) == ([used], [])


def test_too_much_that_is_unused_goes_oldest_first(cloud: Any, admin: Any, alice: Any) -> None:
    allow(cloud, cache_max_gib=3)
    found = [active(alice)["id"] for _ in range(3)]
    for id in found:
        admin.put(f"{CACHE}/{id}")
        cloud.settle()
        cache(cloud).images[id] = 2 << 30
        cloud.clock.turn(10)
    assert admin.post(f"{CACHE}/prune").status == 200
    cloud.settle()
    assert list(cache(cloud).images) == found[2:]


def test_a_host_that_is_away_gets_it_when_it_is_back(cloud: Any, admin: Any, alice: Any) -> None:
    id = active(alice)["id"]
    cache(cloud).down = True
    admin.put(f"{CACHE}/{id}")
    cloud.turn(100, every=20)
    assert listed(admin) == ([], [id])
    cache(cloud).down = False
    cloud.turn(60, every=20)
    assert listed(admin) == ([id], [])


def test_an_image_deleted_while_queued_is_not_waited_for(cloud: Any, admin: Any, alice: Any) -> None:
    id = active(alice)["id"]
    admin.put(f"{CACHE}/{id}")
    alice.delete(f"{V2}/{id}")
    cloud.settle()
    assert listed(admin) == ([], [])


# -- one host's cache, with files --------------------------------------------------------------------------------------


class Elsewhere(StoredFiles):
    """A store on another machine: its files can't be linked. `asked` counts reads."""

    asked = 0

    def path(self, image_id: str) -> Path | None:
        return None

    def open(self, image_id: str) -> Any:
        Elsewhere.asked += 1
        time.sleep(0.05)
        return super().open(image_id)


@pytest.fixture
def image(tmp_path: Path) -> ImageRef:
    import hashlib

    id = str(uuid.uuid4())
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / id).write_bytes(RAW)
    sha512 = hashlib.sha512(RAW).hexdigest()
    return ImageRef(id=id, format="raw", size=len(RAW), sha512=sha512, virtual_size=len(RAW))


def test_however_many_ask_at_once_it_is_fetched_once(image: ImageRef, tmp_path: Path) -> None:
    Elsewhere.asked = 0
    kept = ImageCache(tmp_path / "cache", Elsewhere(tmp_path / "store"))
    threads = [threading.Thread(target=kept.fetch, args=(image,)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert kept.fetch(image)
    assert Elsewhere.asked == 1
    assert kept.file(image.id).read_bytes() == RAW


def test_what_arrives_is_checked(image: ImageRef, tmp_path: Path) -> None:
    (tmp_path / "store" / image.id).write_bytes(RAW[::-1])
    kept = ImageCache(tmp_path / "cache", Elsewhere(tmp_path / "store"))
    with pytest.raises(ImageDamaged):
        kept.fetch(image)
    (tmp_path / "store" / image.id).unlink()
    with pytest.raises(CacheUnavailable):
        kept.fetch(image)
    assert kept.held() == ()


def test_what_is_used_is_not_dropped(image: ImageRef, tmp_path: Path) -> None:
    kept = ImageCache(tmp_path / "cache", StoredFiles(tmp_path / "store"))
    assert kept.held() == ()
    assert kept.fetch(image)
    kept.used_by = lambda: [image.id, image.id]
    assert [(h.image_id, h.size, h.users) for h in kept.held()] == [(image.id, len(RAW), 2)]
    assert not kept.drop(image.id)
    kept.used_by = tuple
    (tmp_path / "cache" / f"{image.id}.dead.part").write_bytes(b"half")
    assert kept.drop(image.id)
    assert kept.drop(image.id)
    assert kept.held() == ()
    assert list((tmp_path / "cache").iterdir()) == []
    assert (tmp_path / "store" / image.id).exists()


def test_an_aggregates_hosts_fetch_ahead(cloud: Any, admin: Any, alice: Any) -> None:
    """Compute's POST /os-aggregates/{id}/images."""
    id, lost = active(alice, visibility="private")["id"], str(uuid.uuid4())
    made = admin.post("/compute/v2.1/os-aggregates", {"aggregate": {"name": "near"}}).json["aggregate"]
    path = f"/compute/v2.1/os-aggregates/{made['id']}"

    def cache(*ids: str, user: Any = admin, to: str = path, version: str = "2.81") -> int:
        body = {"cache": [{"id": i} for i in ids]}
        headers = {"OpenStack-API-Version": f"compute {version}"}
        return int(user.post(f"{to}/images", body, headers=headers).status)

    assert cache(id) == 202
    cloud.settle()
    assert listed(admin) == ([], []), "it has no hosts yet"
    admin.post(f"{path}/action", {"add_host": {"host": "n1"}})
    assert cache(id, version="2.80") == 404
    assert cache(id, user=alice) == 403
    assert cache(id, to="/compute/v2.1/os-aggregates/999") == 404
    assert [cache(), cache("x"), cache(id, id), cache(id, lost)] == [400] * 4
    assert listed(admin) == ([], [])
    assert cache(id) == 202
    cloud.settle()
    assert listed(admin) == ([id], [])
