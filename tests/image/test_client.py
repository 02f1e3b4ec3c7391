"""Every image command of the unmodified `openstack` client, against a cloud that runs."""

import contextlib
import io
import json
import os
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from tests.cli.test_commands import Operator

pytestmark = pytest.mark.filterwarnings("ignore")


class Client:
    """The `openstack` command, in this process: starting one for each command takes most of its time."""

    def __init__(self, variables: dict[str, str], home: Path) -> None:
        self.variables, self.home = variables, home

    def run(self, words: str, *more: str) -> str:
        """What a command prints. Raises AssertionError when it fails."""
        from openstackclient import shell

        out, err = io.StringIO(), io.StringIO()
        kept, stdin = dict(os.environ), sys.stdin
        os.environ.update(self.variables)
        sys.stdin = mock.Mock(isatty=lambda: True)  # or `image create` would read the image from it
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                status = shell.OpenStackShell().run([*words.split(), *more])
        finally:
            sys.stdin = stdin
            os.environ.clear()
            os.environ.update(kept)
        assert status == 0, (words, more, out.getvalue(), err.getvalue())
        return out.getvalue()

    def told(self, words: str, *more: str) -> Any:
        return json.loads(self.run(words, *more, "-f", "json"))


@pytest.fixture(scope="module")
def openstack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    home = tmp_path_factory.mktemp("client")
    operator = Operator(home)
    operator.environ["STACKLING_IMAGE_WEB_DOWNLOAD_ALLOW"] = '["127.0.0.1"]'
    operator.says("up", "--fake")
    try:
        yield Client(json.loads(operator.says("env", "--fake", "--format", "json")), home)
    finally:
        operator.says("down", "--fake", "--purge")


@pytest.fixture(scope="module")
def disk(openstack: Client) -> Path:
    file = openstack.home / "disk.raw"
    file.write_bytes(os.urandom(1 << 20))
    return file


@pytest.fixture
def image(openstack: Client, disk: Path) -> str:
    made = openstack.told("image create --disk-format raw --private --file", str(disk), "web")
    assert made["status"] == "active"
    return str(made["id"])


def test_images(openstack: Client, disk: Path, image: str, tmp_path: Path) -> None:
    shown = openstack.told("image show", image)
    assert (shown["size"], shown["properties"]["stores"]) == (1 << 20, "file")
    assert image in {i["ID"] for i in openstack.told("image list --private --long")}
    assert openstack.told("image list --property", "a=b") == []
    openstack.run("image set --property a=b --tag red --min-disk 1 --name new --hidden", image)
    assert [i["ID"] for i in openstack.told("image list --hidden --property", "a=b", "--tag", "red")] == [
        image
    ]
    openstack.run("image set --unhidden --protected --deactivate", image)
    assert openstack.told("image show", image)["status"] == "deactivated"
    openstack.run("image set --unprotected --activate", image)
    openstack.run("image unset --property a --tag red", image)
    openstack.run("image save --file", str(tmp_path / "copy"), image)
    assert (tmp_path / "copy").read_bytes() == disk.read_bytes()
    openstack.run("image delete", image)
    assert image not in {i["ID"] for i in openstack.told("image list")}


def test_sharing(openstack: Client, image: str) -> None:
    project = openstack.told("project create", f"p{uuid.uuid4().hex[:8]}")["id"]
    openstack.run("image set --shared", image)
    openstack.run("image add project", image, project)
    assert [m["Status"] for m in openstack.told("image member list", image)] == ["pending"]
    assert openstack.told("image member get", image, project)["status"] == "pending"
    for word, status in (("accept", "accepted"), ("reject", "rejected"), ("pending", "pending")):
        openstack.run(f"image set --{word} --project", project, image)
        assert [m["Status"] for m in openstack.told("image member list", image)] == [status]
    openstack.run("image remove project", image, project)
    assert openstack.told("image member list", image) == []
    openstack.run("image delete", image)


def wait(openstack: Client, id: str, status: str) -> Any:
    import time

    for _ in range(100):
        shown = openstack.told("image show", id)
        if shown["status"] == status and not shown["properties"].get("os_glance_importing_to_stores"):
            return shown
        time.sleep(0.2)
    raise AssertionError(shown)


def test_imports_and_stores(openstack: Client, disk: Path) -> None:
    assert "glance-direct" in openstack.run("image import info")
    assert [s["ID"] for s in openstack.told("image stores list")] == ["file", "spare", "web"]
    assert "data_dir" in openstack.run("image stores list --detail")
    id = openstack.told("image create --disk-format raw staged")["id"]
    openstack.run("image stage --file", str(disk), id)
    openstack.run("image import --method glance-direct", id, "--store", "file")
    assert wait(openstack, id, "active")["properties"]["stores"] == "file"
    openstack.run("image import --method copy-image --all-stores", id)
    assert wait(openstack, id, "active")["properties"]["stores"] == "file,spare"
    openstack.run("image delete --store spare", id)
    assert wait(openstack, id, "active")["properties"]["stores"] == "file"
    one = openstack.told("image create --disk-format raw --import --file", str(disk), "imported")["id"]
    wait(openstack, one, "active")
    tasks = openstack.told("image task list")
    assert {t["Status"] for t in tasks} == {"success"}
    assert openstack.told("image task show", tasks[0]["ID"])["status"] == "success"
    openstack.run("image delete", id, one)


def test_the_cache(openstack: Client, image: str) -> None:
    import time

    openstack.run("cached image queue", image)
    for _ in range(50):
        found = [i for i in openstack.told("cached image list") if i["ID"] == image]
        if found and found[0]["State"] == "cached":
            break
        time.sleep(0.2)
    assert (found[0]["State"], found[0]["Size"]) == ("cached", 1 << 20)
    openstack.run("cached image delete", image)
    assert image not in openstack.run("cached image list")
    openstack.run("cached image clear --queue")
    openstack.run("cached image clear --cache")
    openstack.run("cached image clear")
    assert openstack.told("cached image list") == []
    openstack.run("image delete", image)


def test_metadata_definitions(openstack: Client) -> None:
    name = f"My::{uuid.uuid4().hex[:8]}"
    openstack.run("image metadef namespace create --public --description words --display-name Mine", name)
    assert name in openstack.run("image metadef namespace list")
    assert "OS::Compute::Libvirt" in openstack.run("image metadef namespace list")
    openstack.run("image metadef namespace set --protected", name)
    openstack.run("image metadef namespace set --unprotected --private", name)
    openstack.run("image metadef namespace set --tag red --tag blue", name)
    openstack.run("image metadef namespace unset --tag red", name)
    openstack.run("image metadef namespace unset --all-tags", name)
    assert openstack.told("image metadef namespace show", name)["visibility"] == "private"
    assert "OS::Glance::Image" in openstack.run("image metadef resource type list")
    associate = "image metadef resource type association"
    openstack.run(f"{associate} create", name, "OS::Glance::Image")
    assert "OS::Glance::Image" in openstack.run(f"{associate} list", name)
    openstack.run(f"{associate} delete", name, "OS::Glance::Image")
    openstack.run(
        "image metadef property create --name size --title Size --type integer --schema",
        '{"minimum": 1}',
        name,
    )
    assert "size" in openstack.run("image metadef property list", name)
    openstack.run("image metadef property set --title Larger", name, "size")
    assert openstack.told("image metadef property show", name, "size")["title"] == "Larger"
    openstack.run("image metadef object create --namespace", name, "thing")
    assert "thing" in openstack.run("image metadef object list", name)
    assert openstack.told("image metadef object show", name, "thing")["name"] == "thing"
    openstack.run("image metadef object update --name other", name, "thing")
    openstack.run("image metadef object delete", name, "other")
    openstack.run("image metadef property delete", name, "size")
    openstack.run("image metadef namespace delete", name)
