"""The files that a guest finds under /openstack and /latest, by version.

Both doors, the config drive and the metadata service, serve what is made here, so they cannot differ.
The versions and what each added are those of the OpenStack metadata service.
"""

from __future__ import annotations

import base64
import json
import os
from typing import Any

from stackling.compute.driver import GuestData

VERSIONS = (
    "2012-08-10",
    "2013-04-04",
    "2013-10-17",
    "2015-10-15",
    "2016-06-30",
    "2016-10-06",
    "2017-02-22",
    "2018-08-27",
    "2020-10-14",
    "2025-04-04",
    "latest",
)
EC2_VERSIONS = (
    "1.0",
    "2007-01-19",
    "2007-03-01",
    "2007-08-29",
    "2007-10-10",
    "2007-12-15",
    "2008-02-01",
    "2008-09-01",
    "2009-04-04",
    "latest",
)
_FILES_SINCE = {
    "meta_data.json": "2012-08-10",
    "user_data": "2012-08-10",
    "password": "2013-04-04",
    "vendor_data.json": "2013-10-17",
    "network_data.json": "2015-10-15",
    "vendor_data2.json": "2016-10-06",
}
_FIELDS_SINCE = {
    "random_seed": "2013-04-04",
    "project_id": "2015-10-15",
    "devices": "2016-06-30",
    "dedicated_cpus": "2020-10-14",
}
SEED_BYTES = 512


def listing(data: GuestData, version: str) -> list[str]:
    """The files that a version has for this guest."""
    names = [name for name, since in _FILES_SINCE.items() if version >= since]
    return [name for name in names if name != "user_data" or data.user_data is not None]


def document(data: GuestData, version: str, name: str, password: str = "", seed: str = "") -> bytes | None:
    """One file; None when this version has no such file. `seed`: random, base64, made here when empty."""
    if name not in listing(data, version):
        return None
    match name:
        case "meta_data.json":
            meta = {**data.meta_data, "random_seed": seed or random_seed()}
            return _json({key: value for key, value in meta.items() if version >= _FIELDS_SINCE.get(key, "")})
        case "network_data.json":
            return _json(data.network_data)
        case "vendor_data.json":
            return _json(data.vendor_data)
        case "vendor_data2.json":
            return _json(data.vendor_data2)
        case "user_data":
            return data.user_data
        case "password":
            return password.encode()
    return None


def drive_files(data: GuestData) -> dict[str, bytes]:
    """All files of a config drive by path."""
    seed = random_seed()
    files = {}
    for version in VERSIONS:
        for name in listing(data, version):
            content = document(data, version, name, seed=seed)
            if content is not None and name != "password":
                files[f"openstack/{version}/{name}"] = content
    tree = {"meta-data": ec2_tree(data)}
    for version in ("2009-04-04", "latest"):
        files[f"ec2/{version}/meta-data.json"] = _json(tree["meta-data"])
        if data.user_data is not None:
            files[f"ec2/{version}/user-data"] = data.user_data
    return files


def ec2_tree(data: GuestData) -> dict[str, Any]:
    """What is under /latest/meta-data: strings, and dicts for directories."""
    tree = dict(data.ec2)
    tree.setdefault("hostname", str(data.meta_data.get("hostname", "")))
    tree.setdefault("local-hostname", tree["hostname"])
    keys = [key for key in data.meta_data.get("keys", []) if key.get("type") == "ssh"]
    if keys:
        # EC2 numbers keys and shows "0=name" in the listing.
        tree["public-keys"] = {
            f"{place}={key.get('name', '')}": {"openssh-key": str(key.get("data", ""))}
            for place, key in enumerate(keys)
        }
    return tree


def random_seed() -> str:
    """Fresh entropy for a guest that has none of its own."""
    return base64.b64encode(os.urandom(SEED_BYTES)).decode()


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()
