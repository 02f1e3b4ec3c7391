"""`stackling image`: building images, and making existing ones cloud-aware."""

import sys
import time
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from stackling.cli.client import Administrator
from stackling.cli.setting import Setting, Trouble, show

app = App(name="image", help="Build images, and make existing ones cloud-aware.")
_LOOK_EVERY = 1.0  # seconds

Output = Annotated[
    Path | None,
    Parameter(name="--output", help="Write the image to this file; the cloud need not run. Needs root."),
]


@app.command(name="recipes")
def listed(*, json: Annotated[bool, Parameter(negative=())] = False) -> int:
    """List the recipes that come with Stackling."""
    from stackling.image.builder import recipe

    known = recipe.shipped().values()
    if json:
        show([recipe.plain(one) for one in known])
        return 0
    for one in known:
        print(f"{one.name:<14} {one.about}")
    return 0


@app.command
def build(
    recipe: Annotated[str, Parameter(help="A shipped recipe's name, or a file.")],
    *,
    name: Annotated[str | None, Parameter(help="Name of the image; default: the recipe's.")] = None,
    visibility: Annotated[
        Literal["public", "private", "shared", "community"], Parameter(help="Who sees it.")
    ] = "public",
    keep: Annotated[
        int | None, Parameter(help="Images of this name to keep: older ones are hidden, then deleted.")
    ] = None,
    output: Output = None,
    setting: Setting | None = None,
) -> int:
    """Build an image, boot it as a test, and put it into the cloud's image service. Shows the log while it grows."""
    wanted = _recipe(recipe)
    if output is not None:
        return _build_here(wanted, output, setting or Setting())
    from stackling.image.builder import recipe as recipes

    cloud = Administrator(setting or Setting())
    order = {
        "recipe": recipe if recipe in recipes.shipped() else recipes.plain(wanted),
        "visibility": visibility,
        **({"name": name} if name else {}),
        **({"keep": keep} if keep else {}),
    }
    made = cloud.ask("POST", "/image/v2/builds", order)
    try:
        ended = _follow(cloud, made["id"])
    except KeyboardInterrupt:
        print(
            f"\nThe build goes on; cancel it with: openstack image build cancel {made['id']}", file=sys.stderr
        )
        raise
    if ended["status"] != "succeeded":
        raise Trouble(f"build {made['id']} {ended['status']}: {ended['message'] or 'somebody cancelled it'}")
    print(f"image {ended['image_id']} ({ended['name']})")
    return 0


def _recipe(named: str) -> Any:
    from stackling.image.builder import recipe

    try:
        known = recipe.shipped()
        if named in known:
            return known[named]
        return recipe.parse(Path(named).read_text())
    except recipe.InvalidRecipe as e:
        raise Trouble(f"{named}: {e}") from None
    except (OSError, UnicodeDecodeError):
        raise Trouble(f"{named} is neither a file nor one of: {', '.join(known)}") from None


def _follow(cloud: Administrator, id: str) -> dict[str, Any]:
    """Print the log of a build until it ends."""
    seen, says = 0, ""
    while True:
        shown: dict[str, Any] = cloud.ask("GET", f"/image/v2/builds/{id}")
        new = cloud.tail(f"/image/v2/builds/{id}/log", seen)
        seen += len(new)
        sys.stdout.write(new.decode(errors="replace"))
        if shown["message"] != says and sys.stdout.isatty():
            says = shown["message"]
            print(f"--- {shown['progress']} %: {says}")
        sys.stdout.flush()
        if shown["status"] in ("succeeded", "failed", "cancelled"):
            return shown
        time.sleep(_LOOK_EVERY)


def _work(setting: Setting, directory: Path) -> tuple[Any, str]:
    """A build outside the cloud: what it works on, and how it boots."""
    from stackling.image.builder.work import Work
    from stackling.node import kvm

    config = setting.config
    work = Work(
        directory,
        cache=Path(config.paths.state_dir) / "builds" / "cache",
        hide=[Path(config.paths.state_dir), Path(config.paths.config_dir), Path(config.paths.log_dir)],
        mirrors=config.image.build_mirrors,
        keyring=Path(config.image.build_keyring) if config.image.build_keyring else None,
        heard=lambda percent, says: print(f"{percent:3} % {says}", flush=True),
    )
    usable = kvm.probe(Path(config.paths.run_dir) / "kvm.json").usable and config.node.accel != "tcg"
    return work, "kvm" if usable else "tcg"


def _build_here(recipe: Any, output: Path, setting: Setting) -> int:
    from stackling.image.builder import BuildError, line

    work, accel = _work(setting, output.absolute().with_name(f"{output.name}.build"))
    try:
        built = line.build(recipe, work, accel=accel)
    except (BuildError, OSError) as e:
        raise Trouble(f"{e}; the log is {work.log}") from None
    built.path.replace(output)
    print(f"{output}: {built.size >> 20} MiB; log and packages are in {work.directory}")
    return 0


@app.command
def cloudify(
    image: Annotated[str, Parameter(help="A disk image file, or an image of the cloud by name or id.")],
    *,
    name: Annotated[
        str | None, Parameter(help="Name of the new image; default: the old one's and -cloud.")
    ] = None,
    login: Annotated[
        str, Parameter(help="Who gets the cloud's ssh keys, besides root. Made where there is no such user.")
    ] = "root",
    test: Annotated[bool, Parameter(help="Boot the result as a test.")] = True,
    output: Output = None,
    setting: Setting | None = None,
) -> int:
    """Make an existing image cloud-aware, offline: its own cloud-init if it has one that is new enough, else our agent.

    What is changed is a copy. It happens in a virtual machine, so neither its file system nor its programs touch the host.
    """
    from stackling.image.builder import BuildError
    from stackling.image.builder import cloudify as cloudifying

    chosen = setting or Setting()
    source = Path(image)
    cloud = None
    if not source.is_file() or output is None:
        cloud = Administrator(chosen)
    place = Path(chosen.config.paths.state_dir) / "builds" / "cloudify"
    work, accel = _work(chosen, place)
    work.directory.mkdir(parents=True, exist_ok=True)
    fetched = work.directory / "source"
    try:
        if cloud is not None and not source.is_file():
            known = _find(cloud, image)
            name = name or f"{known['name']}-cloud"
            cloud.download(f"/image/v2/images/{known['id']}/file", fetched)
            source = fetched
        made = cloudifying.cloudify(source, work, login=login, accel=accel, test=test)
        if output is not None:
            made.replace(output)
            print(f"{output}: {output.stat().st_size >> 20} MiB")
            return 0
        assert cloud is not None
        registered = cloud.ask(
            "POST",
            "/image/v2/images",
            {"name": name or f"{source.stem}-cloud", "disk_format": "qcow2", "container_format": "bare"},
        )
        cloud.upload(f"/image/v2/images/{registered['id']}/file", made)
        print(f"image {registered['id']} ({registered['name']})")
        return 0
    except (BuildError, OSError) as e:
        raise Trouble(f"{e}; the log is {work.log}") from None
    finally:
        fetched.unlink(missing_ok=True)
        (work.directory / "image.qcow2").unlink(missing_ok=True)


def _find(cloud: Administrator, named: str) -> dict[str, Any]:
    from urllib.parse import quote

    from stackling.base import ids

    if ids.is_uuid(named):
        found: dict[str, Any] = cloud.ask("GET", f"/image/v2/images/{named}")
        return found
    images = cloud.ask("GET", f"/image/v2/images?name={quote(named)}")["images"]
    if len(images) != 1:
        raise Trouble(f"{named} is no file, and {len(images)} images have this name")
    return dict(images[0])
