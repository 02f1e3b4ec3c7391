"""`openstack image build …` and `stackling image …`, as people type them, against a cloud with fake hosts."""

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..cli.test_commands import Operator

ROOT = Path(__file__).parents[2]
OPENSTACK = Path(sys.executable).parent / "openstack"

pytestmark = pytest.mark.skipif(not OPENSTACK.exists(), reason="python-openstackclient is not installed")


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    home = tmp_path_factory.mktemp("operator")
    made = Operator(home)
    # The commands are found by the entry points of an installed Stackling: this is one, of the tree under test.
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    about = home / "site" / "stackling_tested-0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: stackling-tested\nVersion: 0\n")
    lines = [
        f"[{g}]\n" + "".join(f"{n} = {where}\n" for n, where in names.items()) for g, names in groups.items()
    ]
    (about / "entry_points.txt").write_text("\n".join(lines))
    path = [str(home / "site"), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    made.environ |= {
        "PYTHONPATH": os.pathsep.join(p for p in path if p),
        "XDG_CACHE_HOME": str(home / "cache"),
    }
    made.says("up", "--fake")
    yield made
    made.run("down", "--fake")


def openstack(operator: Operator, *words: str, fails: bool = False) -> str:
    told = json.loads(operator.says("env", "--fake", "--format", "json"))
    done = subprocess.run(
        [str(OPENSTACK), *words],
        capture_output=True,
        text=True,
        env={**operator.environ, **told},
        timeout=120,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert (done.returncode != 0) == fails, done
    return done.stderr if fails else done.stdout


def test_builds_through_the_openstack_client(operator: Operator) -> None:
    names = [
        r["name"] for r in json.loads(openstack(operator, "image", "build", "recipe", "list", "-f", "json"))
    ]
    assert "debian-12" in names
    assert "release: bookworm" in openstack(operator, "image", "build", "recipe", "show", "debian-12")
    words = ("image", "build", "create", "debian-12", "--name", "d12", "--public", "--wait", "-f", "json")
    made = json.loads(openstack(operator, *words))
    assert (made["status"], made["recipe"], made["visibility"]) == ("succeeded", "debian-12", "public")
    shown = json.loads(openstack(operator, "image", "build", "show", made["id"], "-f", "json"))
    assert shown["image_id"] == made["image_id"]
    assert json.loads(openstack(operator, "image", "show", "d12", "-f", "json"))["id"] == made["image_id"]
    assert "building debian-12" in openstack(operator, "image", "build", "log", made["id"])
    assert (
        json.loads(openstack(operator, "image", "build", "package", "list", made["id"], "-f", "json")) == []
    )
    listed = json.loads(openstack(operator, "image", "build", "list", "--name", "d12", "-f", "json"))
    assert [b["id"] for b in listed] == [made["id"]]
    assert "can't be cancelled" in openstack(operator, "image", "build", "cancel", made["id"], fails=True)
    openstack(operator, "image", "build", "delete", made["id"])
    assert "No build found" in openstack(operator, "image", "build", "show", made["id"], fails=True)


def test_schedules_through_the_openstack_client(operator: Operator, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("name: mine\nkind: micro\n")
    words = (
        "image",
        "build",
        "schedule",
        "create",
        str(recipe),
        "--cron",
        "0 3 * * 0",
        "--keep",
        "2",
        "-f",
        "json",
    )
    made = json.loads(openstack(operator, *words))
    assert (made["name"], made["keep"], made["enabled"]) == ("mine", 2, True)
    openstack(operator, "image", "build", "schedule", "set", made["id"], "--disable", "--keep", "4")
    shown = json.loads(openstack(operator, "image", "build", "schedule", "show", made["id"], "-f", "json"))
    assert (shown["keep"], shown["enabled"], shown["next_at"]) == (4, False, "")
    openstack(operator, "image", "build", "schedule", "delete", made["id"])
    assert json.loads(openstack(operator, "image", "build", "schedule", "list", "-f", "json")) == []
    wrong = openstack(
        operator, "image", "build", "schedule", "create", "micro", "--cron", "never", fails=True
    )
    assert "cron" in wrong


def test_a_bad_recipe_is_told_by_field(operator: Operator, tmp_path: Path) -> None:
    recipe = tmp_path / "bad.yaml"
    recipe.write_text("name: bad\nrepositories: []\n")
    assert "recipe.repositories" in openstack(operator, "image", "build", "create", str(recipe), fails=True)
    assert "repositories: " in operator.trouble("image", "build", str(recipe), "--fake")
    assert "neither a file nor one of" in operator.trouble("image", "build", "debian-99", "--fake")


def test_builds_through_the_stackling_command(operator: Operator) -> None:
    assert "debian-7" in operator.says("image", "recipes")
    said = operator.says("image", "build", "debian-13", "--name", "d13", "--fake")
    assert "building debian-13\ndone\n" in said
    image = json.loads(openstack(operator, "image", "show", "d13", "-f", "json"))
    assert f"image {image['id']} (d13)" in said
    assert image["visibility"] == "public"
