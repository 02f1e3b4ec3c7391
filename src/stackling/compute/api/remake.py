"""The actions rebuild and rescue: bodies at each microversion, turned into what is wanted."""

import secrets
import string
from typing import Annotated, Any, Literal

from falcon import Request, Response
from msgspec import UNSET, Meta, field

from stackling.base.cloud import Cloud
from stackling.base.errors import BadRequest
from stackling.base.microversion import Body, until
from stackling.base.microversion import since as from_version
from stackling.base.rest import caller, convert, version
from stackling.compute.actions import remake as actions
from stackling.compute.api.body import (
    Flag,
    Hostname,
    Id,
    Items,
    Name,
    Unset,
    address_of,
    flag,
    name_of,
    or_none,
    present,
    user_data_of,
)
from stackling.compute.api.server_view import Views
from stackling.compute.api.version import since

Text = Annotated[str, Meta(max_length=255)]


class RebuildServer(Body, kw_only=True):
    image_ref: str = field(name="imageRef")
    name: Name | Unset = UNSET
    admin_pass: Text | Unset = field(name="adminPass", default=UNSET)
    metadata: Items | Unset = UNSET
    preserve_ephemeral: Flag | Unset = UNSET
    disk_config: Literal["AUTO", "MANUAL"] | Unset = field(name="OS-DCF:diskConfig", default=UNSET)
    access_ip_v4: str | Unset = field(name="accessIPv4", default=UNSET)
    access_ip_v6: str | Unset = field(name="accessIPv6", default=UNSET)
    personality: Annotated[list[dict[str, Any]] | Unset, until("2.56")] = UNSET
    description: Annotated[Text | Unset | None, from_version("2.19")] = UNSET
    key_name: Annotated[Name | Unset | None, from_version("2.54")] = UNSET
    user_data: Annotated[str | Unset | None, from_version("2.57")] = UNSET
    trusted_image_certificates: Annotated[list[Name] | Unset | None, from_version("2.63")] = UNSET
    hostname: Annotated[Hostname | Unset, from_version("2.90")] = UNSET


class RescueServer(Body, kw_only=True):
    admin_pass: Text | Unset = field(name="adminPass", default=UNSET)
    rescue_image_ref: Id | Unset = UNSET


def rebuild(req: Request, resp: Response, cloud: Cloud, id: str, value: Any) -> None:
    """Handle the action; the answer is the server with a password."""
    sent = convert(value, RebuildServer, version=version(req))
    if present(sent.personality) and sent.personality:
        raise BadRequest("Personality files are not supported: pass what the guest needs in user_data.")
    if flag(sent.preserve_ephemeral, "preserve_ephemeral"):
        raise BadRequest("Preserving the ephemeral disk is not supported: the disks are made anew.")
    password = or_none(sent.admin_pass) or new_password()
    want = actions.Rebuild(
        image_id=_image_id(sent.image_ref),
        columns=_columns(sent),
        meta=or_none(sent.metadata),
        key_name="" if sent.key_name is UNSET else sent.key_name,
        admin_pass=password,
        trusted_certs=or_none(sent.trusted_image_certificates),
    )
    views = Views(req, cloud)
    with cloud.db.begin() as tx:
        row = actions.rebuild(tx, cloud, caller(req), id, want)
        shown = views.details(tx, [row], one=True, whole=since(req, "2.75"))[0]
    if since(req, "2.54"):
        shown["key_name"] = row.key_name
    if since(req, "2.57"):
        shown["user_data"] = row.user_data
        shown.pop("OS-EXT-SRV-ATTR:user_data", None)
    if not since(req, "2.75"):  # this answer had the bare addresses until then
        bare = {n: [{k: a[k] for k in ("version", "addr")} for a in v] for n, v in shown["addresses"].items()}
        shown["addresses"] = bare
    resp.media = {"server": {**shown, "adminPass": password}}
    resp.set_header("Location", shown["links"][0]["href"])


def _image_id(ref: str) -> str:
    id = ref.rstrip("/").rpartition("/")[2]
    if len(id) not in (32, 36) or not all(ch in "0123456789abcdefABCDEF-" for ch in id):
        raise BadRequest(f"Invalid imageRef provided: {ref[:64]}")
    return id


def _columns(sent: Any) -> dict[str, Any]:
    made: dict[str, Any] = {}
    if present(sent.name):
        made["name"] = name_of(sent.name)
    for number, attribute in ((4, "access_ip_v4"), (6, "access_ip_v6")):
        if (value := getattr(sent, attribute)) is not UNSET:
            made[attribute] = address_of(value, number, f"accessIPv{number}")
    for attribute in ("disk_config", "description", "hostname"):
        if (value := getattr(sent, attribute)) is not UNSET:
            made[attribute] = value
    if sent.user_data is not UNSET:
        made["user_data"] = user_data_of(sent.user_data)
    return made


def rescue(req: Request, resp: Response, cloud: Cloud, id: str, value: Any) -> None:
    """Handle the action; the answer is a password."""
    sent = convert(value if value is not None else {}, RescueServer)
    password = or_none(sent.admin_pass) or new_password()
    with cloud.db.begin() as tx:
        actions.rescue(
            tx,
            cloud,
            caller(req),
            id,
            or_none(sent.rescue_image_ref),
            password,
            from_volume=since(req, "2.87"),
        )
    resp.media = {"adminPass": password}
    resp.status = 200


def new_password() -> str:
    """Twelve letters and digits."""
    return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(12))
