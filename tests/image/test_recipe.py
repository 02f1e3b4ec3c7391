"""Recipes: what they may say, and that those which are shipped are good ones."""

import re
import shlex
from typing import Any

import msgspec
import pytest

from stackling.image.builder import debian, recipe
from stackling.image.builder.debian import Package
from stackling.image.builder.line import packages_digest, sbom
from stackling.image.builder.recipe import InvalidRecipe

GOOD: dict[str, Any] = {
    "name": "mine",
    "release": "bookworm",
    "repositories": [{"uri": "http://deb.debian.org/debian"}],
    "packages": ["linux-image-cloud-amd64", "cloud-init"],
}


def test_every_shipped_recipe_is_named_like_its_file_and_has_its_keys() -> None:
    shipped = recipe.shipped()
    assert set(shipped) == {"micro", "debian-12", "debian-13", "debian-7", "debian-6", "ubuntu-24.04"}
    for name, one in shipped.items():
        assert one.name == name
        assert one.about
        assert one.tests
        assert recipe.keyring(one).is_file()
        assert recipe.convert(recipe.plain(one)) == one


def test_a_recipe_has_another_digest_when_anything_in_it_changes() -> None:
    one = recipe.convert(GOOD)
    assert one.digest == recipe.convert(dict(reversed(GOOD.items()))).digest
    assert one.digest != recipe.convert({**GOOD, "commands": ["true"]}).digest


@pytest.mark.parametrize(
    "change, says",
    [
        ({"name": "Mine"}, "name: "),
        ({"colour": "red"}, "unknown field `colour`"),
        ({"packages": ["linux-image-amd64", "cloud-init", "-oX=y"]}, "packages[2]: "),
        ({"packages": ["cloud-init"]}, "packages: there is no kernel"),
        ({"packages": ["linux-image-amd64"]}, "packages: cloud-init is missing"),
        ({"repositories": []}, "repositories: "),
        ({"repositories": [{"uri": "ftp://x/y"}]}, "repositories[0].uri: "),
        ({"repositories": [{"uri": "http://x/y [trusted=yes]"}]}, "repositories[0].uri: "),
        ({"repositories": [{"uri": "http://x", "suite": "a b"}]}, "repositories[0].suite: "),
        ({"keyring": "/etc/shadow"}, "keyring: "),
        ({"keyring": "../x.gpg"}, "keyring: "),
        ({"files": [{"path": "etc/x", "content": ""}]}, "files[0].path: "),
        ({"files": [{"path": "/etc/../x", "content": ""}]}, "files[0].path: "),
        ({"files": [{"path": "/x", "content": "", "mode": "999"}]}, "files[0].mode: "),
        ({"users": [{"name": "a;b"}]}, "users[0].name: "),
        ({"users": [{"name": "a", "password": "plain"}]}, "users[0].password: "),
        ({"disk": {"boot": []}}, "disk.boot: "),
        ({"disk": {"boot": ["pxe"]}}, "disk.boot[0]: "),
        ({"disk": {"size_mib": 1}}, "disk.size_mib: "),
        ({"kind": "installer"}, "installer: "),
        ({"installer": {"iso": "/x", "sha256": "0"}}, "installer.sha256: "),
        ({"properties": {"size": "1"}}, "properties.size: "),
        ({"properties": {"stackling_x": "1"}}, "properties.stackling_x: "),
        ({"kind": "micro"}, "packages: "),
    ],
)
def test_a_bad_recipe_is_refused_by_field(change: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidRecipe, match=re.escape(says)):
        recipe.convert({**GOOD, **change})


@pytest.mark.parametrize(
    "text", ["a: [", "- x", "", "name: !!python/object/apply:os.system [id]", "a: &a [*a]"]
)
def test_what_is_no_yaml_or_no_recipe_says_so(text: str) -> None:
    with pytest.raises(InvalidRecipe, match=r"recipe|unknown field"):
        recipe.parse(text)


def test_packages_are_told_as_spdx() -> None:
    packages = [Package("dash", "0.5-1", "amd64", "ab" * 32), Package("bash", "5", "amd64", "cd" * 32)]
    told = sbom(recipe.convert(GOOD), packages)
    assert [p["name"] for p in told["packages"]] == ["dash", "bash"]
    locator = told["packages"][0]["externalRefs"][0]["referenceLocator"]
    assert locator == "pkg:deb/debian/dash@0.5-1?arch=amd64&distro=bookworm"
    assert msgspec.json.encode(told)
    assert packages_digest(packages) != packages_digest(packages[:1])


def test_what_users_and_commands_say_is_never_the_builders_own_shell(tmp_path: Any) -> None:
    """Everything from a recipe is one quoted word of the script that runs it in the image."""
    evil = "'; touch /tmp/pwned; '"
    made = recipe.convert(
        {**GOOD, "commands": [evil], "users": [{"name": "a", "ssh_keys": [evil], "shell": "/bin/$(id)"}]}
    )
    script = debian._customize(made, tmp_path)
    words = (
        [word for line in script.splitlines() for word in shlex.split(line, comments=True)] if script else []
    )
    assert evil in words
    assert "/bin/$(id)" in words
    assert "touch" not in words
