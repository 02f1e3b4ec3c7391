"""Clocks and counters: a client that costs next to nothing, quantiles, CPU time and memory of processes, reports."""

import json
import multiprocessing
import os
import re
import socket
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


class Failed(Exception):
    """An answer that is not what the benchmark measures."""


class Answer:
    """What a server said. Its head is read no further than a measurement needs, which asks for the status alone."""

    __slots__ = ("body", "head", "status")

    def __init__(self, head: bytes, body: bytes) -> None:
        self.status, self.head, self.body = int(head[9:12]), head, body

    @property
    def headers(self) -> dict[str, str]:
        lines = self.head.decode("latin-1").split("\r\n")[1:]
        return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def request(
    url: str,
    path: str,
    token: str = "",
    *,
    method: str = "GET",
    body: Any = None,
    headers: dict[str, str] | None = None,
) -> bytes:
    """An HTTP/1.1 request as it goes over the wire, so that making it isn't measured."""
    data = b"" if body is None else json.dumps(body).encode()
    parts = urlsplit(url)
    lines = [f"{method} {parts.path}{path} HTTP/1.1", f"Host: {parts.netloc}", "Accept: application/json"]
    if token:
        lines.append(f"X-Auth-Token: {token}")
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(data)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)


class Client:
    """One connection that is kept; plain HTTP only. Some 10 µs a request, against 250 µs of `http.client`."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.address = parts.hostname or "127.0.0.1", parts.port or 80
        self._connect()

    def _connect(self) -> None:
        self.socket = socket.create_connection(
            self.address, timeout=600
        )  # Keystone's long lists take minutes
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _first(self, wire: bytes) -> bytes:
        """The beginning of the answer; nothing when the server had closed the connection."""
        try:
            self.socket.sendall(wire)
            return self.socket.recv(1 << 16)
        except ConnectionError:
            return b""

    def send(self, wire: bytes) -> Answer:
        got = self._first(wire)
        if not got:  # servers close what was idle for long
            self.close()
            self._connect()
            got = self._first(wire)
        while (end := got.find(b"\r\n\r\n")) < 0:
            got += self._more()
        head, pieces, have = got[:end], [got[end + 4 :]], len(got) - end - 4
        length = _LENGTH.search(head)
        if length:
            while have < int(length[1]):
                pieces.append(self._more())
                have += len(pieces[-1])
        answer = Answer(head, b"".join(pieces))
        if not length and answer.headers.get("transfer-encoding") == "chunked":
            raise Failed("chunked answers are not measured")
        return answer

    def _more(self) -> bytes:
        more = self.socket.recv(1 << 18)
        if not more:
            raise Failed("the server closed the connection")
        return more

    def expect(self, wire: bytes, status: int) -> Answer:
        """Raises Failed for any other status."""
        answer = self.send(wire)
        if answer.status != status:
            raise Failed(
                f"{wire.split(b' HTTP', 1)[0].decode()}: {answer.status} {answer.body[:500].decode(errors='replace')}"
            )
        return answer

    def close(self) -> None:
        self.socket.close()


def quantile(values: Sequence[float], part: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def times(of: Callable[[], Any], *, most: int, seconds: float, least: int = 5) -> list[float]:
    """How long each call took, seconds: at most `most` calls or `seconds` in all, but `least` calls anyway."""
    taken: list[float] = []
    ends = time.perf_counter() + seconds
    while len(taken) < least or (len(taken) < most and time.perf_counter() < ends):
        start = time.perf_counter()
        of()
        taken.append(time.perf_counter() - start)
    return taken


def spread(taken: Sequence[float]) -> dict[str, float]:
    """Median and 95th percentile in milliseconds."""
    return {
        "count": len(taken),
        "p50_ms": round(statistics.median(taken) * 1e3, 3),
        "p95_ms": round(quantile(taken, 0.95) * 1e3, 3),
    }


def sequential(
    url: str, wire: bytes, status: int, pids: Iterable[int], *, most: int, seconds: float, least: int = 5
) -> dict[str, float]:
    """One client, one request after the other: latency, and CPU of the serving processes a request.

    What comes first of its kind is not measured: three requests, or as many as `least`.
    """
    client, watched = Client(url), list(pids)
    for _ in range(min(3, least)):
        client.expect(wire, status)
    before = cpu(watched)
    taken = times(lambda: client.expect(wire, status), most=most, seconds=seconds, least=least)
    used = cpu(watched) - before
    client.close()
    return {**spread(taken), "cpu_ms": round(used / len(taken) * 1e3, 3)}


def _hammer(url: str, wire: bytes, status: int, seconds: float, start: Any, out: Any) -> None:
    client = Client(url)
    client.expect(wire, status)
    start.wait()
    out.put(times(lambda: client.expect(wire, status), most=10**9, seconds=seconds))


def together(url: str, wire: bytes, status: int, *, clients: int, seconds: float) -> dict[str, float]:
    """Several clients at once, each a process: requests a second and latency."""
    made = multiprocessing.get_context("fork")
    start, out = made.Barrier(clients + 1), made.Queue()
    running = [
        made.Process(target=_hammer, args=(url, wire, status, seconds, start, out), daemon=True)
        for _ in range(clients)
    ]
    for one in running:
        one.start()
    start.wait(30)
    began = time.perf_counter()
    taken = [t for _ in running for t in out.get(timeout=seconds + 120)]
    took = time.perf_counter() - began
    for one in running:
        one.join(10)
    return {"clients": clients, "per_second": round(len(taken) / took, 1), **spread(taken)}


# -- processes ---------------------------------------------------------------------------------------------------------


def cpu(pids: Iterable[int]) -> float:
    """Seconds of CPU that the processes have used."""
    return sum(_cpu(pid) for pid in pids)


def _cpu(pid: int) -> float:
    """Of all its threads, ended ones too: its clock is the one that clock_getcpuclockid(3) names."""
    return time.clock_gettime(~pid << 3 | 2)


def family(pid: int) -> list[int]:
    """A process and all that it started."""
    made = [pid]
    for one in made:
        for children in Path(f"/proc/{one}/task").glob("*/children"):
            try:
                made += [int(p) for p in children.read_text().split()]
            except OSError:
                continue
    return made


def pss(pid: int) -> int:
    """Proportional share of memory, KiB; 0 when the process is gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


# -- reports -----------------------------------------------------------------------------------------------------------


def machine() -> dict[str, Any]:
    """What the numbers were taken on."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        "?",
    )
    return {
        "cores": os.cpu_count(),
        "cpu": model,
        "load_before": round(os.getloadavg()[0], 2),
        "date": time.strftime("%Y-%m-%d"),
    }


def report(name: str, found: dict[str, Any], *, as_json: bool) -> None:
    """Print what a benchmark found, as JSON or as lines."""
    if as_json:
        print(json.dumps({"bench": name, **found}, indent=2))
        return
    print(f"bench.{name}")
    _lines(found, "  ")


def _lines(found: dict[str, Any], indent: str) -> None:
    width = max(len(str(k)) for k in found) + 2
    for key, value in found.items():
        if isinstance(value, dict) and any(isinstance(v, dict) for v in value.values()):
            print(f"{indent}{key}")
            _lines(value, indent + "  ")
        elif isinstance(value, dict):
            print(f"{indent}{key:<{width}} " + "  ".join(f"{k}={v}" for k, v in value.items()))
        else:
            print(f"{indent}{key:<{width}} {value}")
