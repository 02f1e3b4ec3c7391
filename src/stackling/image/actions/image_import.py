"""Imports: data that was staged, lies on the web, or belongs to another image becomes an image's data.

An import is a task (`actions.task`) that `steps.task` works on. While one runs, the image names it in `import_task`,
so that there is never a second one.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from stackling.base import ids, jobs
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, Conflict
from stackling.image import download
from stackling.image.actions import task
from stackling.image.actions.image import KIND, NewImage, create, find, is_member, owned, target
from stackling.image.state.image import State, Visibility, image, image_property, image_tag
from stackling.image.state.task import Type

STAGED, WEB, COPY, GLANCE = "glance-direct", "web-download", "copy-image", "glance-download"
METHODS = (STAGED, WEB, COPY, GLANCE)
STORES = ("file",)
INTERFACES = ("public", "internal", "admin")
# Properties that follow an image's data from another Image API, by what their names begin with.
FOLLOWING = ("hw_", "trait:", "os_distro", "os_secure_boot", "os_type")


class Source(Struct, kw_only=True):
    """Where the data of an import is, as asked for."""

    method: str
    uri: str | None = None
    image_id: str | None = None
    region: str | None = None
    interface: str = "public"


def allowed(cloud: Cloud) -> download.Allowed:
    """What web-download may fetch from."""
    config = cloud.config.image
    return download.Allowed(tuple(config.web_download_allow), tuple(config.web_download_ports))


def start(
    tx: Tx,
    cloud: Cloud,
    caller: Caller,
    id: str,
    source: Source,
    *,
    stores: Sequence[str],
    request: Mapping[str, Any],
) -> Row:
    """Have an image's data imported; `request` is kept in the task as it was sent.

    Raises NotFound, Forbidden, Conflict (the image's status, formats or store), BadRequest (the method or its source).
    """
    if source.method not in METHODS:
        raise BadRequest(
            f"Unknown import method name '{source.method[:64]}'. There are: {', '.join(METHODS)}."
        )
    if source.method == COPY:
        row = find(tx, caller, id)
        caller.may("copy_image", target(row))
    else:
        row = owned(tx, caller, id, "modify_image")
    unknown = [s for s in stores if s not in STORES]
    if unknown:
        raise Conflict(f"Unknown store {unknown[0][:64]!r}. There are: {', '.join(STORES)}.")
    _check_source(cloud, source)
    _check_image(row, source.method)
    input = {"image_id": id, "import_req": dict(request), "backend": list(stores)}
    made = task.create(
        tx, cloud, caller, type=Type.API_IMAGE_IMPORT, image_id=id, project_id=row.project_id, input=input
    )
    _take(tx, cloud, row, made.id)
    return made


def _check_source(cloud: Cloud, source: Source) -> None:
    if source.method == WEB:
        if not source.uri:
            raise BadRequest("'uri' is required for the web-download import method.")
        try:
            download.check(source.uri, allowed(cloud))
        except download.Refused as e:
            raise BadRequest(e.says) from e
    elif source.uri is not None:
        raise BadRequest(f"Invalid input for field/attribute uri: {source.method} has none, only {WEB}")
    if source.method == GLANCE:
        if not source.image_id or not source.region:
            raise BadRequest(
                "'glance_image_id' and 'glance_region' are required for the glance-download import method."
            )
        if not ids.is_uuid(source.image_id):
            raise BadRequest("Remote image id does not look like a UUID: glance_image_id")


def _check_image(row: Row, method: str) -> None:
    if row.import_task is not None:
        raise Conflict(f"Image {row.id} is being imported already.")
    wanted = {STAGED: State.UPLOADING, COPY: State.ACTIVE}.get(method, State.QUEUED)
    if row.state != wanted or row.upload is not None:
        state = row.state if row.upload is None else f"{row.state}, its data is still arriving"
        raise Conflict(f"Image needs to be in status '{wanted}' to use the '{method}' method; it is {state}.")
    unset = [name for name in ("container_format", "disk_format") if getattr(row, name) is None]
    if unset and method != GLANCE:
        raise Conflict(f"'{unset[0]}' needs to be set before import")


def _take(tx: Tx, cloud: Cloud, row: Row, task_id: str) -> None:
    """The image belongs to a task now, unless another was quicker."""
    free = sa.and_(
        image.c.id == row.id,
        image.c.state == row.state,
        image.c.import_task.is_(None),
        image.c.upload.is_(None),
    )
    state = row.state if row.state == State.ACTIVE else State.IMPORTING
    values = {"state": state, "import_task": task_id, "imported": "running", "updated_at": cloud.clock.now()}
    if not tx.execute(sa.update(image).where(free).values(**values)).rowcount:
        raise Conflict(f"Image {row.id} was changed by another request at this moment.")


def start_new(tx: Tx, cloud: Cloud, caller: Caller, want: NewImage, uri: str, input: dict[str, Any]) -> Row:
    """Have a new image made of what lies at `uri`; if that fails there is no image. Raises as `create` and `start` do."""
    caller.may("tasks_api_access")
    caller.may("add_task")
    source = Source(method=WEB, uri=uri)
    _check_source(cloud, source)
    row = create(tx, cloud, caller, want)
    _check_image(row, WEB)
    made = task.create(
        tx, cloud, caller, type=Type.IMPORT, image_id=row.id, project_id=row.project_id, input=input
    )
    _take(tx, cloud, row, made.id)
    return made


# -- for the steps of a task -------------------------------------------------------------------------------------------


def keep(
    tx: Tx, image_id: str, task_id: str, columns: Mapping[str, Any], following: Mapping[str, str | None]
) -> bool:
    """The data of an image is there. False: the image is gone or no longer this task's."""
    mine = sa.and_(image.c.id == image_id, image.c.import_task == task_id, image.c.state == State.IMPORTING)
    if not tx.execute(sa.update(image).where(mine).values(**columns)).rowcount:
        return False
    if following:
        names = sa.and_(image_property.c.image_id == image_id, image_property.c.name.in_(list(following)))
        tx.execute(sa.delete(image_property).where(names))
        tx.execute(
            sa.insert(image_property),
            [{"image_id": image_id, "name": n, "value": v} for n, v in following.items()],
        )
    return True


def succeeded(tx: Tx, image_id: str, task_id: str) -> None:
    mine = sa.and_(image.c.id == image_id, image.c.import_task == task_id)
    tx.execute(sa.update(image).where(mine).values(import_task=None, imported="done"))


def failed(tx: Tx, cloud: Cloud, image_id: str, task_id: str, *, new: bool) -> None:
    """The image is queued again; one that was made for its import goes."""
    mine = sa.and_(image.c.id == image_id, image.c.import_task == task_id, image.c.state == State.IMPORTING)
    if not new:
        values = {
            "state": State.QUEUED,
            "import_task": None,
            "imported": "failed",
            "size": None,
            "updated_at": cloud.clock.now(),
        }
        tx.execute(sa.update(image).where(mine).values(**values))
    elif tx.execute(sa.delete(image).where(mine)).rowcount:
        for table in (image_property, image_tag):
            tx.execute(sa.delete(table).where(table.c.image_id == image_id))
        jobs.start(tx, KIND, image_id, now=cloud.clock.now())


def lent(tx: Tx, image_id: str, project_id: str) -> Row | None:
    """An active image that a project may copy; None: it sees none with this id."""
    row = tx.execute(sa.select(image).where(image.c.id == image_id)).first()
    if row is None or row.state != State.ACTIVE:
        return None
    open_to_all = row.visibility in (Visibility.PUBLIC, Visibility.COMMUNITY)
    shared = row.visibility == Visibility.SHARED and is_member(tx, image_id, project_id)
    return row if open_to_all or row.project_id == project_id or shared else None
