"""Image data that lies on the web: what may be fetched, and reading an image from wherever it is."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, cast

from stackling.base.cloud import Cloud
from stackling.base.db import Row
from stackling.base.errors import BadRequest
from stackling.image import download, store
from stackling.image.actions import location


def allowed(cloud: Cloud) -> download.Allowed:
    """What users may have the cloud fetch."""
    config = cloud.config.image
    return download.Allowed(tuple(config.web_download_allow), tuple(config.web_download_ports))


def check(cloud: Cloud, url: str) -> None:
    """Judge a URL by what it says. Raises BadRequest."""
    try:
        download.check(url, allowed(cloud))
    except download.Refused as e:
        raise BadRequest(e.says) from e


def size(cloud: Cloud, url: str) -> int | None:
    """How many bytes lie at a URL, None where its server doesn't tell. Raises BadRequest: they can't be had."""
    try:
        with download.fetch(url, allowed(cloud)) as body:
            return body.length
    except download.Refused as e:
        raise BadRequest(e.says) from e


class _Page:
    """What lies at a URL, as a file that is read from front to back."""

    def __init__(self, url: str, allowed: download.Allowed) -> None:
        self._stack = ExitStack()
        self._chunks = self._stack.enter_context(download.fetch(url, allowed)).chunks
        self._have = b""

    def read(self, size: int = -1) -> bytes:
        while size < 0 or len(self._have) < size:
            try:
                chunk = next(self._chunks, b"")
            except download.Refused as error:
                raise OSError(error.says) from error
            if not chunk:
                break
            self._have += chunk
        got, self._have = (self._have, b"") if size < 0 else (self._have[:size], self._have[size:])
        return got

    def seek(self, offset: int) -> int:
        """Forwards from the beginning, by reading."""
        left = offset
        while left and (skipped := self.read(min(left, download.CHUNK))):
            left -= len(skipped)
        return offset - left

    def close(self) -> None:
        self._stack.close()

    def __enter__(self) -> "_Page":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


def opened(cloud: Cloud, locations: Sequence[Row]) -> BinaryIO:
    """An image's bytes from the first of its locations that gives them. Raises OSError, FileNotFoundError for none."""
    stores = store.of(cloud)
    why: OSError | None = None
    for place in locations:
        try:
            if place.url is not None:
                return cast(BinaryIO, _Page(place.url, allowed(cloud)))
            return stores[place.store].open(place.image_id)
        except download.Refused as error:
            why = why or OSError(error.says)
        except OSError as error:
            why = error
        except KeyError:
            why = why or OSError(f"Store {place.store} is not configured any more")
    raise why or FileNotFoundError("The image is in no store")


class Source:
    """Where this machine's hosts get images: an `image.cache.ImageSource`."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    def path(self, image_id: str) -> Path | None:
        return store.of(self._cloud).path(image_id)

    def open(self, image_id: str) -> BinaryIO:
        with self._cloud.db.read() as tx:
            known = location.of(tx, self._cloud, image_id)
        return opened(self._cloud, known)
