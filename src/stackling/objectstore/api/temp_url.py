"""Temporary URLs: a signature in the query, made with a key of the account or the container, stands for a token."""

import base64
import hmac
import ipaddress
from datetime import UTC, datetime
from urllib.parse import quote

from falcon import Request, Response

from stackling.base import peer
from stackling.base.cloud import Cloud
from stackling.base.db import Row
from stackling.base.errors import Unauthorized
from stackling.objectstore.actions import account, container, metadata
from stackling.objectstore.actions.object import Place, stamp

DIGESTS = {40: "sha1", 64: "sha256", 128: "sha512"}  # by the length of the signature
METHODS = ("GET", "HEAD", "PUT", "POST", "DELETE")
_INVALID = "Temp URL invalid"


def keys_of(row: Row | None, kind: str) -> list[str]:
    """The keys that an account or container has."""
    headers = row.headers if row is not None else {}
    names = (f"X-{kind}-Meta-Temp-Url-Key", f"X-{kind}-Meta-Temp-Url-Key-2")
    return [headers[name] for name in names if headers.get(name)]


def keys(cloud: Cloud, account_name: str, container_name: str) -> list[tuple[str, tuple[str, str | None]]]:
    """Keys that open an object, each with what else it opens: the account, or one container of it."""
    with cloud.db.read() as tx:
        whole = keys_of(account.find(tx, account_name), "Account")
        part = keys_of(container.find(tx, account_name, container_name), "Container")
    return [(key, (account_name, None)) for key in whole] + [
        (key, (account_name, container_name)) for key in part
    ]


def signature(text: str) -> tuple[str, bytes]:
    """Digest and value of a signature in hex, or as `sha256:` and base64. Raises Unauthorized."""
    name, colon, rest = text.partition(":")
    try:
        if colon:
            padded = rest.replace("-", "+").replace("_", "/") + "=" * (-len(rest) % 4)
            found = name, base64.b64decode(padded, validate=True)
        else:
            found = DIGESTS[len(text)], bytes.fromhex(text)
    except (KeyError, ValueError):
        raise Unauthorized(_INVALID) from None
    if found[0] not in DIGESTS.values():
        raise Unauthorized(_INVALID)
    return found


def signed_by(key: str, digest: str, said: bytes, text: str) -> bool:
    return hmac.compare_digest(hmac.new(key.encode(), text.encode(), digest).digest(), said)


def expiry(text: str) -> int:
    """Seconds since 1970, of a number or of ISO 8601; 0: neither."""
    if text.isdecimal() and len(text) < 16:
        return int(text)
    for form in ("%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d"):
        try:
            return int(datetime.strptime(text, form).replace(tzinfo=UTC).timestamp())
        except ValueError:
            continue
    return 0


def verified(
    req: Request, cloud: Cloud, at: Place, params: dict[str, str], path: str, root: str, method: str
) -> tuple[str, str | None]:
    """What the signature of a request opens. `path` is signed with or without `root`. Raises Unauthorized."""
    digest, said = signature(params.get("temp_url_sig", ""))
    expires = expiry(params.get("temp_url_expires", ""))
    if expires <= float(stamp(cloud.clock.now())) or method not in METHODS:
        raise Unauthorized(_INVALID)
    bounds = params.get("temp_url_ip_range")
    if bounds is not None and not _within(peer.address(req, cloud.config.api), bounds):
        raise Unauthorized(_INVALID)
    prefix = params.get("temp_url_prefix")
    if prefix is not None:
        if not at.object.startswith(prefix):
            raise Unauthorized(_INVALID)
        path = "prefix:" + path[: len(path) - len(at.object)] + prefix
    short = path.replace(root, "", 1)
    front = f"ip={bounds}\n" if bounds is not None else ""
    methods = ("HEAD", "GET", "PUT", "POST") if method == "HEAD" else (method,)
    texts = [f"{front}{m}\n{expires}\n{p}" for m in methods for p in (path, short)]
    for key, opened in keys(cloud, at.account, at.container):
        if any(signed_by(key, digest, said, text) for text in texts):
            return opened
    raise Unauthorized(_INVALID)


def _within(address: str | None, bounds: str) -> bool:
    try:
        return ipaddress.ip_address(address or "") in ipaddress.ip_network(bounds)
    except ValueError:
        return False


def disposition(resp: Response, at: Place, params: dict[str, str]) -> None:
    """How a browser is to treat what it gets by a temporary URL: as a file, unless asked for inline."""
    for name in [n for n in resp.headers if n.startswith("x-object-meta-")]:
        resp.delete_header(name)
    name = metadata.plain(params.get("filename") or "")
    if not name and "inline" in params:
        resp.set_header("Content-Disposition", "inline")
        return
    name = name or metadata.plain(at.object.rstrip("/").rpartition("/")[2])
    kind = "inline" if "inline" in params else "attachment"
    plain = name.replace('"', "").encode("ascii", "replace").decode()
    resp.set_header("Content-Disposition", f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(name)}")
