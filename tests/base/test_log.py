"""Logs say who did what, and never a secret."""

import io
import json

from stackling.base import log


def test_secrets_are_masked_however_deep() -> None:
    out = io.StringIO()
    log.setup(stream=out)
    log.get("test").info(
        "request",
        user="u1",
        body={
            "auth": {"password": {"user": {"name": "alice", "password": "s3cret-1"}}},
            "adminPass": "s3cret-2",
        },
        headers=[{"X-Auth-Token": "s3cret-3"}],
        user_data="s3cret-4",
        token_scope="project",
    )
    line = json.loads(out.getvalue())
    assert "s3cret" not in out.getvalue()
    assert (line["event"], line["user"], line["level"], line["token_scope"]) == (
        "request",
        "u1",
        "info",
        "project",
    )
