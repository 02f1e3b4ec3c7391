"""Asking the running cloud as its administrator."""

import json
import shutil
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stackling.boot import credentials
from stackling.cli.setting import Setting, Trouble, running

_SECONDS = 60


def ask(setting: Setting, method: str, path: str) -> Any:
    """The JSON answer to one request with the administrator's token. Raises Trouble when there is none."""
    return Administrator(setting).ask(method, path)


def pages(setting: Setting, path: str) -> Iterator[Any]:
    """The JSON answers of a list in pages, from the one at `path` on. Raises Trouble as `ask` does."""
    administrator = Administrator(setting)
    while path:
        answer = administrator.ask("GET", path)
        yield answer
        there = urllib.parse.urlsplit(answer.get("next") or "")
        path = f"{there.path}?{there.query}" if there.path else ""


class Administrator:
    """The administrator, logged in. Raises Trouble when the cloud is not running or says no."""

    def __init__(self, setting: Setting) -> None:
        self.config = config = setting.in_force
        self._token = ""
        if running(config) is None:
            raise Trouble(f"the cloud is not running; start it with `{setting.command('up')}`")
        try:
            values = credentials.admin(config)
        except OSError as e:
            raise Trouble(f"{e.filename}: {e.strerror}; the administrator's password is needed") from None
        user = {"name": values["OS_USERNAME"], "domain": {"id": "default"}, "password": values["OS_PASSWORD"]}
        scope = {"project": {"name": values["OS_PROJECT_NAME"], "domain": {"id": "default"}}}
        auth = {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": scope}}
        with self._open("POST", "/identity/v3/auth/tokens", json.dumps(auth).encode()) as answer:
            self._token = answer.headers["X-Subject-Token"]

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The JSON answer."""
        with self._open(method, path, None if body is None else json.dumps(body).encode()) as answer:
            return json.loads(answer.read() or b"null")

    def tail(self, path: str, start: int) -> bytes:
        """What a growing file has from byte `start` on."""
        try:
            with self._open("GET", path, headers={"Range": f"bytes={start}-"}) as answer:
                return bytes(answer.read())
        except Trouble as e:
            if "416 " in str(e) or "404 " in str(e):
                return b""
            raise

    def download(self, path: str, to: Path) -> None:
        with self._open("GET", path) as answer, to.open("wb") as file:
            shutil.copyfileobj(answer, file, 1 << 20)

    def upload(self, path: str, source: Path) -> None:
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(source.stat().st_size)}
        with source.open("rb") as file, self._open("PUT", path, file, headers):
            pass

    def _open(self, method: str, path: str, data: Any = None, headers: dict[str, str] | None = None) -> Any:
        sent = {
            "Content-Type": "application/json",
            "Accept": "application/json",
            **({"X-Auth-Token": self._token} if self._token else {}),
            **(headers or {}),
        }
        request = urllib.request.Request(self.config.base_url + path, data, sent, method=method)
        try:
            context = None
            if self.config.api.tls:
                context = ssl.create_default_context(cafile=str(credentials.authority(self.config)))
            return urllib.request.urlopen(request, timeout=_SECONDS, context=context)
        except urllib.error.HTTPError as e:
            raise Trouble(f"{method} {path}: {e.code} {e.read()[:500].decode(errors='replace')}") from None
        except OSError as e:
            raise Trouble(
                f"the API at {self.config.base_url} does not answer ({e}); see the log in {self.config.paths.log_dir}"
            ) from None
