"""Another process of the same cloud, and options other than the test bed's."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import falcon.testing
import msgspec

from stackling.base.db import Database
from stackling.boot import assembly
from stackling.identity.state import revision
from tests.base.test_announcement import listening
from tests.conftest import Bed


class Process:
    """The API of a cloud with connections, caches and locks of its own. A `User` can be made of it as of a `Bed`."""

    def __init__(self, bed: Bed) -> None:
        self.bed = bed
        self.db = Database(bed.db.url.render_as_string(hide_password=False), durable=False)
        self.cloud = assembly.assemble(bed.cloud.config, self.db, clock=bed.clock)
        self.client = falcon.testing.TestClient(assembly.application(self.cloud))


@contextmanager
def another(bed: Bed) -> Iterator[Any]:
    made = Process(bed)
    listening(bed.db, revision.LATEST)
    listening(made.db, revision.LATEST)
    yield made
    made.db.close()


def configure(bed: Any, section: str, **options: Any) -> None:
    """Give the cloud other options from now on, as a restart would."""
    now = bed.cloud.config
    changed = msgspec.structs.replace(getattr(now, section), **options)
    bed.cloud.config = msgspec.structs.replace(now, **{section: changed})
