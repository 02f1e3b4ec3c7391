"""What every volume backend must do: on the fake one, on the same through HTTPS, and on files of this machine."""

import hashlib
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stackling.base.ca import CertificateAuthority, client_context
from stackling.base.rpc import Transport
from stackling.image import qemu_img
from stackling.image.cache import ImageCache, ImageRef, StoredFiles
from stackling.node.server import NodeServer
from stackling.volume.driver import (
    Backend,
    BackendUnavailable,
    FromImage,
    FromSnapshot,
    FromVolume,
    VolumeBusy,
    VolumeFailed,
    VolumeSpec,
)
from stackling.volume.drivers.fake import FakeBackend
from stackling.volume.drivers.local import LocalBackend
from stackling.volume.drivers.remote import INTERFACE, remote_backend

GIB = 1 << 30


def new() -> str:
    return str(uuid.uuid4())


def done(call: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not call():
        assert time.monotonic() < end
        time.sleep(0.02)


class BackendSuite:
    """The tests; `backend` and `image` (of 1 GiB) come from the class."""

    def test_a_volume_lives_and_each_call_may_be_repeated(self, backend: Backend) -> None:
        volume = VolumeSpec(id=new(), size_gib=1)
        assert backend.observe(volume.id) is None
        for _ in range(2):
            assert backend.ensure(volume)
            seen = backend.observe(volume.id)
            assert seen is not None
            assert (seen.size_gib, seen.format) == (1, "qcow2")
        connection = backend.connection(volume.id)
        assert connection.format == "qcow2"
        for _ in range(2):
            backend.extend(volume.id, 3)
        backend.extend(volume.id, 2)
        seen = backend.observe(volume.id)
        assert seen is not None
        assert seen.size_gib == 3, "it never shrinks"
        assert backend.ensure(volume), "an extended volume is still the volume"
        for _ in range(2):
            backend.remove(volume.id)
            assert backend.observe(volume.id) is None

    def test_raw_is_possible_too(self, backend: Backend) -> None:
        volume = VolumeSpec(id=new(), size_gib=1, format="raw")
        assert backend.ensure(volume)
        assert backend.connection(volume.id).format == "raw"
        backend.remove(volume.id)

    @pytest.mark.parametrize("image_format", ["qcow2", "raw"])
    def test_content_comes_from_elsewhere(self, backend: Backend, image: ImageRef, image_format: str) -> None:
        first = VolumeSpec(id=new(), size_gib=2, format=image_format, source=FromImage(image=image))  # type: ignore[arg-type]
        done(lambda: backend.ensure(first))
        snapshot = new()
        for _ in range(2):
            done(lambda: backend.ensure_snapshot(snapshot, first.id))
        seen = backend.observe_snapshot(snapshot)
        assert seen is not None
        assert seen.size_gib == 2
        second = VolumeSpec(id=new(), size_gib=3, source=FromSnapshot(snapshot_id=snapshot))
        third = VolumeSpec(id=new(), size_gib=2, source=FromVolume(volume_id=first.id))
        for volume in (second, third):
            done(lambda volume=volume: backend.ensure(volume))  # type: ignore[misc]
        for _ in range(2):
            backend.remove_snapshot(snapshot)
            assert backend.observe_snapshot(snapshot) is None
        for volume in (first, second, third):
            seen = backend.observe(volume.id)
            assert seen is not None
            assert seen.size_gib == volume.size_gib
            backend.remove(volume.id)

    def test_what_cannot_be_is_refused(self, backend: Backend, image: ImageRef) -> None:
        for call in (
            lambda: backend.connection(new()),
            lambda: backend.extend(new(), 2),
            lambda: backend.ensure_snapshot(new(), new()),
            lambda: backend.ensure(VolumeSpec(id=new(), size_gib=1, source=FromSnapshot(snapshot_id=new()))),
            lambda: backend.ensure(VolumeSpec(id=new(), size_gib=1, source=FromVolume(volume_id=new()))),
            lambda: backend.ensure(VolumeSpec(id=new(), size_gib=0, source=FromImage(image=image))),
        ):
            with pytest.raises(VolumeFailed):
                call()
        backend.remove(new())
        backend.remove_snapshot(new())

    def test_it_tells_its_capacity(self, backend: Backend) -> None:
        info = backend.info()
        assert info.total_gib >= info.free_gib > 0


def fake_image() -> ImageRef:
    return ImageRef(id=new(), format="qcow2", size=1, sha512="", virtual_size=GIB)


class TestFake(BackendSuite):
    @pytest.fixture
    def backend(self) -> FakeBackend:
        return FakeBackend()

    @pytest.fixture
    def image(self) -> ImageRef:
        return fake_image()

    def test_its_knobs(self, backend: FakeBackend) -> None:
        volume = VolumeSpec(id=new(), size_gib=1)
        backend.lose_reply()
        with pytest.raises(BackendUnavailable):
            backend.ensure(volume)
        assert list(backend.volumes) == [volume.id]
        backend.fail_next("extend", "no space")
        with pytest.raises(VolumeFailed, match="no space"):
            backend.extend(volume.id, 2)
        backend.slow_copy = 1
        assert not backend.ensure_snapshot(new(), volume.id)
        backend.busy.add(volume.id)
        with pytest.raises(VolumeBusy):
            backend.remove(volume.id)


class TestRemote(BackendSuite):
    @pytest.fixture
    def backend(self, tmp_path: Path) -> Iterator[Backend]:
        authority = CertificateAuthority(tmp_path)
        node = authority.issue("n1", ["127.0.0.1"], ["node"])
        server = NodeServer("127.0.0.1", 0, node, {INTERFACE: FakeBackend()})
        server.start()
        yield remote_backend(
            Transport(*server.address, client_context(authority.issue("control", [], ["control"])))
        )
        server.stop()

    @pytest.fixture
    def image(self) -> ImageRef:
        return fake_image()


class Pipe(StoredFiles):
    """A source that is on another machine: its images must be fetched."""

    def path(self, image_id: str) -> None:  # type: ignore[override]
        return None


@pytest.mark.skipif(shutil.which("qemu-img") is None, reason="needs qemu-img")
class TestLocal(BackendSuite):
    @pytest.fixture
    def image(self, tmp_path: Path) -> ImageRef:
        (tmp_path / "store").mkdir()
        id = new()
        file = tmp_path / "store" / id
        qemu_img.create(file, "qcow2", GIB)
        subprocess.run(
            ["qemu-io", "-f", "qcow2", "-c", "write -P 7 1M 1M", str(file)], check=True, capture_output=True
        )
        content = file.read_bytes()
        digest = hashlib.sha512(content).hexdigest()
        return ImageRef(id=id, format="qcow2", size=len(content), sha512=digest, virtual_size=GIB)

    @pytest.fixture
    def cache(self, tmp_path: Path) -> ImageCache:
        return ImageCache(tmp_path / "images", StoredFiles(tmp_path / "store"))

    @pytest.fixture
    def backend(self, tmp_path: Path, cache: ImageCache) -> LocalBackend:
        return LocalBackend(tmp_path / "volumes", cache)

    def test_the_content_is_the_images(
        self, backend: LocalBackend, image: ImageRef, cache: ImageCache
    ) -> None:
        volume = VolumeSpec(id=new(), size_gib=1, format="raw", source=FromImage(image=image))
        done(lambda: backend.ensure(volume))
        path = backend.connection(volume.id).path
        compare = ["qemu-img", "compare", "-f", "raw", "-F", "qcow2", path, str(cache.file(image.id))]
        subprocess.run(compare, check=True, capture_output=True)
        assert not qemu_img.info(Path(path), "raw").backing_file

    @pytest.mark.parametrize("id", ["", "../x", "a" * 36, "{" + "0" * 36 + "}"])
    def test_an_id_that_is_no_uuid_is_refused(self, backend: LocalBackend, id: str) -> None:
        for call in (
            lambda: backend.ensure(VolumeSpec(id=id, size_gib=1)),
            lambda: backend.remove(id),
            lambda: backend.observe_snapshot(id),
            lambda: backend.remove_snapshot(id),
        ):
            with pytest.raises(VolumeFailed):
                call()

    def test_remains_of_a_crash_are_made_anew(self, backend: LocalBackend, tmp_path: Path) -> None:
        volume = VolumeSpec(id=new(), size_gib=1)
        (tmp_path / "volumes").mkdir()
        (tmp_path / "volumes" / f"{volume.id}.qcow2.part").write_bytes(b"half")
        assert backend.observe(volume.id) is None
        assert backend.ensure(volume)
        assert [file.name for file in (tmp_path / "volumes").iterdir()] == [f"{volume.id}.qcow2"]

    def test_an_image_is_fetched_once_and_checked(self, image: ImageRef, tmp_path: Path) -> None:
        far = ImageCache(tmp_path / "far", Pipe(tmp_path / "store"))
        done(lambda: far.ensure(image))
        assert far.file(image.id).read_bytes() == (tmp_path / "store" / image.id).read_bytes()
        far.used_by = lambda: [image.id]
        assert not far.drop(image.id)
        far.used_by = tuple
        assert far.drop(image.id)
        (tmp_path / "store" / image.id).chmod(0o600)
        with (tmp_path / "store" / image.id).open("r+b") as file:
            file.seek(1 << 16)
            file.write(b"changed")
        backend = LocalBackend(tmp_path / "volumes", far)
        with pytest.raises(VolumeFailed, match="damaged"):
            done(lambda: backend.ensure(VolumeSpec(id=new(), size_gib=1, source=FromImage(image=image))))
        assert list((tmp_path / "far").iterdir()) == []
        with pytest.raises(BackendUnavailable):
            done(
                lambda: backend.ensure(VolumeSpec(id=new(), size_gib=1, source=FromImage(image=fake_image())))
            )
