"""A host's image cache without a host: names and sizes, no files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from stackling.image.cache import ImageRef
from stackling.image.data_driver import CacheUnavailable, Held


class FakeCache:
    """See `image.data_driver.NodeCache`. `images` are sizes in bytes by id, which the host's hypervisor shares."""

    def __init__(self, images: dict[str, int], used_by: Callable[[], Iterable[str]] = tuple) -> None:
        self.images, self._used_by = images, used_by
        self.down = False

    def fetch(self, image: ImageRef) -> bool:
        self._answer()
        self.images[image.id] = image.size
        return True

    def drop(self, image_id: str) -> bool:
        self._answer()
        if image_id in set(self._used_by()):
            return False
        self.images.pop(image_id, None)
        return True

    def held(self) -> tuple[Held, ...]:
        self._answer()
        users = Counter(self._used_by())
        return tuple(Held(image_id=id, size=n, users=users[id]) for id, n in sorted(self.images.items()))

    def _answer(self) -> None:
        if self.down:
            raise CacheUnavailable("The host does not answer")
