"""Image data: 512 MiB up and down, against what the same disk, hashes and client allow.

    python -m bench.image [--mib 512] [--rounds 3] [--os] [--json]

The yardsticks run in the same minute on the same disk: data from memory, hashed twice (MD5 and SHA-512) and written at
the same time, then synced; and a file read and sent through a socket of the loopback to the same reader. Data is
random; of each the best round counts. `--os` measures the cloud that the `OS_*` variables name.
"""

import argparse
import contextlib
import hashlib
import os
import socket
import tempfile
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench import cloud as clouds
from bench import measure
from bench.cloud import Cloud
from stackling.base.lane import Lane

CHUNK = 1 << 20


def _data() -> bytes:
    return os.urandom(CHUNK)


def disk_and_hashes(directory: Path, mib: int) -> float:
    """Seconds for writing, hashing and syncing, all at once: a thread for each hash, this one writes."""
    chunk = _data()
    md5, sha512 = hashlib.md5(usedforsecurity=False), hashlib.sha512()
    file = directory / "yardstick"
    start = time.perf_counter()
    lanes = [Lane("md5", md5.update), Lane("sha512", sha512.update)]
    with file.open("wb", buffering=0) as out:
        for _ in range(mib):
            for lane in lanes:
                lane.put(chunk)
            out.write(chunk)
        os.fsync(out.fileno())
    for lane in lanes:
        lane.close()
    took = time.perf_counter() - start
    file.unlink()
    return took


def file_and_socket(directory: Path, mib: int) -> float:
    """Seconds for a file of that size to get through a socket to a reader, with no more than read and send."""
    file, chunk = directory / "yardstick", _data()
    with file.open("wb") as out:
        for _ in range(mib):
            out.write(chunk)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        there, _ = listener.accept()
        with there, file.open("rb", buffering=0) as source:
            while piece := source.read(CHUNK):
                there.sendall(piece)

    threading.Thread(target=serve, daemon=True).start()
    start = time.perf_counter()
    with socket.create_connection(listener.getsockname()) as client:
        _drain(client, mib << 20)
    took = time.perf_counter() - start
    listener.close()
    file.unlink()
    return took


def _drain(connection: socket.socket, size: int) -> None:
    buffer, left = bytearray(CHUNK), size
    while left:
        got = connection.recv_into(buffer, min(left, CHUNK))
        if not got:
            raise ConnectionError(f"{left} bytes are missing")
        left -= got


def upload(cloud: Cloud, mib: int) -> tuple[str, float]:
    """The id of a new image, and seconds for its data."""
    body = {"name": "bench", "disk_format": "raw", "container_format": "bare"}
    id = cloud.call("image", "/images", "POST", body, expect=201).json["id"]
    chunk = _data()
    with _asked(
        cloud, "PUT", id, f"Content-Type: application/octet-stream\r\nContent-Length: {mib << 20}\r\n"
    ) as there:
        start = time.perf_counter()
        for _ in range(mib):
            there.sendall(chunk)
        head = there.recv(1 << 16)
        took = time.perf_counter() - start
    if b" 204 " not in head[:20]:
        raise measure.Failed(f"upload: {head[:300]!r}")
    return id, took


def download(cloud: Cloud, id: str, mib: int) -> float:
    """Seconds until all of it is here."""
    with _asked(cloud, "GET", id, "") as there:
        start, head = time.perf_counter(), b""
        while b"\r\n\r\n" not in head:
            head += there.recv(1 << 16)
        if b" 200 " not in head[:20]:
            raise measure.Failed(f"download: {head[:300]!r}")
        _drain(there, (mib << 20) - len(head.partition(b"\r\n\r\n")[2]))
        return time.perf_counter() - start


@contextlib.contextmanager
def _asked(cloud: Cloud, method: str, id: str, headers: str) -> Any:
    """A connection on which a request for an image's data is sent, its body not yet."""
    parts = urlsplit(cloud.url("image"))
    path = f"{parts.path}/images/{id}/file"
    head = f"{method} {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nX-Auth-Token: {cloud.token}\r\n{headers}\r\n"
    with socket.create_connection((parts.hostname or "", parts.port or 80), timeout=600) as there:
        there.sendall(head.encode())
        yield there


def main() -> None:
    asked = argparse.ArgumentParser(prog="python -m bench.image", description=__doc__.splitlines()[0])
    asked.add_argument("--mib", type=int, default=512)
    asked.add_argument("--rounds", type=int, default=3)
    asked.add_argument("--os", action="store_true", help="measure the cloud of the OS_* variables")
    asked.add_argument("--json", action="store_true")
    options = asked.parse_args()
    mib, ups, downs, disks, sockets = options.mib, [], [], [], []
    with contextlib.nullcontext(clouds.named_by_environment()) if options.os else clouds.own() as cloud:
        disk = cloud.database.parent if cloud.database else Path(tempfile.gettempdir())
        memory = sum(measure.pss(pid) for pid in cloud.pids)
        most = 0
        for _ in range(options.rounds):
            disks.append(disk_and_hashes(disk, mib))
            id, took = upload(cloud, mib)
            ups.append(took)
            sockets.append(file_and_socket(disk, mib))
            downs.append(download(cloud, id, mib))
            most = max(most, sum(measure.pss(pid) for pid in cloud.pids))
            cloud.call("image", f"/images/{id}", "DELETE", expect=204)
    found: dict[str, Any] = {"machine": measure.machine(), "MiB": mib}
    for name, yardstick, taken in (("upload", disks, ups), ("download", sockets, downs)):
        found[name] = {
            "MB_per_s": round(mib * 1.048576 / min(taken)),
            "yardstick_MB_per_s": round(mib * 1.048576 / min(yardstick)),
            "ratio": round(min(yardstick) / min(taken), 3),
        }
    found["memory_growth_KiB"] = most - memory
    measure.report("image", found, as_json=options.json)


if __name__ == "__main__":
    main()
