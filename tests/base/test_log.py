"""Logs say who did what, and never a secret."""

import io
import json
import time
from pathlib import Path

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


def test_lines_of_requests_are_written_together_and_in_order(tmp_path: Path) -> None:
    path = tmp_path / "log"

    def written() -> list[int]:
        return [json.loads(line)["n"] for line in path.read_text().splitlines()]

    with path.open("w") as out:
        log.setup(stream=out, delay=0.2)
        log.plain({"event": "request", "n": 1, "path": "\udc80"})
        assert written() == []
        log.get("test").error("trouble", n=2)
        assert written() == [1, 2]
        log.plain({"event": "request", "n": 3})
        ends = time.monotonic() + 5
        while written() != [1, 2, 3]:
            assert time.monotonic() < ends
            time.sleep(0.02)
        log.setup(stream=out, level="warning", delay=0.2)
        log.plain({"event": "request", "n": 4})
        out.flush()
        assert written() == [1, 2, 3]
        log.setup(stream=out)
        log.plain({"event": "request", "n": 5})
        assert written() == [1, 2, 3, 5]
