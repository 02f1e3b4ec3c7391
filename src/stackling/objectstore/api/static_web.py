"""Containers as web sites: an index page, a list of what is there, a page for errors; for readers without a token."""

import html
from urllib.parse import quote

from falcon import Request, Response

from stackling.base.cloud import Cloud
from stackling.base.db import Row
from stackling.base.errors import Error, NotFound, Unauthorized
from stackling.base.rest import base_url
from stackling.objectstore.actions import container as containers
from stackling.objectstore.actions import reading
from stackling.objectstore.actions.access import Visitor
from stackling.objectstore.actions.listing import Window
from stackling.objectstore.actions.object import Place
from stackling.objectstore.api import answer, conditional, download
from stackling.objectstore.api.request import text_of, true

_WEB = "X-Container-Meta-Web-"


class _Site:
    """What a container is as a web site."""

    def __init__(self, row: Row) -> None:
        self.row = row
        self.index = row.headers.get(f"{_WEB}Index", "").strip()
        self.error = row.headers.get(f"{_WEB}Error", "").strip()
        self.listings = true(row.headers.get(f"{_WEB}Listings"))
        self.css = row.headers.get(f"{_WEB}Listings-Css", "").strip()
        self.directory_type = row.headers.get(f"{_WEB}Directory-Type") or "application/directory"


def _site(cloud: Cloud, req: Request, at: Place, who: Visitor) -> _Site | None:
    """The site that a request is for; None: it wants container and objects as they are."""
    if who.signed or (who.caller is not None and not true(req.get_header("X-Web-Mode"))):
        return None
    with cloud.db.read() as tx:
        row = containers.find(tx, at.account, at.container)
    site = _Site(row) if row is not None else None
    return site if site is not None and (site.index or site.listings or site.error) else None


def container(cloud: Cloud, req: Request, resp: Response, at: Place, who: Visitor) -> bool:
    """Answer for a container if it is a site with an index or lists; whether it was."""
    site = _site(cloud, req, at, who)
    if site is None or not (site.index or site.listings):
        return False
    if not req.env["PATH_INFO"].endswith("/"):
        _to_directory(cloud, req, resp)
        return True
    _guarded(cloud, req, resp, Place(at.account, at.container, ""), who, site)
    return True


def object(cloud: Cloud, req: Request, resp: Response, at: Place, who: Visitor) -> bool:
    """Answer for an object if its container is a site; whether it was."""
    site = _site(cloud, req, at, who)
    if site is None:
        return False
    _guarded(cloud, req, resp, at, who, site)
    return True


def _guarded(cloud: Cloud, req: Request, resp: Response, at: Place, who: Visitor, site: _Site) -> None:
    try:
        _answer(cloud, req, resp, at, who, site)
    except (NotFound, Unauthorized) as error:
        if not site.error:
            raise
        _error(cloud, req, resp, at, who, site, error)


def _answer(cloud: Cloud, req: Request, resp: Response, at: Place, who: Visitor, site: _Site) -> None:
    if at.object and not at.object.endswith("/"):
        try:
            opened = reading.open_object(cloud, who, at, None)
            opened.body.close()
            directory = not opened.size and opened.row.content_type == site.directory_type
        except NotFound:
            directory = _below(cloud, site, at.object + "/")
            if not directory:
                raise
        if directory and (site.index or site.listings):
            _to_directory(cloud, req, resp)
        else:
            download.send(cloud, req, resp, at, who)
        return
    if site.index:
        try:
            download.send(cloud, req, resp, Place(at.account, at.container, at.object + site.index), who)
            return
        except NotFound:
            pass
    if not site.listings or (at.object and not _below(cloud, site, at.object)):
        raise NotFound("The resource could not be found.")
    with cloud.db.read() as tx:
        containers.look(tx, cloud, who, at.account, at.container)
        rows = containers.contents(tx, site.row.id, Window(prefix=at.object, delimiter="/"))
    resp.content_type = answer.HTML
    resp.text = _list(at, site, rows)


def _below(cloud: Cloud, site: _Site, prefix: str) -> bool:
    with cloud.db.read() as tx:
        return bool(containers.contents(tx, site.row.id, Window(prefix=prefix, limit=1)))


def _to_directory(cloud: Cloud, req: Request, resp: Response) -> None:
    answer.empty(resp, "301 Moved Permanently")
    resp.set_header("Location", base_url(req, cloud) + quote(text_of(req.env["PATH_INFO"])) + "/")


def _list(at: Place, site: _Site, rows: list[Row | str]) -> str:
    """A page with links to what is in a directory."""
    title = html.escape(f"Listing of /v1/{at.account}/{at.container}/{at.object}")
    # A style sheet is named from the top of the site, however deep the page.
    up = "../" * at.object.count("/")
    css = site.css if site.css.startswith(("http://", "https://", "/")) else up + site.css
    style = (
        f'<link rel="stylesheet" type="text/css" href="{html.escape(css)}" />'
        if site.css
        else "<style>h1 {font-size: 1em} th {text-align: left} td, th {padding: 0 1em 0 0}</style>"
    )
    lines = ['<tr><td><a href="../">../</a></td><td></td><td></td></tr>'] if at.object else []
    for row in rows:
        name = (row if isinstance(row, str) else row.name)[len(at.object) :]
        if not name:
            continue
        size = "" if isinstance(row, str) else str(row.size)
        when = "" if isinstance(row, str) else answer.http_date(row.modified_at)
        link = f'<a href="{quote("./" + name)}">{html.escape(name)}</a>'
        lines.append(f"<tr><td>{link}</td><td>{size}</td><td>{when}</td></tr>")
    return (
        f'<!DOCTYPE html>\n<html><head><meta charset="utf-8"><title>{title}</title>{style}</head><body><h1>{title}</h1>'
        f'<table id="listing"><tr><th>Name</th><th>Size</th><th>Date</th></tr>\n{chr(10).join(lines)}\n'
        "</table></body></html>\n"
    )


def _error(
    cloud: Cloud, req: Request, resp: Response, at: Place, who: Visitor, site: _Site, error: Error
) -> None:
    """The site's own page for an error, if it has one that the reader may see. Raises `error` otherwise."""
    try:
        opened = reading.open_object(
            cloud, who, Place(at.account, at.container, f"{error.status}{site.error}"), None
        )
    except Error:
        raise error from None
    resp.status = f"{error.status} {error.title}"
    resp.content_type = answer.wire(opened.row.content_type)
    conditional.send(req, resp, opened, None)
