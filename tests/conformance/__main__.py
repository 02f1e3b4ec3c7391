"""Run Tempest against a running cloud.

    python -m tests.conformance smoke                    upstream's smoke tests of the areas that are served
    python -m tests.conformance identity                 all of an area: identity, image, object, network, volume, compute, scenario
    python -m tests.conformance --ids FILE               just these test ids, one a line
    python -m tests.conformance --features FILE …        switch features on or off (INI, read over features.ini)

The cloud is the one that `stackling env` names, or any other through OS_* variables. Everything only a cloud knows (ids
of image, flavors and networks, microversions) is looked up. What tests want from the web is served on 127.0.0.1, from
where the cloud fetches it when `[image] web_download_allow` names that address. Ends with the counts and the ids that failed; exit status
0 only when none failed.
"""

import argparse
import configparser
import csv
import functools
import http.server
import os
import re
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import openstack

from tests.conformance import formats

HERE = Path(__file__).parent
AREAS = {
    "identity": r"tempest\.api\.identity",
    "image": r"tempest\.api\.image",
    "object": r"tempest\.api\.object_storage",
    "network": r"tempest\.api\.network",
    "volume": r"tempest\.api\.volume",
    "compute": r"tempest\.api\.compute",
    "scenario": r"tempest\.scenario",
    "smoke": r"tempest\.(api\.(identity|image|object_storage|network|volume|compute)|scenario).*\[.*\bsmoke\b",
}


def configuration(features: list[Path], work: Path) -> configparser.ConfigParser:
    """The tempest.conf for the cloud that OS_* names."""
    conf = configparser.ConfigParser(interpolation=None)
    conf.read([HERE / "features.ini", *features])

    def put(section: str, **values: Any) -> None:
        if section != "DEFAULT" and not conf.has_section(section):
            conf.add_section(section)
        for name, value in values.items():
            conf.set(section, name, str(value))

    cloud = openstack.connect()
    auth_url = os.environ["OS_AUTH_URL"]
    region = os.environ.get("OS_REGION_NAME", "RegionOne")
    images = [i for i in cloud.image.images(status="active") if i.disk_format == "qcow2"]
    if not images:
        sys.exit("conformance: the cloud has no active qcow2 image yet")
    image = images[0]
    file = _image_file(cloud, image, work)
    other = images[1] if len(images) > 1 else _another(cloud, image, file)
    flavors = sorted(cloud.compute.flavors(), key=lambda f: (f.ram, f.disk))
    fitting = [f for f in flavors if f.ram >= max(image.min_ram, 128) and f.disk >= 1]
    external = list(cloud.network.networks(is_router_external=True))
    versions = {s: _versions(cloud, s) for s in ("compute", "block-storage", "placement")}
    put("DEFAULT", log_file="tempest.log", debug="false")
    put("oslo_concurrency", lock_path=work / "lock")
    put("auth", admin_username=os.environ["OS_USERNAME"], admin_password=os.environ["OS_PASSWORD"])
    put(
        "auth",
        admin_project_name=os.environ["OS_PROJECT_NAME"],
        admin_domain_name="Default",
        tempest_roles="member",
    )
    put(
        "identity",
        uri_v3=auth_url,
        uri=auth_url,
        region=region,
        catalog_type="identity",
        default_domain_id="default",
        admin_role="admin",
    )
    put(
        "compute",
        image_ref=image.id,
        image_ref_alt=other.id,
        flavor_ref=fitting[0].id,
        flavor_ref_alt=fitting[1].id,
    )
    put(
        "compute",
        region=region,
        min_compute_nodes=len(list(cloud.compute.hypervisors())),
        fixed_network_name="",
    )
    put("compute", min_microversion=versions["compute"][0], max_microversion=versions["compute"][1])
    put(
        "volume",
        region=region,
        catalog_type="block-storage",
        min_microversion=versions["block-storage"][0],
        max_microversion=versions["block-storage"][1],
    )
    put("volume", storage_protocol="local", vendor_name="Stackling")
    put("volume", volume_type_multiattach=_shared_type(cloud))
    put("placement", min_microversion=versions["placement"][0], max_microversion=versions["placement"][1])
    put("image", region=region)
    put("object-storage", region=region)
    if not conf.has_option("image", "http_image"):
        page = _served(work)
        put("image", http_image=page, http_qcow2_image=page)
    if not conf.has_option("image", "images_manifest_file"):
        put("image", images_manifest_file=formats.manifest(work))
    put("network", region=region, public_network_id=external[0].id, floating_network_name=external[0].name)
    put(
        "validation",
        image_ssh_user="stackling",
        image_alt_ssh_user="stackling",
        image_ssh_password="",
        ssh_shell_prologue="",
    )
    put("scenario", img_file=file, img_disk_format=image.disk_format)
    return conf


def _versions(cloud: Any, service: str) -> tuple[str, str]:
    data = cloud.session.get_endpoint_data(service_type=service, interface="public", discover_versions=True)
    low, high = data.min_microversion, data.max_microversion
    return (".".join(map(str, low)), ".".join(map(str, high))) if low and high else ("None", "None")


def _served(work: Path) -> str:
    """A URL of the image file on this machine; the cloud fetches it if `[image] web_download_allow` names 127.0.0.1."""
    handler = functools.partial(_Quiet, directory=str(work))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}/image.qcow2"


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Not on the terminal."""


def _shared_type(cloud: Any) -> str:
    """The name of a volume type whose volumes several servers may have; made when the cloud has none."""
    shared = {"multiattach": "<is> True"}
    for kind in cloud.block_storage.types():
        if shared.items() <= (kind.extra_specs or {}).items():
            return str(kind.name)
    return str(cloud.block_storage.create_type(name="multiattach", extra_specs=shared).name)


def _image_file(cloud: Any, image: Any, work: Path) -> Path:
    file = work / "image.qcow2"
    with file.open("wb") as out:
        for chunk in cloud.image.download_image(image, stream=True).iter_content(1 << 20):
            out.write(chunk)
    return file


def _another(cloud: Any, image: Any, file: Path) -> Any:
    """The same image again: some tests want two."""
    return cloud.create_image(
        f"{image.name}-again",
        filename=str(file),
        disk_format=image.disk_format,
        visibility="public",
        wait=True,
        min_ram=image.min_ram,
        min_disk=image.min_disk,
    )


def main() -> int:
    words = argparse.ArgumentParser(prog="conformance", description="Run Tempest against a running cloud.")
    words.add_argument("area", nargs="?", choices=sorted(AREAS), help="which tests")
    words.add_argument("--ids", type=Path, help="file with the ids of the tests to run, one a line")
    words.add_argument("--only", help="of those, only ids that match this regular expression")
    words.add_argument(
        "--features",
        type=Path,
        action="append",
        default=[],
        help="INI file of switches, read over features.ini",
    )
    words.add_argument("--concurrency", type=int, default=2, help="tests at once")
    words.add_argument("--keep", type=Path, help="work in this directory and leave it")
    asked = words.parse_args()
    if bool(asked.area) == bool(asked.ids):
        words.error("name an area or --ids FILE")
    if "OS_AUTH_URL" not in os.environ:
        stackling = Path(sys.executable).parent / "stackling"
        printed = subprocess.run(
            [str(stackling), "env", "--format", "json"], capture_output=True, text=True, check=True
        ).stdout
        import json

        os.environ.update(json.loads(printed))
    work = (asked.keep or Path(tempfile.mkdtemp(prefix="stackling-conformance-"))).resolve()
    tempest = Path(sys.executable).parent / "tempest"
    environ = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    if not (work / ".stestr.conf").exists():
        subprocess.run(
            [str(tempest), "init", "--workspace-path", str(work / "workspace.yaml"), str(work)],
            check=True,
            capture_output=True,
            env=environ,
        )
    with (work / "etc" / "tempest.conf").open("w") as out:
        configuration(asked.features, work).write(out)
    known = subprocess.run(
        [str(tempest), "run", "--workspace-path", str(work / "workspace.yaml"), "-l"],
        cwd=work,
        capture_output=True,
        text=True,
        env=environ,
        check=True,
    ).stdout
    ids = wanted(known.split("\n"), asked.area, asked.ids, asked.only)
    (work / "ids").write_text("\n".join(ids) + "\n")
    print(f"{len(ids)} tests, {asked.concurrency} at once, in {work}", flush=True)
    command = [
        str(tempest),
        "run",
        "--workspace-path",
        str(work / "workspace.yaml"),
        "--load-list",
        str(work / "ids"),
        "--concurrency",
        str(asked.concurrency),
    ]
    subprocess.run(command, cwd=work, env=environ, check=False)
    return summary(work, environ)


def wanted(known: list[str], area: str | None, file: Path | None, only: str | None) -> list[str]:
    """The full ids (with their tags) to run."""
    full = [line.strip() for line in known if line.startswith("tempest.")]
    if file:
        named = {line.split("[")[0].strip() for line in file.read_text().splitlines() if line.strip()}
        full = [i for i in full if i.split("[")[0] in named]
    else:
        full = [i for i in full if re.match(AREAS[area or "smoke"], i)]
    return [i for i in full if not only or re.search(only, i)]


def summary(work: Path, environ: dict[str, str]) -> int:
    """Print the ids that failed and were skipped, and the counts."""
    last = subprocess.run(
        ["stestr", "last", "--subunit"], cwd=work, env=environ, capture_output=True, check=False
    ).stdout
    told = subprocess.run(
        ["subunit2csv", "--no-passthrough"], input=last, env=environ, capture_output=True, check=False
    ).stdout.decode()
    outcome: dict[str, set[str]] = {"success": set(), "fail": set(), "skip": set()}
    for row in list(csv.reader(told.splitlines()))[1:]:
        outcome[row[1] if row[1] in outcome else "fail"].add(row[0].split("[")[0])
    outcome["success"] -= outcome["fail"]  # a test of several images counts once
    outcome["skip"] -= outcome["success"] | outcome["fail"]
    ids = {i.split("[")[0] for i in (work / "ids").read_text().split("\n") if i}
    seen = set().union(*outcome.values())
    skipped_classes = tuple(
        i[len("setUpClass (") : -1] for i in outcome["skip"] if i.startswith("setUpClass")
    )
    for id in ids - seen:  # a class whose preparation failed or was skipped tells of itself only
        outcome["skip" if id.rpartition(".")[0] in skipped_classes else "fail"].add(id)
    for status in ("fail", "skip"):
        for id in sorted(outcome[status]):
            print(f"{status}: {id}")
    count = {s: len(outcome[s] & ids) for s in ("success", "fail", "skip")}
    print(f"{count['success']} passed, {count['fail']} failed, {count['skip']} skipped")
    return 0 if count["success"] and not count["fail"] else 1


if __name__ == "__main__":
    sys.exit(main())
