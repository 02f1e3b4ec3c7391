"""Accounts as their users see them."""

from pathlib import Path
from typing import Any

import falcon.testing
import pytest

from tests.conftest import Answer, Bed, User

V1 = "/object-store/v1"


class Account:
    """An account, asked by somebody: `account("PUT", "c/o", b"data", X_Object_Meta_A="b")`."""

    def __init__(self, user: User, project_id: str = "") -> None:
        self.user = user
        self.name = f"AUTH_{project_id or user.project_id}"
        self.root = f"{V1}/{self.name}"

    def __call__(self, method: str, path: str = "", data: bytes | None = None, **headers: Any) -> Answer:
        """Ask without the test client, which knows no COPY and forbids Content-Type where Swift has it (204)."""
        sent = {"X-Auth-Token": self.user.token} if self.user.token else {}
        if method in ("PUT", "POST") or data:
            sent["Content-Length"] = str(len(data or b""))
        sent |= {name.replace("_", "-"): str(value) for name, value in headers.items() if value is not None}
        where = (
            path
            if path.startswith("/")
            else f"{self.root}/{path}"
            if path[:1] not in ("", "?")
            else self.root + path
        )
        where, _, query = where.partition("?")
        environ = falcon.testing.create_environ(
            path=where, method=method, query_string=query, headers=sent, body=data or b""
        )
        if "Content-Length" not in sent:
            environ.pop("CONTENT_LENGTH", None)
        told = falcon.testing.StartResponseMock()
        body = self.user.bed.client.app(environ, told)
        try:
            data = b"".join(body)
        finally:
            if hasattr(body, "close"):
                body.close()
        return Answer(falcon.testing.Result([data], told.status or "", told.headers or []))

    def names(self, path: str = "") -> list[str]:
        """A plain list."""
        return self("GET", path).text.splitlines()

    def stats(self, container: str) -> tuple[int, int]:
        """Objects and bytes that a container says it has."""
        told = self("HEAD", container).headers
        return int(told["x-container-object-count"]), int(told["x-container-bytes-used"])

    def by(self, user: User) -> "Account":
        """The same account, asked by somebody else."""
        return Account(user, self.name.removeprefix("AUTH_"))


@pytest.fixture
def account(alice: User) -> Account:
    """Alice's account with a container `c`."""
    made = Account(alice)
    assert made("PUT", "c").status == 201
    return made


def files(cloud: Bed) -> list[Path]:
    """The files of the cloud's store."""
    return [p for p in (cloud.home / "state" / "objects").rglob("*") if p.is_file()]
