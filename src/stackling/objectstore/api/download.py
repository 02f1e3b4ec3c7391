"""Objects on their way out."""

from urllib.parse import quote

from falcon import Request, Response

from stackling.base.cloud import Cloud
from stackling.base.errors import NotFound
from stackling.objectstore.actions import container, reading
from stackling.objectstore.actions.access import Visitor
from stackling.objectstore.actions.object import Place
from stackling.objectstore.api import answer, conditional, manifest, temp_url
from stackling.objectstore.api.request import params_of


def send(cloud: Cloud, req: Request, resp: Response, at: Place, who: Visitor) -> None:
    """Answer with an object. Raises NotFound, PreconditionFailed, RangeNotSatisfiable, …"""
    params = params_of(req)
    get = params.get("multipart-manifest") == "get"
    opened = reading.open_object(
        cloud, who, at, params.get("version-id"), manifest=get, link=params.get("symlink") == "get"
    )
    try:
        _send(cloud, req, resp, opened, params, get)
    except BaseException:
        opened.body.close()
        raise
    if who.signed:
        temp_url.disposition(resp, at, params)


def _send(
    cloud: Cloud, req: Request, resp: Response, opened: reading.Opened, params: dict[str, str], get: bool
) -> None:
    row = opened.row
    if row.deleted:
        raise NotFound(
            "The resource could not be found.", headers={"X-Object-Version-Id": answer.version_id(row)}
        )
    with cloud.db.read() as tx:
        box = container.find(tx, opened.at.account, opened.at.container)
    versioned = box is not None and box.versions is not None
    answer.of_object(resp, row, opened.at, opened.etag, large=opened.large, versioned=versioned)
    if opened.linked:
        resp.set_header(
            "Content-Location",
            quote(f"/v1/{opened.at.account}/{opened.at.container}/{opened.at.object}"),
        )
    if conditional.unchanged(req, opened.etag, row.modified_at):
        resp.status = "304 Not Modified"
        opened.body.close()
        return
    if get and "slo" in (row.special or {}):
        manifest.send(cloud, req, resp, opened)
        return
    wanted = conditional.ranges(req, opened.size, opened.etag, row.modified_at)
    if "part-number" in params and row.special and "slo" in row.special:
        wanted = manifest.part(resp, opened, params["part-number"])
    conditional.send(req, resp, opened, wanted)
