"""Every store does the same; and images in several of them."""

import hashlib
import uuid
from pathlib import Path
from typing import Any

import pytest

from stackling.base.config import Config, ConfigError, ImageStore
from stackling.base.config import Image as ImageOptions
from stackling.image import store
from stackling.image.drivers.file import FileStore
from tests.image.test_image import OCTETS, RAW, V2, active, create, files, upload
from tests.image.test_import import show, stage, tasks

BIG = hashlib.sha512(b"seed").digest() * (40 << 10) + bytes(3 << 20)  # 2.5 MiB of data and a hole


class StoreSuite:
    """What is asked of a store. A new kind is another subclass with its own `kept`."""

    @pytest.fixture
    def id(self) -> str:
        return str(uuid.uuid4())

    def fill(self, kept: Any, id: str, data: bytes, upload: str = "u") -> None:
        arriving = kept.incoming(id, upload)
        for start in range(0, len(data), 1 << 20):
            arriving.write(data[start : start + (1 << 20)])
        arriving.finish()
        arriving.finish()
        assert arriving.size == len(data)
        kept.keep(arriving, id)

    @pytest.mark.parametrize("data", [b"", b"\0", RAW, BIG, bytes(5 << 20)])
    def test_what_goes_in_comes_out(self, kept: Any, id: str, data: bytes) -> None:
        self.fill(kept, id, data)
        with kept.open(id) as file:
            assert file.read() == data
            file.seek(len(data) // 2)
            assert file.read() == data[len(data) // 2 :]

    def test_nothing_is_there_before_it_is_kept(self, kept: Any, id: str) -> None:
        arriving = kept.incoming(id, "u")
        arriving.write(RAW)
        arriving.finish()
        with pytest.raises(FileNotFoundError):
            kept.open(id)
        assert kept.arrived(id) == len(RAW)
        arriving.drop()
        assert kept.arrived(id) == 0

    def test_parts_are_forgotten(self, kept: Any, id: str) -> None:
        self.fill(kept, id, RAW)
        arriving = kept.incoming(id, "other")
        arriving.write(BIG[: 1 << 20])
        kept.forget_parts(id)
        arriving.drop()
        assert kept.arrived(id) == 0
        assert kept.open(id).read() == RAW

    def test_a_file_is_taken_and_stays(self, kept: Any, id: str, tmp_path: Path) -> None:
        file = tmp_path / "data"
        file.write_bytes(BIG)
        for _ in range(2):
            kept.take(file, id)
        assert kept.open(id).read() == BIG == file.read_bytes()
        assert kept.arrived(id) == 0

    def test_removing_may_be_repeated(self, kept: Any, id: str) -> None:
        self.fill(kept, id, RAW)
        for _ in range(2):
            kept.remove(id)
        with pytest.raises(FileNotFoundError):
            kept.open(id)

    def test_an_opened_image_is_read_to_its_end_whatever_happens(self, kept: Any, id: str) -> None:
        self.fill(kept, id, RAW)
        with kept.open(id) as file:
            kept.remove(id)
            assert file.read() == RAW

    def test_it_says_what_it_can_take(self, kept: Any) -> None:
        assert kept.free_bytes() > 0
        assert isinstance(kept.about(), dict)

    @pytest.mark.parametrize("id", ["", "../x", "passwd", "0" * 31])
    def test_no_other_name_is_a_place(self, kept: Any, id: str) -> None:
        for call in (lambda: kept.open(id), lambda: kept.incoming(id, "u"), lambda: kept.remove(id)):
            with pytest.raises(ValueError, match="UUID"):
                call()


class TestFileStore(StoreSuite):
    @pytest.fixture
    def kept(self, tmp_path: Path) -> FileStore:
        return FileStore(tmp_path / "store")

    def test_a_full_disk_is_told_and_leaves_nothing(self, id: str) -> None:
        full = FileStore(Path("/dev"))
        full._part = lambda *_: Path("/dev/full")  # type: ignore[method-assign]
        arriving = full.incoming(id, "u")
        with pytest.raises(OSError, match="No space"):
            for _ in range(20):
                arriving.write(BIG[: 1 << 20])
        with pytest.raises(OSError, match="No space"):
            arriving.finish()

    def test_zeros_take_no_space(self, kept: FileStore, id: str) -> None:
        self.fill(kept, id, bytes(8 << 20))
        found = kept.path(id).stat()
        assert (found.st_size, found.st_blocks) == (8 << 20, 0)

    def test_on_one_file_system_a_copy_is_a_link(self, kept: FileStore, id: str, tmp_path: Path) -> None:
        self.fill(kept, id, RAW)
        other = FileStore(tmp_path / "other")
        other.take(kept.path(id), id)
        assert other.path(id).samefile(kept.path(id))
        kept.remove(id)
        assert other.open(id).read() == RAW


# -- through the API ---------------------------------------------------------------------------------------------------


def stored(cloud: Any, name: str) -> Path:
    return cloud.home / "state" / ("images" if name == "file" else f"images-{name}")


def test_the_stores_that_there_are(alice: Any, admin: Any, reader: Any) -> None:
    told = reader.get("/image/v2/info/stores").json["stores"]
    assert [(s["id"], s.get("default"), s.get("read-only"), s["weight"]) for s in told] == [
        ("file", "true", None, 100),
        ("spare", None, None, 0),
        ("web", None, "true", 0),
    ]
    assert all(s["description"] for s in told)
    assert alice.get("/image/v2/info/stores/detail").status == 403
    detail = admin.get("/image/v2/info/stores/detail").json["stores"]
    assert [(s["id"], s["type"]) for s in detail] == [("file", "file"), ("spare", "file"), ("web", "http")]
    assert detail[0]["properties"]["data_dir"].endswith("/images")
    made = alice.post(V2, {"name": "x"})
    assert made.headers["openstack-image-store-ids"] == "file,spare,web"


def test_upload_to_a_named_store(cloud: Any, alice: Any) -> None:
    id = create(alice)["id"]
    for wrong in ("moon", "web", "../file"):
        got = alice.put(f"{V2}/{id}/file", data=RAW, headers={**OCTETS, "X-Image-Meta-Store": wrong})
        assert got.status == 400, got
        assert "file, spare" in got.text
    got = alice.put(f"{V2}/{id}/file", data=RAW, headers={**OCTETS, "X-Image-Meta-Store": "spare"})
    assert got.status == 204
    assert show(alice, id)["stores"] == "spare"
    assert (stored(cloud, "spare") / id).exists()
    assert not (stored(cloud, "file") / id).exists()
    assert alice.get(f"{V2}/{id}/file").content == RAW


def test_import_to_all_stores_and_taking_one_back(cloud: Any, alice: Any, admin: Any, bob: Any) -> None:
    id = create(alice)["id"]
    stage(alice, id)
    wish = {"method": {"name": "glance-direct"}, "all_stores": True}
    assert alice.post(f"{V2}/{id}/import", wish).status == 202
    assert show(alice, id)["os_glance_importing_to_stores"] == "file,spare"
    cloud.settle()
    got = show(alice, id)
    assert (got["status"], got["stores"]) == ("active", "file,spare")  # the heaviest first
    assert (got["os_glance_importing_to_stores"], got["os_glance_failed_import"]) == ("", "")
    there = f"/image/v2/stores/file/{id}"
    assert (alice.delete(there).status, bob.delete(there).status) == (403, 404)
    assert admin.delete(f"/image/v2/stores/moon/{id}").status == 404
    assert admin.delete(f"/image/v2/stores/web/{id}").status == 404
    assert admin.delete(f"/image/v2/stores/file/{uuid.uuid4()}").status == 404
    assert admin.delete(there).status == 204
    assert show(alice, id)["stores"] == "spare"
    cloud.settle()
    assert not (stored(cloud, "file") / id).exists()
    assert alice.get(f"{V2}/{id}/file").content == RAW
    assert admin.delete(there).status == 404
    last = admin.delete(f"/image/v2/stores/spare/{id}")
    assert last.status == 403
    assert "last copy" in last.text
    again = admin.post(f"{V2}/{id}/import", {"method": {"name": "copy-image"}, "stores": ["file"]})
    assert again.status == 202
    cloud.settle()
    assert show(alice, id)["stores"] == "file,spare"
    assert alice.delete(f"{V2}/{id}").status == 204
    cloud.settle()
    assert files(cloud) == []


def test_a_protected_image_stays_in_its_stores(cloud: Any, admin: Any) -> None:
    id = active(admin, protected=True)["id"]
    admin.post(f"{V2}/{id}/import", {"method": {"name": "copy-image"}, "all_stores": True})
    cloud.settle()
    assert show(admin, id)["stores"] == "file,spare"
    assert admin.delete(f"/image/v2/stores/spare/{id}").status == 403


def test_a_copy_can_be_asked_back_only_when_it_is_gone(cloud: Any, admin: Any) -> None:
    id = active(admin)["id"]
    copy = {"method": {"name": "copy-image"}, "stores": ["spare"]}
    assert admin.post(f"{V2}/{id}/import", copy).status == 202
    assert admin.delete(f"/image/v2/stores/file/{id}").status == 409  # it is being copied from there
    cloud.settle()
    assert admin.delete(f"/image/v2/stores/spare/{id}").status == 204
    assert admin.post(f"{V2}/{id}/import", copy).status == 409
    cloud.settle()
    assert admin.post(f"{V2}/{id}/import", copy).status == 202
    cloud.settle()
    assert show(admin, id)["stores"] == "file,spare"


def _broken(cloud: Any, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    take = FileStore.take

    def failing(self: FileStore, path: Path, image_id: str) -> None:
        if self.directory == stored(cloud, name):
            raise OSError(28, "No space left on device")
        take(self, path, image_id)

    monkeypatch.setattr(FileStore, "take", failing)


def test_one_store_that_fails_fails_the_import(
    cloud: Any, alice: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _broken(cloud, monkeypatch, "spare")
    id = create(alice)["id"]
    stage(alice, id)
    assert (
        alice.post(f"{V2}/{id}/import", {"method": {"name": "glance-direct"}, "all_stores": True}).status
        == 202
    )
    cloud.settle()
    got = show(alice, id)
    assert (got["status"], got["os_glance_failed_import"]) == ("queued", "file,spare")
    assert "stores" not in got
    assert "Store spare can't take the data now: No space" in tasks(alice, id)[0]["message"]
    assert files(cloud) == []


def test_or_not_when_the_user_says_so(cloud: Any, alice: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _broken(cloud, monkeypatch, "file")
    id = create(alice)["id"]
    stage(alice, id)
    wish = {"method": {"name": "glance-direct"}, "all_stores": True, "all_stores_must_succeed": False}
    assert alice.post(f"{V2}/{id}/import", wish).status == 202
    cloud.settle()
    got = show(alice, id)
    assert (got["status"], got["stores"], got["os_glance_failed_import"]) == ("active", "spare", "file")
    assert got["os_glance_importing_to_stores"] == ""
    assert files(cloud) == [id]


def test_a_failed_copy_leaves_what_was_there(cloud: Any, admin: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _broken(cloud, monkeypatch, "spare")
    id = active(admin)["id"]
    admin.post(f"{V2}/{id}/import", {"method": {"name": "copy-image"}, "all_stores": True})
    cloud.settle()
    got = show(admin, id)
    assert (got["status"], got["stores"], got["os_glance_failed_import"]) == ("active", "file", "spare")
    assert admin.get(f"{V2}/{id}/file").content == RAW
    assert files(cloud) == [id]


def test_rotten_data_is_not_copied(cloud: Any, admin: Any) -> None:
    id = active(admin)["id"]
    (stored(cloud, "file") / id).write_bytes(RAW[::-1])
    admin.post(f"{V2}/{id}/import", {"method": {"name": "copy-image"}, "all_stores": True})
    cloud.settle()
    assert show(admin, id)["stores"] == "file"
    assert "damaged" in tasks(admin, id)[0]["message"]


def test_a_store_that_lost_its_data_is_passed_over(cloud: Any, admin: Any) -> None:
    id = active(admin)["id"]
    admin.post(f"{V2}/{id}/import", {"method": {"name": "copy-image"}, "all_stores": True})
    cloud.settle()
    (stored(cloud, "file") / id).unlink()
    assert admin.get(f"{V2}/{id}/file").content == RAW


def test_images_of_a_release_with_one_store_find_their_place(cloud: Any, alice: Any) -> None:
    import sqlalchemy as sa

    from stackling.boot import assembly
    from stackling.image.state.image import image, image_location

    id = active(alice)["id"]
    with cloud.db.begin() as tx:
        tx.execute(sa.delete(image_location))
        tx.execute(sa.update(image).values(os_hash_algo=None))
    for _ in range(2):
        assembly.prepare(cloud.cloud)
        got = show(alice, id)
        assert (got["stores"], got["os_hash_algo"]) == ("file", "sha512")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"stores": [ImageStore(), ImageStore(weight=3)]}, "same name"),
        ({"default_store": "web"}, "default_store"),
        ({"default_store": "moon"}, "default_store"),
        ({"stores": []}, "default_store"),
    ],
)
def test_a_configuration_that_cannot_be(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        store.Stores(Config(image=ImageOptions(**options)))


def test_stores_stand_in_the_file_as_tables(tmp_path: Path) -> None:
    from stackling.base import config

    file = tmp_path / "stackling.toml"
    file.write_text(
        '[image]\ndefault_store = "fast"\n[[image.stores]]\nname = "fast"\nweight = 2\n'
        '[[image.stores]]\nname = "slow"\ndirectory = "/mnt/slow"\n'
    )
    found = store.Stores(config.load(file, {})[0])
    assert (found.names, found.writable, found.default, found.web) == (
        ["fast", "slow"],
        ["fast", "slow"],
        "fast",
        None,
    )
    assert found["slow"].about()["data_dir"] == "/mnt/slow"
    file.write_text('[[image.stores]]\nname = "os_glance_staging"\n')
    with pytest.raises(ConfigError, match="name"):
        config.load(file, {})


def test_two_uploads_at_once_one_wins(cloud: Any, alice: Any) -> None:
    """Whichever the database lets begin; the other is told so before it sends anything that counts."""
    from stackling.base.context import Caller
    from stackling.base.errors import Conflict
    from stackling.image.actions import data

    id = create(alice)["id"]
    who = Caller(
        policy=cloud.cloud.policy,
        user_id=alice.id,
        project_id=alice.project_id,
        roles=frozenset({"member", "reader"}),
    )

    def slow() -> Any:
        yield RAW
        with pytest.raises(Conflict):
            data.receive(cloud.cloud, who, id, iter([b"other"]), None)
        assert upload(alice, id, b"other").status == 409
        assert alice.put(f"{V2}/{id}/stage", data=b"other", headers=OCTETS).status == 409

    data.receive(cloud.cloud, who, id, slow(), None)
    assert alice.get(f"{V2}/{id}/file").content == RAW
    assert files(cloud) == [id]
