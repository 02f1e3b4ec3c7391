"""Imports: data that was staged, lies on the web, or belongs to another image becomes an image's data.

An import is a task (`actions.task`) that `steps.task` works on. While one runs, the image names it in `import_task`,
so that there is never a second one.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from msgspec import Struct

from stackling.base import ids, jobs
from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, Conflict
from stackling.image import download, store
from stackling.image.actions import location, location_change, task, usage, web
from stackling.image.actions.image import KIND, NewImage, create, find, is_member, owned, target
from stackling.image.actions.task import KEPT
from stackling.image.state.image import State, Visibility, image, image_property, image_tag
from stackling.image.state.task import Type, image_task

STAGED, WEB, COPY, GLANCE = "glance-direct", "web-download", "copy-image", "glance-download"
METHODS = (STAGED, WEB, COPY, GLANCE)
LOCATION = "location"  # data that stays where it is; no method that is named in a request
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


def start(
    tx: Tx,
    cloud: Cloud,
    caller: Caller,
    id: str,
    source: Source,
    *,
    stores: Sequence[str] | None,
    request: Mapping[str, Any],
) -> Row:
    """Have an image's data imported to `stores` (None: all); `request` is kept in the task as it was sent.

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
    wanted = _stores(tx, cloud, row, stores, source.method)
    _check_source(cloud, source)
    _check_image(row, source.method)
    more = usage.mib(row.size or 0) * len(wanted)
    uploading = int(row.state != State.UPLOADING)  # what is staged counts already
    usage.QUOTAS.check(
        tx, cloud, row.project_id, {"image_count_uploading": uploading, "image_size_total": more}
    )
    input = {"image_id": id, "import_req": dict(request), "backend": wanted}
    made = task.create(
        tx,
        cloud,
        caller,
        type=Type.API_IMAGE_IMPORT,
        image_id=id,
        project_id=row.project_id,
        input=input,
        inject=_injected(cloud, caller),
    )
    _take(tx, cloud, row, made.id, wanted)
    return made


def _stores(tx: Tx, cloud: Cloud, row: Row, asked: Sequence[str] | None, method: str) -> list[str]:
    """The stores to fill, the heaviest first; None asks for all. Raises Conflict."""
    known = store.of(cloud)
    unknown = [s for s in asked or () if s not in known.writable]
    if unknown:
        raise Conflict(f"Unknown store {unknown[0][:64]!r}. There are: {', '.join(known.writable)}.")
    leaving = [r.store for r in location.going(tx, row.id)]
    if leaving:
        raise Conflict(f"Image {row.id} is being removed from store {leaving[0]}; try again.")
    wanted = known.ordered(known.writable if asked is None else asked)
    if method == COPY:
        there = location.stores(location.of(tx, cloud, row.id))
        wanted = [s for s in wanted if s not in there]
    return wanted


def _injected(cloud: Cloud, caller: Caller) -> dict[str, str]:
    """Properties that an import by this caller sets."""
    config = cloud.config.image
    if "inject_image_metadata" not in config.import_plugins or caller.roles & set(config.inject_ignore_roles):
        return {}
    return config.inject_metadata


def start_location(
    tx: Tx, cloud: Cloud, caller: Caller, id: str, url: str, given: location_change.Hashes | None
) -> Row:
    """Have what lies at a URL, and stays there, be a queued image's data. It is hashed and compared with `given`.

    Raises NotFound, Forbidden, Conflict (the image's status), BadRequest (the URL, the hashes).
    """
    row = find(tx, caller, id)
    caller.may("add_image_location", target(row))
    if given is not None:
        location_change.check_hashes(given)
    name = location_change.check_url(cloud, url)
    if row.state != State.QUEUED:
        raise Conflict(f"It's not allowed to add locations if image status is {row.state}.")
    _check_image(row, LOCATION)
    usage.QUOTAS.check(tx, cloud, row.project_id, {"image_count_uploading": 1})
    said = msgspec.to_builtins(given) if given is not None else {}
    made = task.create(
        tx,
        cloud,
        caller,
        type=Type.LOCATION,
        image_id=id,
        project_id=row.project_id,
        input={"image_id": id, "loc_url": url, "validation_data": said},
    )
    location.forget(tx, id)
    location.add(tx, id, name, url)
    _take(tx, cloud, row, made.id, [name])
    return made


def _check_source(cloud: Cloud, source: Source) -> None:
    if source.method == WEB:
        if not source.uri:
            raise BadRequest("'uri' is required for the web-download import method.")
        try:
            download.check(source.uri, web.allowed(cloud))
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


def _take(tx: Tx, cloud: Cloud, row: Row, task_id: str, stores: Sequence[str]) -> None:
    """The image belongs to a task now, unless another was quicker."""
    free = sa.and_(
        image.c.id == row.id,
        image.c.state == row.state,
        image.c.import_task.is_(None),
        image.c.upload.is_(None),
    )
    state = row.state if row.state == State.ACTIVE else State.IMPORTING
    values = {
        "state": state,
        "import_task": task_id,
        "importing_to": ",".join(stores),
        "failed_import": "",
        "updated_at": cloud.clock.now(),
    }
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
        tx,
        cloud,
        caller,
        type=Type.IMPORT,
        image_id=row.id,
        project_id=row.project_id,
        input=input,
        inject=_injected(cloud, caller),
    )
    _take(tx, cloud, row, made.id, [store.of(cloud).default])
    return made


# -- for the steps of a task -------------------------------------------------------------------------------------------


def method(task: Row) -> str:
    """How a task's data comes."""
    if task.type == Type.API_IMAGE_IMPORT:
        return str(task.input["import_req"]["method"]["name"])
    return LOCATION if task.type == Type.LOCATION else WEB


def _of(task: Row) -> sa.ColumnElement[bool]:
    """The image that is this task's, as long as it is."""
    return sa.and_(image.c.id == task.image_id, image.c.import_task == task.id)


def imported_by(tx: Tx, task: Row) -> Row | None:
    """The image of a task; None: it was deleted."""
    return tx.execute(sa.select(image).where(_of(task))).first()


def trust(tx: Tx, task: Row) -> None:
    """Data that stays where it is can be used before it is hashed, when nobody said what its hash is."""
    values = {"state": State.ACTIVE, "os_hash_algo": "sha512"}
    tx.execute(sa.update(image).where(_of(task), image.c.state == State.IMPORTING).values(**values))


def filled(tx: Tx, task: Row, left: Sequence[str], failed: Sequence[str]) -> None:
    """How far it is: the stores that are still to be filled, one at least, and those that could not be."""
    values = {"importing_to": ",".join(left), "failed_import": ",".join(failed)}
    tx.execute(sa.update(image).where(_of(task)).values(**values))


def keep(
    tx: Tx,
    task: Row,
    columns: Mapping[str, Any],
    *,
    stores: Sequence[str],
    failed: Sequence[str] = (),
    properties: Mapping[str, str | None] = {},
) -> bool:
    """The data of an image is there, in `stores`. False: the image is gone or no longer this task's."""
    before = imported_by(tx, task)
    if before is None:
        return False
    values = {**columns, "failed_import": ",".join(failed)}
    tx.execute(sa.update(image).where(_of(task)).values(**values))
    # The task ends in its next step, and until then the image shows that it is importing: so who waits finds it free.
    tx.execute(
        sa.update(image_task).where(image_task.c.id == task.id).values(expires_at=task.created_at + KEPT)
    )
    if before.state == State.IMPORTING and stores:
        location.forget(tx, before.id)
    for name in stores:
        location.add(tx, before.id, name)
    properties = {**properties, **(task.inject or {})}
    if properties:
        names = sa.and_(image_property.c.image_id == before.id, image_property.c.name.in_(list(properties)))
        tx.execute(sa.delete(image_property).where(names))
        tx.execute(
            sa.insert(image_property),
            [{"image_id": before.id, "name": n, "value": v} for n, v in properties.items()],
        )
    return True


def within_quota(tx: Tx, cloud: Cloud, task: Row, size: int) -> None:
    """Raises QuotaExceeded when the project may not have `size` bytes more."""
    if size:
        usage.QUOTAS.check(tx, cloud, task.project_id, {"image_size_total": usage.mib(size)})


def succeeded(tx: Tx, task: Row) -> None:
    """Another import may begin."""
    tx.execute(sa.update(image).where(_of(task)).values(import_task=None, importing_to=""))


def failed(tx: Tx, cloud: Cloud, task: Row) -> None:
    """The image is queued again, or as it was if it has data; one that was made for its import goes."""
    now = cloud.clock.now()
    arriving = sa.and_(_of(task), image.c.state == State.IMPORTING)
    if task.type == Type.IMPORT:
        if tx.execute(sa.delete(image).where(arriving)).rowcount:
            for table in (image_property, image_tag):
                tx.execute(sa.delete(table).where(table.c.image_id == task.image_id))
            jobs.start(tx, KIND, task.image_id, now=now)
        return
    row = imported_by(tx, task)
    if row is None:
        return
    values = {
        "import_task": None,
        "importing_to": "",
        "failed_import": ",".join(task.input.get("backend", row.importing_to.split(","))),
        "updated_at": now,
    }
    if row.state == State.IMPORTING:
        values |= {"state": State.QUEUED, "size": None}
    if row.os_hash_value is None:
        values["os_hash_algo"] = None
    tx.execute(sa.update(image).where(_of(task)).values(**values))


def lent(tx: Tx, image_id: str, project_id: str) -> Row | None:
    """An active image that a project may copy; None: it sees none with this id."""
    row = tx.execute(sa.select(image).where(image.c.id == image_id)).first()
    if row is None or row.state != State.ACTIVE:
        return None
    open_to_all = row.visibility in (Visibility.PUBLIC, Visibility.COMMUNITY)
    shared = row.visibility == Visibility.SHARED and is_member(tx, image_id, project_id)
    return row if open_to_all or row.project_id == project_id or shared else None
