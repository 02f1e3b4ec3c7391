"""What an import reads, by method: from staging, the web, an image of this cloud, or another store.

Data comes to rest as a file in staging, hashed and inspected, is decompressed and converted there where the
configuration says so, and only then becomes the image's in each store; then its row says so.
"""

import os
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from stackling.base.cloud import Cloud
from stackling.base.db import Row
from stackling.base.incoming_file import IncomingFile
from stackling.base.lane import Digest
from stackling.image import decompress, download, qemu_img, store
from stackling.image.actions import image_import, location, web
from stackling.image.actions.data import CHUNK, Form, Taken, absorb, form
from stackling.image.actions.image import properties
from stackling.image.actions.image_import import COPY, GLANCE, INTERFACES, LOCATION, STAGED
from stackling.image.inspection import InspectionError, Inspector
from stackling.image.state.image import State
from stackling.image.state.task import Type

LOOK_EVERY = timedelta(seconds=5)  # how often an import asks whether it is still wanted
_CONVERTED = ("qcow2", "raw", "vdi", "vhd", "vhdx", "vmdk")  # disk formats that image_conversion reads


class Stopped(Exception):
    """The import can't be finished; the sentence says why."""


def read(row: Row, target: Row, cloud: Cloud) -> None:
    """Read the data of a task's image and keep it. Raises Stopped and whatever goes wrong on the way."""
    reading = _Reading(row, target, cloud)
    reading.staging.forget_parts(target.id)
    try:
        match image_import.method(row):
            case method if method == LOCATION:
                reading.look()
            case method if method == COPY:
                reading.copy()
            case method if method == GLANCE:
                reading.borrow()
            case method if method == STAGED:
                reading.unstage()
            case _:
                reading.fetch()
    finally:
        reading.staging.forget_parts(target.id)


class _Reading:
    """One task at work."""

    def __init__(self, row: Row, target: Row, cloud: Cloud) -> None:
        self.row, self.target, self.cloud = row, target, cloud
        self.stores = store.of(cloud)
        self.staging = self.stores.staging
        self.plugins = cloud.config.image.import_plugins

    # -- methods ---------------------------------------------------------------------------------------------------

    def unstage(self) -> None:
        """glance-direct: the file is there."""
        path = self.staging.path(self.target.id)
        if not path.exists():
            raise Stopped("The staged data is gone; stage it again.")
        self._adopt(path, form(self.target))

    def fetch(self) -> None:
        """web-download."""
        row = self.row
        uri = (
            row.input["import_from"] if row.type == Type.IMPORT else row.input["import_req"]["method"]["uri"]
        )
        said = form(self.target)
        with download.fetch(uri, web.allowed(self.cloud)) as body:
            self._fits(body.length)
            if self._may_be_compressed(said):
                raw = self._part("raw")
                for chunk in self._wanted(body.chunks):
                    raw.write(chunk)
                    self._fits(raw.size)
                raw.finish()
            else:
                self._bring(body.chunks, said)
                return
        self._adopt(raw.path, said)

    def borrow(self) -> None:
        """glance-download: from an image of this cloud, which is the one region there is."""
        asked = self.row.input["import_req"]["method"]
        region, interface = asked["glance_region"], asked.get("glance_service_interface") or "public"
        if region != self.cloud.config.identity.region or interface not in INTERFACES:
            raise Stopped(
                f"No {str(interface)[:64]} endpoint of an image service in region {str(region)[:64]!r} is known."
            )
        with self.cloud.db.read() as tx:
            source = image_import.lent(tx, asked["glance_image_id"], self.row.project_id)
            known = properties(tx, source.id) if source is not None else {}
            places = location.of(tx, self.cloud, source.id) if source is not None else []
        if source is None:
            raise Stopped(
                f"Image {asked['glance_image_id']} is not in region {region}, not active, or not open to this project."
            )
        columns = {"disk_format": source.disk_format, "container_format": source.container_format}
        following = {n: v for n, v in known.items() if n.startswith(image_import.FOLLOWING)}
        with web.opened(self.cloud, places) as file:
            self._bring(iter(lambda: file.read(CHUNK), b""), form(self.target, source), columns, following)

    def copy(self) -> None:
        """copy-image: to stores that don't have it yet, once it is known to be whole."""
        with self.cloud.db.read() as tx:
            places = location.of(tx, self.cloud, self.target.id)
        path = self.stores.path(self.target.id)
        said, also = form(self.target), {self.target.os_hash_algo} - {None}
        if path is not None and any(p.url is None for p in places):
            source = self._wanted(_pieces(path))
            self._same(absorb(self.cloud, said, None, source, signed=False, also=also))
            self._keep(path, {})
            return
        part = self._part("copy")
        with web.opened(self.cloud, places) as file:
            source = self._wanted(iter(lambda: file.read(CHUNK), b""))
            taken = absorb(self.cloud, said, part, source, signed=False, also=also)
        part.finish()
        self._same(taken)
        self._keep(part.path, taken.columns)

    def look(self) -> None:
        """Data that stays where it is: hashed, compared with what was said of it, and inspected if it is a disk."""
        url, said = self.row.input["loc_url"], self.row.input["validation_data"]
        name = said.get("os_hash_algo", "sha512")
        columns: dict[str, Any] = {"os_hash_algo": name, "os_hash_value": said.get("os_hash_value")}
        if self.cloud.config.image.do_secure_hash:
            columns = self._hashed(url, name)
            for key, found in (
                ("os_hash_value", columns["os_hash_value"]),
                ("checksum", columns["checksum"]),
            ):
                if str(said.get(key) or found).lower() != found:
                    raise Stopped(f"The data at the location is not what was said: its {key} is {found}.")
        else:
            columns |= {"size": web.size(self.cloud, url), "checksum": said.get("checksum")}
            if not said:
                columns["os_hash_algo"] = None
        columns["state"] = State.ACTIVE
        with self.cloud.db.begin() as tx:
            self._kept(image_import.keep(tx, self.row, columns, stores=()))

    def _hashed(self, url: str, name: str) -> dict[str, Any]:
        digest, size = Digest(*({name} - {"md5", "sha512"})), 0
        inspector: Inspector | None = None
        if form(self.target).is_disk:
            inspector = Inspector(self.target.disk_format)
        try:
            with download.fetch(url, web.allowed(self.cloud)) as body:
                self._fits(body.length)
                for chunk in self._wanted(body.chunks):
                    size += len(chunk)
                    self._fits(size)
                    digest.write(chunk)
                    try:
                        if inspector is not None:
                            inspector.write(chunk)
                    except InspectionError:
                        inspector = None  # it can be downloaded; no disk is made of it
        finally:
            digest.finish()
        try:
            virtual_size = inspector.finish().virtual_size if inspector is not None else None
        except InspectionError:
            virtual_size = None
        return {
            "size": size,
            "virtual_size": virtual_size,
            "checksum": digest.of("md5").hex(),
            "os_hash_algo": name,
            "os_hash_value": digest.of(name).hex(),
        }

    # -- on the way ------------------------------------------------------------------------------------------------

    def _part(self, name: str) -> IncomingFile:
        return self.staging.incoming(self.target.id, name)

    def _may_be_compressed(self, said: Form) -> bool:
        return "image_decompression" in self.plugins and said.container_format != "compressed"

    def _bring(
        self,
        source: Iterator[bytes],
        said: Form,
        columns: Mapping[str, Any] = {},
        following: Mapping[str, str | None] = {},
    ) -> None:
        part = self._part("data")
        taken = absorb(self.cloud, said, part, self._wanted(source))
        part.finish()
        self._convert(part.path, said, taken, columns, following)

    def _adopt(self, path: Path, said: Form) -> None:
        """A file that is here, compressed maybe."""
        how = decompress.kind(path) if self._may_be_compressed(said) else None
        if how is not None:
            self._bring(decompress.pieces(path, how), said)
        else:
            self._convert(path, said, absorb(self.cloud, said, None, self._wanted(_pieces(path))), {}, {})

    def _convert(
        self,
        path: Path,
        said: Form,
        taken: Taken,
        columns: Mapping[str, Any],
        following: Mapping[str, str | None],
    ) -> None:
        wanted = self.cloud.config.image.conversion_format
        plugged = "image_conversion" in self.plugins and said.is_disk and said.disk_format in _CONVERTED
        if not plugged or said.disk_format == wanted:
            self._keep(path, {**taken.columns, **columns}, following)
            return
        made = self.staging.path(self.target.id).with_suffix(".converted.part")
        qemu_img.convert_stranger(
            path, said.disk_format, made, wanted, self.cloud.config.image.import_timeout
        )
        with made.open("rb") as file:
            os.fsync(file.fileno())
        fresh = Form(
            image_id=said.image_id,
            project_id=said.project_id,
            disk_format=wanted,
            container_format=said.container_format,
        )
        again = absorb(self.cloud, fresh, None, self._wanted(_pieces(made)), signed=False)
        self._keep(made, {**again.columns, **columns, "disk_format": wanted}, following)

    def _keep(self, path: Path, columns: Mapping[str, Any], following: Mapping[str, str | None] = {}) -> None:
        """Put the file into each store that the task names, and say so in the image's row."""
        wanted = list(self.row.input.get("backend") or self.target.importing_to.split(","))
        done: list[str] = []
        failed: list[str] = []
        request = self.row.input.get("import_req", {})
        every = request.get("all_stores_must_succeed") is not False
        for place, name in enumerate(wanted):
            try:
                self.stores[name].forget_parts(self.target.id)  # of a process that was killed here
                self.stores[name].take(path, self.target.id)
                done.append(name)
            except OSError as error:
                if every:
                    raise Stopped(
                        f"Store {name} can't take the data now: {error.strerror or error}."
                    ) from error
                self.stores[name].remove(self.target.id)
                failed.append(name)
            if wanted[place + 1 :]:
                with self.cloud.db.begin() as tx:
                    image_import.filled(tx, self.row, wanted[place + 1 :], failed)
        if wanted and not done:
            raise Stopped("No store could take the data.")
        values = dict(columns)
        if self.target.state == State.IMPORTING:
            values |= {"state": State.ACTIVE, "updated_at": self.cloud.clock.now()}
        with self.cloud.db.begin() as tx:
            size = values.get("size", self.target.size) or 0
            image_import.within_quota(tx, self.cloud, self.row, size * len(done))
            self._kept(
                image_import.keep(tx, self.row, values, stores=done, failed=failed, properties=following)
            )

    def _same(self, taken: Taken) -> None:
        """Raises Stopped when a copy is not what the image is said to be."""
        told = self.target
        if told.os_hash_value is None:
            return
        if taken.digest.of(told.os_hash_algo).hex() != told.os_hash_value.lower():
            raise Stopped("The image's data is damaged: it is not what its hash says.")

    def _kept(self, done: bool) -> None:
        if not done:
            raise Stopped("The image was deleted, or its import given up, while data arrived.")

    def _fits(self, length: int | None) -> None:
        """Refuse what is announced to be too large before it is read."""
        if length is None:
            return
        most = self.cloud.config.image.max_size_gib
        if length > most << 30:
            raise Stopped(f"The data is larger than {most} GiB, the largest accepted.")
        if length > self.staging.free_bytes():
            raise Stopped(f"There is not enough disk space on the image storage media for {length} bytes.")

    def _wanted(self, source: Iterator[bytes]) -> Iterator[bytes]:
        """What `source` gives, as long as the image waits for it. Raises Stopped."""
        looked = self.cloud.clock.now()
        for chunk in source:
            yield chunk
            if self.cloud.clock.now() - looked > LOOK_EVERY:
                looked = self.cloud.clock.now()
                with self.cloud.db.read() as tx:
                    still = image_import.imported_by(tx, self.row)
                if still is None:
                    raise Stopped("The image was deleted while data arrived.")


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk
