"""`openstack image build …`: images built by the cloud."""

import argparse
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml
from osc_lib import exceptions
from osc_lib.command import command

_BASE = "/builds"
_COLUMNS = ("id", "name", "recipe", "status", "progress", "message", "image_id", "created_at")
_SCHEDULE = ("id", "name", "recipe", "cron", "keep", "enabled", "next_at")
_ENDED = ("succeeded", "failed", "cancelled")
_LOOK_EVERY = 2.0  # seconds


def _ask(cmd: Any, method: str, path: str, **more: Any) -> Any:
    """One request to the image API. Raises CommandError with what the cloud says."""
    accept = {"Accept": "application/json", **more.pop("headers", {})}
    image = cmd.app.client_manager.sdk_connection.image
    answer = image.request(f"/v2{path}" if _unversioned(image) else path, method, headers=accept, **more)
    if answer.status_code >= 400 and answer.status_code != 416:
        try:
            says = answer.json()["message"].replace("<br />", "").strip()
        except (ValueError, KeyError, TypeError):
            says = answer.text
        raise exceptions.CommandError(f"{says} (HTTP {answer.status_code})")
    return answer


def _unversioned(image: Any) -> bool:
    return not str(image.get_endpoint() or "").rstrip("/").endswith("/v2")


def _row(found: dict[str, Any], columns: Sequence[str]) -> list[Any]:
    return ["" if found.get(c) is None else found[c] for c in columns]


def _pairs(found: dict[str, Any]) -> tuple[Sequence[str], Sequence[Any]]:
    told = {k: v for k, v in sorted(found.items()) if k not in ("self", "log", "packages", "recipe_body")}
    return tuple(told), tuple("" if v is None else v for v in told.values())


def _recipe(named: str) -> Any:
    """The content of a recipe's file, or a shipped recipe's name."""
    file = Path(named)
    if not file.is_file():
        return named
    try:
        return yaml.safe_load(file.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as e:
        raise exceptions.CommandError(f"{named} is not YAML: {e}") from None


def _order(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", metavar="<recipe>", help="Name of a shipped recipe, or a recipe's file")
    parser.add_argument("--name", metavar="<name>", help="Name of the image (default: the recipe's)")
    who = parser.add_mutually_exclusive_group()
    for visibility in ("public", "private", "shared", "community"):
        who.add_argument(
            f"--{visibility}",
            dest="visibility",
            action="store_const",
            const=visibility,
            help=f"The image is {visibility}" + (" (default)" if visibility == "private" else ""),
        )
    parser.add_argument(
        "--keep",
        type=int,
        metavar="<number>",
        help="Images of this name to keep; older ones are hidden, then deleted",
    )


def _body(given: argparse.Namespace) -> dict[str, Any]:
    told = {"name": given.name, "visibility": given.visibility, "keep": given.keep}
    return {"recipe": _recipe(given.recipe), **{k: v for k, v in told.items() if v is not None}}


def _all(cmd: Any, key: str, query: dict[str, Any]) -> Iterable[dict[str, Any]]:
    marker: dict[str, Any] = {}
    while True:
        page = _ask(cmd, "GET", f"/{key}", params={"limit": 100, **query, **marker}).json()
        yield from page[key]
        if "next" not in page:
            return
        marker = {"marker": page[key][-1]["id"]}


def _follow(cmd: Any, id: str, *, out: Any) -> dict[str, Any]:
    """Print a build's log until it ends."""
    seen = 0
    while True:
        shown: dict[str, Any] = _ask(cmd, "GET", f"{_BASE}/{id}").json()
        if shown["status"] != "queued":
            new = _log(cmd, id, seen)
            seen += len(new)
            out.write(new.decode(errors="replace"))
            out.flush()
        if shown["status"] in _ENDED:
            return shown
        time.sleep(_LOOK_EVERY)


def _log(cmd: Any, id: str, start: int) -> bytes:
    try:
        answer = _ask(cmd, "GET", f"{_BASE}/{id}/log", headers={"Range": f"bytes={start}-"} if start else {})
    except exceptions.CommandError as e:
        if "HTTP 404" in str(e) and "no log yet" in str(e):
            return b""
        raise
    return b"" if answer.status_code == 416 else bytes(answer.content)


class CreateBuild(command.ShowOne):
    """Have the cloud build an image"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        _order(parser)
        parser.add_argument("--wait", action="store_true", help="Show the log until the build has ended")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> Any:
        made = _ask(self, "POST", _BASE, json=_body(parsed_args)).json()
        if parsed_args.wait:
            made = _follow(self, made["id"], out=sys.stderr)
            if made["status"] != "succeeded":
                raise exceptions.CommandError(f"Build {made['id']} {made['status']}: {made['message']}")
        return _pairs(made)


class ListBuild(command.Lister):
    """List builds of images"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("--status", metavar="<status>", help="Only builds of this status")
        parser.add_argument("--name", metavar="<name>", help="Only builds of images of this name")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> Any:
        given = {"status": parsed_args.status, "name": parsed_args.name}
        found = _all(self, "builds", {k: v for k, v in given.items() if v})
        return _COLUMNS, (_row(build, _COLUMNS) for build in found)


class _OfOne(command.Command):
    """A command about one build or more."""

    many = False
    what = "build"

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "ids" if self.many else "id",
            metavar=f"<{self.what}>",
            nargs="+" if self.many else None,
            help=f"ID of the {self.what}",
        )
        return parser


class ShowBuild(_OfOne, command.ShowOne):
    """Show a build"""

    def take_action(self, parsed_args: argparse.Namespace) -> Any:
        return _pairs(_ask(self, "GET", f"{_BASE}/{parsed_args.id}").json())


class DeleteBuild(_OfOne):
    """Delete builds that have ended; their images stay"""

    many = True

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        for id in parsed_args.ids:
            _ask(self, "DELETE", f"{_BASE}/{id}")


class CancelBuild(_OfOne):
    """Cancel a build"""

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        _ask(self, "POST", f"{_BASE}/{parsed_args.id}/actions/cancel")


class ShowLog(_OfOne):
    """Print the log of a build"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("--follow", action="store_true", help="Go on until the build has ended")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        if parsed_args.follow:
            _follow(self, parsed_args.id, out=self.app.stdout)
        else:
            self.app.stdout.write(_log(self, parsed_args.id, 0).decode(errors="replace"))


class ListPackage(_OfOne, command.Lister):
    """List the packages of a built image"""

    def take_action(self, parsed_args: argparse.Namespace) -> Any:
        told = _ask(self, "GET", f"{_BASE}/{parsed_args.id}/packages").json()
        rows = ((p["name"], p["versionInfo"], p["checksums"][0]["checksumValue"]) for p in told["packages"])
        return ("name", "version", "sha256"), rows


class ListRecipe(command.Lister):
    """List the recipes that come with the cloud"""

    def take_action(self, parsed_args: argparse.Namespace) -> Any:
        found = _ask(self, "GET", "/build_recipes").json()["build_recipes"]
        return ("name", "about", "kind"), (_row(r, ("name", "about", "kind")) for r in found)


class ShowRecipe(command.Command):
    """Print a recipe, to begin one of your own with"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("name", metavar="<recipe>", help="Name of the recipe")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        found = _ask(self, "GET", f"/build_recipes/{parsed_args.name}").json()
        self.app.stdout.write(yaml.safe_dump(found, sort_keys=False))


class CreateSchedule(command.ShowOne):
    """Have an image built again and again"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        _order(parser)
        parser.add_argument("--cron", metavar="<cron>", required=True, help="When, as in 30 3 * * 0 (UTC)")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> Any:
        body = {**_body(parsed_args), "cron": parsed_args.cron}
        return _pairs(_ask(self, "POST", "/build_schedules", json=body).json())


class ListSchedule(command.Lister):
    """List schedules of builds"""

    def take_action(self, parsed_args: argparse.Namespace) -> Any:
        return _SCHEDULE, (_row(found, _SCHEDULE) for found in _all(self, "build_schedules", {}))


class ShowSchedule(_OfOne, command.ShowOne):
    """Show a schedule of builds"""

    what = "schedule"

    def take_action(self, parsed_args: argparse.Namespace) -> Any:
        return _pairs(_ask(self, "GET", f"/build_schedules/{parsed_args.id}").json())


class SetSchedule(_OfOne):
    """Change a schedule of builds"""

    what = "schedule"

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("--cron", metavar="<cron>", help="When, as in 30 3 * * 0 (UTC)")
        parser.add_argument("--keep", type=int, metavar="<number>", help="Images to keep")
        on = parser.add_mutually_exclusive_group()
        on.add_argument("--enable", dest="enabled", action="store_true", default=None, help="Switch it on")
        on.add_argument("--disable", dest="enabled", action="store_false", default=None, help="Switch it off")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        given = {"cron": parsed_args.cron, "keep": parsed_args.keep, "enabled": parsed_args.enabled}
        body = {k: v for k, v in given.items() if v is not None}
        _ask(self, "PATCH", f"/build_schedules/{parsed_args.id}", json=body)


class DeleteSchedule(_OfOne):
    """Delete schedules of builds; what they built stays"""

    many, what = True, "schedule"

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        for id in parsed_args.ids:
            _ask(self, "DELETE", f"/build_schedules/{id}")
