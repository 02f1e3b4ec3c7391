"""The least that the same HTTP server can do: Falcon says hello under Granian, with the settings of the cloud's API.

`python -m bench.hello PORT` serves until it is killed.
"""

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import falcon
from granian.constants import Interfaces
from granian.server import Server

from bench.cloud import free_port
from bench.measure import Client, family, request
from stackling.base.config import Api


class Hello:
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.media = {"hello": "world"}


def app(_: Any = None) -> Callable[..., Any]:
    made = falcon.App()
    made.add_route("/", Hello())
    return made


@contextlib.contextmanager
def serving() -> Iterator[tuple[str, list[int]]]:
    """Its URL and processes, as long as the block runs."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "bench.hello", str(port)])
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(200):
            with contextlib.suppress(OSError):
                Client(url).expect(request(url, "/"), 200)
                break
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.05)
        yield url, family(process.pid)
    finally:
        process.terminate()
        process.wait(20)


if __name__ == "__main__":
    options = Api()
    Server(
        "hello",
        address="127.0.0.1",
        port=int(sys.argv[1]),
        interface=Interfaces.WSGI,
        workers=options.workers,
        blocking_threads=options.threads,
        backlog=1024,
        log_enabled=False,
    ).serve(target_loader=app)
