"""What guests are told, and that hostile ones disturb nobody."""

import json
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

import pytest

from stackling.compute.driver import Domain, GuestData, MetadataPort, Nic
from stackling.compute.drivers.guest_documents import drive_files
from stackling.node.metadata import MAX_PER_GUEST, MetadataService
from stackling.node.metadata_plugs import plugs_of

NET = "44444444-4444-4444-8444-444444444444"
META = MetadataPort(port_id=str(uuid.uuid4()), mac="fa:16:3e:00:00:02", cidrs=("10.1.0.2/24",))
DATA = GuestData(
    meta_data={
        "uuid": "u",
        "hostname": "web1.local",
        "project_id": "p",
        "devices": [],
        "keys": [{"name": "mine", "type": "ssh", "data": "ssh-ed25519 AAAA"}],
    },
    network_data={"links": []},
    vendor_data2={"static": {}},
    user_data=b"\x00#!/bin/sh\n",
    ec2={"instance-id": "i-1", "placement": {"availability-zone": "nova"}},
)


def domain(address: str, data: GuestData = DATA) -> Domain:
    nic = Nic(
        port_id=str(uuid.uuid4()),
        mac="fa:16:3e:00:00:01",
        network_id=NET,
        fixed_ips=(address,),
        metadata=META,
    )
    return Domain(id=str(uuid.uuid4()), name="a", vcpus=1, memory_mib=64, nics=(nic,), guest_data=data)


class Service:
    """A service with one network, whose guests are addresses of loopback."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.metadata = MetadataService(lambda id: directory / id)
        listener = socket.create_server(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        self.metadata.listen(NET, listener)

    def ask(
        self, method: str, path: str, source: str = "127.0.0.5", body: bytes | None = None
    ) -> tuple[int, bytes]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=5, source_address=(source, 0))
        try:
            connection.request(method, path, body)
            answer: HTTPResponse = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def get(self, path: str, source: str = "127.0.0.5") -> str:
        status, body = self.ask("GET", path, source)
        assert status == 200, (status, body)
        return body.decode(errors="replace")

    def raw(self, sent: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", self.port), 5, ("127.0.0.5", 0)) as sock:
            sock.sendall(sent)
            received = b""
            while piece := sock.recv(65536):
                received += piece
            return received


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    made = Service(tmp_path)
    yield made
    made.metadata.stop()


def test_the_openstack_tree(service: Service) -> None:
    service.metadata.serve(domain("127.0.0.5"))
    assert service.get("/openstack").splitlines()[0] == "2012-08-10"
    assert service.get("/openstack/").splitlines()[-1] == "latest"
    assert service.get("/openstack/2012-08-10").split() == ["meta_data.json", "user_data"]
    assert "network_data.json" in service.get("/openstack/latest/")
    meta = json.loads(service.get("/openstack/latest/meta_data.json"))
    assert meta["hostname"] == "web1.local"
    assert len(meta["random_seed"]) == 684
    assert meta["random_seed"] != json.loads(service.get("/openstack/latest/meta_data.json"))["random_seed"]
    assert "project_id" not in json.loads(service.get("/openstack/2013-10-17/meta_data.json"))
    assert service.ask("GET", "/openstack/latest/user_data") == (200, DATA.user_data)
    assert json.loads(service.get("/openstack/latest/vendor_data2.json")) == {"static": {}}
    for path in (
        "/openstack/2012-08-10/network_data.json",
        "/openstack/1999-01-01",
        "/openstack/latest/x",
        "/x",
    ):
        assert service.ask("GET", path)[0] == 404


def test_the_ec2_tree(service: Service) -> None:
    service.metadata.serve(domain("127.0.0.5"))
    assert service.get("/").splitlines()[-2:] == ["2009-04-04", "latest"]
    assert service.get("/latest/").splitlines() == ["meta-data/", "user-data"]
    listing = service.get("/latest/meta-data/").splitlines()
    assert listing == ["hostname", "instance-id", "local-hostname", "placement/", "public-keys/"]
    assert service.get("/2009-04-04/meta-data/placement/availability-zone") == "nova"
    assert service.get("/latest/meta-data/public-keys/") == "0=mine"
    assert service.get("/latest/meta-data/public-keys/0/") == "openssh-key"
    assert service.get("/latest/meta-data/public-keys/0/openssh-key") == "ssh-ed25519 AAAA"
    assert service.ask("GET", "/latest/meta-data/instance-id/x")[0] == 404
    assert service.ask("HEAD", "/latest/meta-data/instance-id") == (200, b"")


def test_a_guest_is_known_by_its_address_alone(service: Service) -> None:
    first, second = domain("127.0.0.5"), domain("127.0.0.6", GuestData(meta_data={"hostname": "other"}))
    service.metadata.serve(first)
    service.metadata.serve(second)
    assert json.loads(service.get("/openstack/latest/meta_data.json", "127.0.0.6"))["hostname"] == "other"
    assert service.ask("GET", "/openstack/latest/user_data", "127.0.0.6")[0] == 404
    assert service.ask("GET", "/openstack", "127.0.0.7")[0] == 404
    service.metadata.forget(first.id)
    assert service.ask("GET", "/openstack", "127.0.0.5")[0] == 404


def test_a_password_is_posted_once(service: Service) -> None:
    guest = domain("127.0.0.5")
    service.metadata.serve(guest)
    assert service.get("/openstack/latest/password") == ""
    assert service.ask("POST", "/openstack/latest/password", body=b"x" * 1021)[0] == 400
    assert service.ask("POST", "/openstack/latest/password", body=b"secret")[0] == 200
    assert service.ask("POST", "/openstack/latest/password", body=b"another")[0] == 409
    assert service.get("/openstack/latest/password") == "secret"
    assert (service.directory / guest.id).read_text() == "secret"
    assert (service.directory / guest.id).stat().st_mode & 0o777 == 0o600
    assert service.ask("POST", "/openstack/latest/meta_data.json", body=b"x")[0] == 405
    assert service.ask("DELETE", "/openstack")[0] == 405


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET openstack HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n", 413),
        (b"POST /openstack/latest/password HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 411),
        (b"GET /" + b"x" * 20000, 431),
        (b"\xff\xfe\x00 / HTTP/1.1\r\n\r\n", 405),
        (b"GET /openstack/../../etc/passwd HTTP/1.1\r\n\r\n", 404),
        (b"GET /openstack/%00/%2e%2e HTTP/1.0\r\n\r\n", 404),
    ],
)
def test_bad_requests_get_a_plain_answer(service: Service, sent: bytes, status: int) -> None:
    service.metadata.serve(domain("127.0.0.5"))
    try:
        assert f" {status} ".encode() in service.raw(sent)[:20]
    except ConnectionResetError:
        assert status == 431, "only what was not read to its end may be cut off"


def test_silent_and_greedy_guests_hold_up_nobody(service: Service) -> None:
    service.metadata.serve(domain("127.0.0.5"))
    service.metadata.serve(domain("127.0.0.6"))
    held = [
        socket.create_connection(("127.0.0.1", service.port), 5, ("127.0.0.6", 0))
        for _ in range(MAX_PER_GUEST * 4)
    ]
    for sock in held:
        try:
            sock.sendall(b"GET /opens")
        except OSError:
            continue
    times: list[float] = []

    def ask() -> None:
        start = time.monotonic()
        service.get("/openstack")
        times.append(time.monotonic() - start)

    threads = [threading.Thread(target=ask) for _ in range(MAX_PER_GUEST)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(times) == MAX_PER_GUEST
    assert max(times) < 1.0
    for sock in held:
        sock.close()


def test_both_doors_serve_the_same(service: Service) -> None:
    service.metadata.serve(domain("127.0.0.5"))
    for path, content in drive_files(DATA).items():
        if not path.startswith("openstack/"):
            continue
        status, body = service.ask("GET", f"/{path}")
        assert status == 200
        if path.endswith("meta_data.json"):
            assert _without_seed(body) == _without_seed(content)
        else:
            assert body == content


def _without_seed(content: bytes) -> Any:
    return {key: value for key, value in json.loads(content).items() if key != "random_seed"}


def test_a_plug_for_each_network() -> None:
    plugs = plugs_of([domain("10.1.0.5"), domain("10.1.0.6")])
    assert list(plugs) == [NET]
    assert plugs[NET].namespace == f"stackling-{NET}"
    assert len(plugs[NET].device) <= 15
