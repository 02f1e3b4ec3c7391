"""Asking the running cloud as its administrator."""

import json
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

from stackling.base.config import Config
from stackling.boot import credentials
from stackling.cli.setting import Trouble, running


def ask(config: Config, method: str, path: str) -> Any:
    """The JSON answer to one request with the administrator's token. Raises Trouble when there is none."""
    return _send(config, method, path, None, _login(config))[1]


def pages(config: Config, path: str) -> Iterator[Any]:
    """The JSON answers of a list in pages, from the one at `path` on. Raises Trouble as `ask` does."""
    token = _login(config)
    while path:
        answer = _send(config, "GET", path, None, token)[1]
        yield answer
        there = urllib.parse.urlsplit(answer.get("next") or "")
        path = f"{there.path}?{there.query}" if there.path else ""


def _login(config: Config) -> str:
    if running(config) is None:
        raise Trouble("the cloud is not running; start it with `stackling up`")
    try:
        values = credentials.admin(config)
    except OSError as e:
        raise Trouble(f"{e.filename}: {e.strerror}; the administrator's password is needed") from None
    user = {"name": values["OS_USERNAME"], "domain": {"id": "default"}, "password": values["OS_PASSWORD"]}
    scope = {"project": {"name": values["OS_PROJECT_NAME"], "domain": {"id": "default"}}}
    auth = {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": scope}}
    return _send(config, "POST", "/identity/v3/auth/tokens", auth, "")[0]


def _send(config: Config, method: str, path: str, body: Any, token: str) -> tuple[str, Any]:
    headers = {
        "Content-Type": "application/json",
        "Accept": "application/json",
        **({"X-Auth-Token": token} if token else {}),
    }
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(config.base_url + path, data, headers, method=method)
    context = None
    if config.api.tls:
        context = ssl.create_default_context(cafile=str(credentials.authority(config)))
    try:
        with urllib.request.urlopen(request, timeout=60, context=context) as answer:
            return answer.headers.get("X-Subject-Token") or "", json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as e:
        raise Trouble(f"{method} {path}: {e.code} {e.read()[:500].decode(errors='replace')}") from None
    except OSError as e:
        raise Trouble(
            f"the API at {config.base_url} does not answer ({e}); see the log in {config.paths.log_dir}"
        ) from None
