"""The unmodified `openstack` client and openstacksdk, and what only a real server shows: chunks, and their end."""

import json
import socket
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import openstack as sdk
import pytest

from tests.cli.operator import Operator
from tests.image.test_client import Client

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    home = tmp_path_factory.mktemp("client")
    operator = Operator(home)
    operator.says("up", "--fake")
    try:
        yield Client(json.loads(operator.says("env", "--fake", "--format", "json")), home)
    finally:
        operator.says("down", "--fake", "--purge")


def _refused(client: Client) -> int:
    """How many uploads the cloud has refused, as its metrics tell."""
    with urllib.request.urlopen(
        f"{client.variables['OS_AUTH_URL'].removesuffix('/identity/v3')}/metrics"
    ) as answer:
        lines = answer.read().decode().splitlines()
    wanted = 'stackling_requests_total{method="PUT",service="object-store",status="408"} '
    return sum(int(float(line.removeprefix(wanted))) for line in lines if line.startswith(wanted))


def until(holds: Callable[[], bool], within: float = 10.0) -> None:
    end = time.monotonic() + within
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_every_command(client: Client, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello")
    assert client.told("container create box")[0]["container"] == "box"
    assert client.told("object create --name dir/a box", str(tmp_path / "a.txt"))[0]["object"] == "dir/a"
    assert client.told("object list box") == [{"Name": "dir/a"}]
    client.run("object set --property k=v box dir/a")
    assert client.told("object show box dir/a")["properties"] == {"k": "v"}
    client.run("object unset --property k box dir/a")
    client.run("object save box dir/a --file", str(tmp_path / "b.txt"))
    assert (tmp_path / "b.txt").read_text() == "hello"
    client.run("container set --property k=v box")
    shown = client.told("container show box")
    assert (shown["object_count"], shown["properties"]) == ("1", {"k": "v"})
    client.run("container unset --property k box")
    client.run("object store account set --property k=v")
    assert client.told("object store account show")["Objects"] == "1"
    client.run("object store account unset --property k")
    client.run("object delete box dir/a")
    client.run("container delete --recursive box")
    assert client.told("container list") == []


def test_the_sdk_and_bodies_in_chunks(client: Client, tmp_path: Path) -> None:
    cloud = sdk.connect(
        load_envvars=False,
        load_yaml_config=False,
        **{name.removeprefix("OS_").lower(): value for name, value in client.variables.items()},
    )
    store = cloud.object_store
    cloud.create_container("box")
    (tmp_path / "big").write_bytes(b"0123456789" * 300_000)
    cloud.create_object("box", "big", str(tmp_path / "big"), segment_size=1 << 20, use_slo=True)
    assert store.download_object("big", "box") == (tmp_path / "big").read_bytes()
    store.set_account_temp_url_key("key")
    url = urlsplit(store.get_endpoint())
    signed = store.generate_temp_url(f"{url.path}/box/big", 60, "GET")
    with urllib.request.urlopen(f"http://{url.netloc}{signed}") as answer:
        assert answer.read(3) == b"012"

    def put(body: bytes) -> bytes:
        with socket.create_connection((url.hostname, url.port)) as sent:
            head = f"PUT {url.path}/box/o HTTP/1.1\r\nHost: x\r\nX-Auth-Token: {cloud.auth_token}\r\n"
            sent.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + body)
            return sent.recv(1000)[9:12] if body.endswith(b"0\r\n\r\n") else b""

    assert put(b"5\r\nhello\r\n0\r\n\r\n") == b"201"
    for body in (b"5\r\nother\r\n", b"5\r\nother\r\n5\r\not"):
        assert put(body) == b""
    until(lambda: _refused(client) == 2)
    assert store.download_object("o", "box") == b"hello"
    assert put(b"0\r\n\r\n") == b"201"
    assert store.download_object("o", "box") == b""
