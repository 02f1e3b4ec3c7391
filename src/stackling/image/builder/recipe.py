"""Recipes: what an image is to be, as a small YAML file. `shipped()` are those that come with Stackling (`recipes/`)."""

import functools
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import yaml
from msgspec import Meta, Struct, field

SHIPPED = Path(__file__).parent / "recipes"
MIB = 1 << 20

_Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9.+-]{0,62}$")]
_Line = Annotated[str, Meta(max_length=1024, pattern=r"^[^\n\0]*$")]
_Url = Annotated[str, Meta(pattern=r"^(https?|file|copy)://?[^\s\[\]]+$", max_length=1024)]
_GuestPath = Annotated[str, Meta(pattern=r"^/[^\0\n]*[^/\0\n]$", max_length=1024)]
_User = Annotated[str, Meta(pattern=r"^[a-z_][a-z0-9_-]{0,31}$")]
_Text = Annotated[str, Meta(max_length=65536)]
_Property = Annotated[str, Meta(pattern=r"^[a-z0-9_:.-]{1,255}$")]


class InvalidRecipe(Exception):
    """The recipe can't be used; the sentence names the field and says why."""


class _Part(Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """Base of a recipe's parts."""


class Repository(_Part, frozen=True):
    """A package repository. `{release}` in `suite` is the recipe's release."""

    uri: _Url
    suite: Annotated[str, Meta(pattern=r"^[A-Za-z0-9{}./-]{1,64}$")] = "{release}"
    components: list[_Name] = field(default_factory=lambda: ["main"])


class File(_Part, frozen=True):
    """A file of the image. `mode` is octal as text, `owner` a user's or user:group name."""

    path: _GuestPath
    content: _Text
    mode: Annotated[str, Meta(pattern=r"^[0-7]{3,4}$")] = "0644"
    owner: Annotated[str, Meta(pattern=r"^[a-z_][a-z0-9_-]{0,31}(:[a-z_][a-z0-9_-]{0,31})?$")] = "root"


class User(_Part, frozen=True):
    """A user of the image. `password` is a crypt(3) hash; without one and without keys nobody can log in as it."""

    name: _User
    groups: list[_User] = []
    shell: _GuestPath = "/bin/bash"
    sudo: bool = False
    password: Annotated[str, Meta(pattern=r"^\$[0-9a-z]+\$[^:\n]{8,200}$")] | None = None
    ssh_keys: list[_Line] = []


class Disk(_Part, frozen=True):
    """The disk: GPT, with what each way of booting needs. Sizes in MiB; the root file system is the last partition."""

    size_mib: Annotated[int, Meta(ge=64, le=1 << 20)] | None = None  # None: the content and `spare_mib`
    spare_mib: Annotated[int, Meta(ge=16, le=1 << 20)] = 256
    boot: Annotated[list[Literal["bios", "uefi"]], Meta(min_length=1)] = field(
        default_factory=lambda: ["bios", "uefi"]
    )
    filesystem: Literal["ext4", "ext3"] = "ext4"
    features: list[Annotated[str, Meta(pattern=r"^\^?[a-z0-9_]{1,32}$")]] = []  # as mke2fs -O takes them


class Test(_Part, frozen=True):
    """A command that must succeed in the booted image, run as root; `prints` is part of what it must print."""

    run: _Text
    prints: _Line = ""


class Installer(_Part, frozen=True):
    """An installation medium and the answers to its questions.

    `iso` is an URL or a file of the host; kernel and initial RAM disk are paths in it. With `preseed` the file
    /preseed.cfg is added to the initial RAM disk; with `autoinstall` a second medium labelled CIDATA holds it.
    """

    iso: Annotated[str, Meta(pattern=r"^(https?://|/)[^\s]+$", max_length=1024)]
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
    kernel: _GuestPath
    initrd: _GuestPath
    arguments: _Line = ""
    preseed: _Text | None = None
    autoinstall: _Text | None = None
    memory_mib: Annotated[int, Meta(ge=128, le=1 << 16)] = 1024
    minutes: Annotated[int, Meta(ge=1, le=1440)] = 240


class Recipe(_Part, frozen=True):
    """An image to build."""

    name: _Name
    about: _Line = ""
    kind: Literal["bootstrap", "installer", "micro"] = "bootstrap"
    distribution: Literal["debian", "ubuntu"] = "debian"
    release: _Name = "stable"
    architecture: Literal["amd64"] = "amd64"
    repositories: list[Repository] = []
    keyring: Annotated[str, Meta(pattern=r"^[A-Za-z0-9/._-]{1,255}$")] = (
        "/usr/share/keyrings/debian-archive-keyring.gpg"  # a file of the host, or one that comes with the shipped recipes
    )
    archived: bool = False  # the release is no longer kept: its indexes and keys may have expired
    packages: list[_Name] = []
    without: list[_GuestPath] = []  # files of packages that are left out, with * for any text
    files: list[File] = []
    users: list[User] = []
    commands: list[_Text] = []
    disk: Disk = Disk()
    installer: Installer | None = None
    cloud: Literal["cloud-init", "agent", "none"] = "cloud-init"
    login: _User = "root"  # who gets the cloud's ssh keys
    kernel_arguments: _Line = "console=tty0 console=ttyS0,115200"
    memory_mib: Annotated[int, Meta(ge=64, le=1 << 16)] = 512  # least that it boots in
    boot_seconds: Annotated[int, Meta(ge=10, le=7200)] = 900  # until ssh answers in the test, without KVM
    tests: list[Test] = []
    properties: dict[_Property, _Line] = {}

    @property
    def digest(self) -> str:
        """SHA-256 of everything that the recipe says."""
        return hashlib.sha256(msgspec.json.encode(self, order="deterministic")).hexdigest()


def parse(text: str) -> Recipe:
    """A recipe from YAML. Raises InvalidRecipe naming the field."""
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as e:
        where = getattr(e, "problem_mark", None)
        line = f"line {where.line + 1}: " if where is not None else ""
        raise InvalidRecipe(
            f"recipe: {line}not YAML: {getattr(e, 'problem', None) or type(e).__name__}"
        ) from None
    return convert(value)


def convert(value: Any) -> Recipe:
    """A recipe from plain values. Raises InvalidRecipe naming the field."""
    try:
        made = msgspec.convert(value, Recipe, strict=True)
    except (msgspec.ValidationError, RecursionError) as e:
        what, _, where = str(e).partition(" - at `$.")
        raise InvalidRecipe(f"{where.rstrip('`') or 'recipe'}: {what}") from None
    _check(made)
    return made


def plain(recipe: Recipe) -> dict[str, Any]:
    """A recipe as plain values, without what is the default."""
    told = msgspec.to_builtins(recipe)
    usual = msgspec.to_builtins(Recipe(name=recipe.name))
    return {key: value for key, value in told.items() if key == "name" or value != usual[key]}


def _check(recipe: Recipe) -> None:
    def refuse(where: str, why: str) -> None:
        raise InvalidRecipe(f"{where}: {why}")

    if (recipe.kind == "installer") != (recipe.installer is not None):
        refuse("installer", "needed by a recipe of kind installer, and only there")
    if recipe.kind == "bootstrap" and not recipe.repositories:
        refuse("repositories", "a recipe of kind bootstrap needs at least one")
    if recipe.kind == "bootstrap" and not any(name.startswith("linux-image") for name in recipe.packages):
        refuse("packages", "there is no kernel among them (linux-image-…)")
    if recipe.kind == "bootstrap" and recipe.cloud == "cloud-init" and "cloud-init" not in recipe.packages:
        refuse("packages", "cloud-init is missing, which `cloud` asks for")
    if recipe.kind == "installer" and recipe.disk.size_mib is None:
        refuse("disk.size_mib", "an installer needs to know the size of its disk")
    if recipe.kind != "bootstrap":
        for name in ("packages", "files", "users", "commands", "repositories"):
            if getattr(recipe, name):
                refuse(name, f"a recipe of kind {recipe.kind} can't have any")
    if recipe.installer is not None and recipe.installer.preseed and recipe.installer.autoinstall:
        refuse("installer", "either preseed or autoinstall")
    keys = Path(recipe.keyring)
    if ".." in keys.parts or (keys.is_absolute() and not keys.is_relative_to("/usr/share/keyrings")):
        refuse("keyring", "a file below /usr/share/keyrings, or one that comes with the shipped recipes")
    for number, file in enumerate(recipe.files):
        if ".." in Path(file.path).parts:
            refuse(f"files[{number}].path", "a path without ..")
    for name in recipe.properties:
        if name.startswith(("os_hash", "stackling_", "owner_")) or _RESERVED.fullmatch(name):
            refuse(f"properties.{name}", "this name is the image service's own")


# Names that an image's own attributes have.
_RESERVED = re.compile(
    "id|name|status|visibility|protected|owner|tags|size|virtual_size|checksum|min_disk|min_ram|disk_format"
    "|container_format|created_at|updated_at|file|self|schema|locations|direct_url|stores|os_hidden"
)


@functools.cache
def shipped() -> Mapping[str, Recipe]:
    """The recipes that come with Stackling, by name."""
    return {path.stem: parse(path.read_text()) for path in sorted(SHIPPED.glob("*.yaml"))}


def keyring(recipe: Recipe) -> Path:
    """The file of the keys that the recipe's repositories are signed with."""
    return SHIPPED / recipe.keyring


def fill(text: str, recipe: Recipe) -> str:
    """`text` with the recipe's release in its place."""
    return re.sub(r"\{release\}", recipe.release, text)
