"""What the metadata service answers to which path: OpenStack's tree and EC2's, over a small HTTP."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

from msgspec import Struct

from stackling.compute.driver import GuestData
from stackling.compute.drivers.guest_documents import (
    EC2_VERSIONS,
    VERSIONS,
    document,
    ec2_tree,
    listing,
)

MAX_PASSWORD = 4 * 255
TEXT = "text/plain; charset=UTF-8"


class Request(Struct, frozen=True):
    """A guest's request."""

    method: str
    path: str
    body: bytes = b""


class Reply(Struct, frozen=True):
    """What it gets. Each connection carries one request."""

    status: int
    body: bytes = b""
    content_type: str = TEXT
    head: bool = False

    def encode(self) -> bytes:
        """The bytes on the wire."""
        phrase = HTTPStatus(self.status).phrase
        lines = (
            f"HTTP/1.1 {self.status} {phrase}",
            f"Content-Type: {self.content_type}",
            f"Content-Length: {len(self.body)}",
            "Connection: close",
        )
        return "\r\n".join((*lines, "", "")).encode() + (b"" if self.head else self.body)


def parse(received: bytes, limit: int) -> Request | Reply | None:
    """The request in what was received so far; None: more must come; a Reply: it is refused."""
    head, end, rest = received.partition(b"\r\n\r\n")
    if not end:
        return Reply(431, b"The request is too long\n") if len(received) >= limit else None
    lines = head.decode("latin-1").split("\r\n")
    words = lines[0].split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1.") or not words[1].startswith("/"):
        return Reply(400, b"This is not an HTTP request\n")
    method, target, _ = words
    length = 0
    for line in lines[1:]:
        name, _, value = line.partition(":")
        if name.strip().lower() == "content-length":
            if not value.strip().isdecimal() or len(value.strip()) > 9:
                return Reply(400, b"Content-Length must be a number\n")
            length = int(value)
        elif name.strip().lower() == "transfer-encoding":
            return Reply(411, b"Send a Content-Length\n")
    if len(head) + length > limit:
        return Reply(413, b"The request is too long\n")
    if len(rest) < length:
        return None
    return Request(method, unquote(target.partition("?")[0]), rest[:length])


def respond(
    data: GuestData, request: Request, password: Callable[[], str], post: Callable[[str], None]
) -> Reply:
    """The reply to a known guest. `password` reads what it posted, `post` keeps it."""
    parts = [part for part in request.path.split("/") if part]
    if request.method == "POST":
        if len(parts) == 3 and parts[0] == "openstack" and parts[2] == "password":
            return _post_password(request, password, post) if _has(data, parts) else _not_found()
        return Reply(405, b"Only GET is served here\n")
    if request.method not in ("GET", "HEAD"):
        return Reply(405, b"Only GET is served here\n")
    reply = _get(data, parts, password)
    return Reply(reply.status, reply.body, reply.content_type, head=request.method == "HEAD")


def _get(data: GuestData, parts: list[str], password: Callable[[], str]) -> Reply:
    match parts:
        case []:
            return _lines(EC2_VERSIONS)
        case ["openstack"]:
            return _lines(VERSIONS)
        case ["openstack", version] if version in VERSIONS:
            return _lines(listing(data, version))
        case ["openstack", version, name] if version in VERSIONS:
            posted = password() if name == "password" else ""
            content = document(data, version, name, password=posted)
            if content is None:
                return _not_found()
            kind = "application/json" if name.endswith(".json") else TEXT
            return Reply(200, content, "application/octet-stream" if name == "user_data" else kind)
        case [version] if version in EC2_VERSIONS:
            return _lines(["meta-data/"] + (["user-data"] if data.user_data is not None else []))
        case [version, "user-data"] if version in EC2_VERSIONS and data.user_data is not None:
            return Reply(200, data.user_data, "application/octet-stream")
        case [version, "meta-data", *names] if version in EC2_VERSIONS:
            return _ec2(ec2_tree(data), names)
    return _not_found()


def _ec2(tree: Any, names: list[str]) -> Reply:
    for place, name in enumerate(names):
        if not isinstance(tree, dict):
            return _not_found()
        if place == 1 and names[0] == "public-keys":
            # Listed as "0=name", asked for as "0".
            name = next((key for key in tree if key.partition("=")[0] == name), name)
        if name not in tree:
            return _not_found()
        tree = tree[name]
    if not isinstance(tree, dict):
        return Reply(200, str(tree).encode())
    keys = names == ["public-keys"]
    return _lines(
        [f"{name}/" if isinstance(tree[name], dict) and not keys else name for name in sorted(tree)]
    )


def _has(data: GuestData, parts: list[str]) -> bool:
    return parts[1] in VERSIONS and parts[2] in listing(data, parts[1])


def _post_password(request: Request, password: Callable[[], str], post: Callable[[str], None]) -> Reply:
    if len(request.body) > MAX_PASSWORD:
        return Reply(400, f"A password has at most {MAX_PASSWORD} bytes\n".encode())
    if password():
        return Reply(409, b"The password is set already\n")
    post(request.body.decode(errors="replace"))
    return Reply(200)


def _lines(names: Any) -> Reply:
    return Reply(200, "\n".join(names).encode())


def _not_found() -> Reply:
    return Reply(404, b"There is nothing here\n")
