"""POST /servers/{id}/action: one body key, one verb."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from falcon import Request, Response
from msgspec import UNSET, Meta, Struct

from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Tx
from stackling.base.errors import BadRequest, Unsupported
from stackling.base.microversion import Body, Version, until, wire
from stackling.base.microversion import since as from_version
from stackling.base.rest import base_url, caller, convert, json_body, version
from stackling.compute.actions import interface, server_image, shelf
from stackling.compute.actions import remake as remakes
from stackling.compute.actions import server as actions
from stackling.compute.api import floating_ip, remake
from stackling.compute.api.body import Items, Name, Unset, Whole, first, name_of, or_none, present, whole
from stackling.compute.api.host_fact import asking
from stackling.compute.api.version import only, since

Act = Callable[[Request, Response, Cloud, str, Any], None]


class Reboot(Body, kw_only=True):
    type: Literal["HARD", "Hard", "hard", "SOFT", "Soft", "soft"]


class ResetState(Body, kw_only=True):
    state: Literal["active", "error"]


class Lock(Body, kw_only=True):
    locked_reason: Annotated[str, Meta(min_length=1, max_length=255)] | Unset = UNSET


class CreateImage(Body, kw_only=True):
    name: Name
    metadata: Items | Unset = UNSET


class CreateBackup(Body, kw_only=True):
    name: Name
    backup_type: Annotated[str, Meta(max_length=255)]
    rotation: Whole
    metadata: Items | Unset = UNSET


class Unshelve(Body, kw_only=True):
    zone_early: Annotated[Name, until("2.90"), wire("availability_zone")]
    availability_zone: Annotated[Name | Unset | None, from_version("2.91")] = UNSET
    host: Annotated[Name | Unset, from_version("2.91")] = UNSET


class GroupName(Body, kw_only=True):
    name: Name


class ConsoleOutput(Body, kw_only=True):
    length: Whole | Unset | None = UNSET


class FixedIp(Body, kw_only=True):
    networkId: Annotated[str, Meta(min_length=1, max_length=255)] | int


class Address(Body, kw_only=True):
    address: Annotated[str, Meta(min_length=1, max_length=64)]


def _simple(act: Callable[[Tx, Cloud, Caller, str], None]) -> Act:
    """The handler of an action without arguments."""

    def handle(req: Request, resp: Response, cloud: Cloud, id: str, value: Any) -> None:
        with cloud.db.begin() as tx:
            act(tx, cloud, caller(req), id)

    return handle


def _reboot(req: Request, resp: Response, cloud: Cloud, id: str, value: Any) -> None:
    want = convert(value, Reboot)
    with cloud.db.begin() as tx:
        actions.reboot(tx, cloud, caller(req), id, hard=want.type.upper() == "HARD")


def _force_delete(req: Request, resp: Response, cloud: Cloud, id: str, value: Any) -> None:
    with cloud.db.begin() as tx:
        actions.delete(tx, cloud, caller(req), id, "os_compute_api:os-deferred-delete:force")


def _restore(req: Request, resp: Response, cloud: Cloud, id: str, value: Any) -> None:
    with cloud.db.read() as tx:
        row = actions.get(tx, caller(req), id, "os_compute_api:os-deferred-delete:restore")
        actions.require(row, "restore", "soft-delete")


def _lock(req: Request, resp: Response, cloud: Cloud, id: str, value: Any) -> None:
    reason = None
    if since(req, "2.73") and value is not None:
        reason = or_none(convert(value, Lock).locked_reason)
    with cloud.db.begin() as tx:
        actions.lock(tx, cloud, caller(req), id, reason)


def _reset_state(req: Request, resp: Response, cloud: Cloud, id: str, value: Any) -> None:
    caller(req).may("os_compute_api:os-admin-actions:reset_state")
    want = convert(value, ResetState)
    with cloud.db.begin() as tx:
        actions.reset_state(tx, cloud, caller(req), id, want.state)


def _inject_network_info(req: Request, resp: Response, cloud: Cloud, id: str, value: Any) -> None:
    with cloud.db.begin() as tx:
        row = actions.unlocked(tx, caller(req), id, "os_compute_api:os-admin-actions:inject_network_info")
        actions.require(row, "inject_network_info", "active")
        actions.look_again(
            tx, cloud, row.id
        )  # a guest gets its addresses by DHCP; what its ports are is looked at anew


def _add_group(req: Request, resp: Response, cloud: Cloud, id: str, value: Any) -> None:
    want = convert(value, GroupName)
    with cloud.db.begin() as tx:
        interface.add_group(tx, cloud, caller(req), id, want.name)


def _remove_group(req: Request, resp: Response, cloud: Cloud, id: str, value: Any) -> None:
    want = convert(value, GroupName)
    with cloud.db.begin() as tx:
        interface.remove_group(tx, cloud, caller(req), id, want.name)


def _add_fixed_ip(req: Request, resp: Response, cloud: Cloud, id: str, value: Any) -> None:
    want = convert(value, FixedIp)
    with cloud.db.begin() as tx:
        interface.add_fixed_ip(tx, cloud, caller(req), id, str(want.networkId))


def _remove_fixed_ip(req: Request, resp: Response, cloud: Cloud, id: str, value: Any) -> None:
    want = convert(value, Address)
    with cloud.db.begin() as tx:
        interface.remove_fixed_ip(tx, cloud, caller(req), id, want.address)


def _console_output(req: Request, resp: Response, cloud: Cloud, id: str, value: Any) -> None:
    want = convert(value if value is not None else {}, ConsoleOutput)
    lines = int(first(want.length)) if present(want.length) else None
    if lines is not None and lines < -1:
        raise BadRequest("Invalid input for field/attribute length: it is -1 or more")
    with cloud.db.read() as tx:
        row = actions.get(tx, caller(req), id, "os_compute_api:os-console-output")
    with asking(cloud, row, "console log") as host:
        text = host.console_log(row.id, None if lines == -1 else lines)
    # What XML (and some terminals) can't show is left out, as upstream does.
    resp.media = {"output": "".join(ch for ch in text if ch in "\t\n\r" or ch >= " ")}
    resp.status = 200


def _create_image(req: Request, resp: Response, cloud: Cloud, id: str, value: Any) -> None:
    want = convert(value, CreateImage)
    with cloud.db.begin() as tx:
        image_id = server_image.create(
            tx, cloud, caller(req), id, name_of(want.name), first(want.metadata) or {}
        )
    _made(req, resp, cloud, image_id)


def _made(req: Request, resp: Response, cloud: Cloud, image_id: str) -> None:
    if since(req, "2.45"):
        resp.media = {"image_id": image_id}
    else:
        resp.set_header("Location", f"{base_url(req, cloud)}/image/v2/images/{image_id}")


def _create_backup(req: Request, resp: Response, cloud: Cloud, id: str, value: Any) -> None:
    want = convert(value, CreateBackup)
    backup = server_image.Backup(
        name=name_of(want.name),
        kind=want.backup_type,
        rotation=whole(want.rotation, "rotation"),
        metadata=first(want.metadata) or {},
    )
    with cloud.db.begin() as tx:
        image_id = server_image.back_up(tx, cloud, caller(req), id, backup)
    _made(req, resp, cloud, image_id)


def _unshelve(req: Request, resp: Response, cloud: Cloud, id: str, value: Any) -> None:
    want = shelf.Unshelve()
    if value is not None and since(req, "2.77"):
        sent = convert(value, Unshelve, version=version(req))
        given = [z for z in (sent.zone_early, sent.availability_zone) if z is not UNSET]
        want = shelf.Unshelve(keep_zone=not given, zone=first(*given), host=or_none(sent.host))
    with cloud.db.begin() as tx:
        shelf.unshelve(tx, cloud, caller(req), id, want)


class Verb(Struct, frozen=True):
    """An action, the rule that guards it, and the microversions that have it."""

    act: Act | None  # None: the API knows it, this cloud does not offer it yet
    rule: str
    first: str | None = None
    last: str | None = None
    states: tuple[
        str, ...
    ] = ()  # vm_states that it needs, where it is not offered; none of this cloud's servers gets into some


def _r(name: str) -> str:
    return f"os_compute_api:{name}"


VERBS: dict[str, Verb] = {
    "os-start": Verb(_simple(actions.start), _r("servers:start")),
    "os-stop": Verb(_simple(actions.stop), _r("servers:stop")),
    "reboot": Verb(_reboot, _r("servers:reboot")),
    "forceDelete": Verb(_force_delete, _r("os-deferred-delete:force")),
    "restore": Verb(_restore, _r("os-deferred-delete:restore")),
    "lock": Verb(_lock, _r("os-lock-server:lock")),
    "unlock": Verb(_simple(actions.unlock), _r("os-lock-server:unlock")),
    "os-resetState": Verb(_reset_state, _r("os-admin-actions:reset_state")),
    "addSecurityGroup": Verb(_add_group, _r("os-security-groups:add")),
    "removeSecurityGroup": Verb(_remove_group, _r("os-security-groups:remove")),
    "addFixedIp": Verb(_add_fixed_ip, _r("os-multinic:add"), last="2.43"),
    "removeFixedIp": Verb(_remove_fixed_ip, _r("os-multinic:remove"), last="2.43"),
    "addFloatingIp": Verb(floating_ip.add, _r("os-floating-ips:add"), last="2.43"),
    "removeFloatingIp": Verb(floating_ip.remove, _r("os-floating-ips:remove"), last="2.43"),
    "os-getConsoleOutput": Verb(_console_output, _r("os-console-output")),
    "changePassword": Verb(None, _r("os-admin-password")),
    "confirmResize": Verb(None, _r("servers:confirm_resize"), states=("resized",)),
    "createBackup": Verb(_create_backup, _r("os-create-backup")),
    "createImage": Verb(_create_image, _r("servers:create_image")),
    "evacuate": Verb(None, _r("os-evacuate"), states=("active", "stopped", "error")),
    "injectNetworkInfo": Verb(_inject_network_info, _r("os-admin-actions:inject_network_info")),
    "migrate": Verb(None, _r("os-migrate-server:migrate"), states=("active", "stopped")),
    "os-getSPICEConsole": Verb(None, _r("os-remote-consoles"), last="2.5"),
    "os-getSerialConsole": Verb(None, _r("os-remote-consoles"), last="2.5"),
    "os-getVNCConsole": Verb(None, _r("os-remote-consoles"), last="2.5"),
    "os-migrateLive": Verb(None, _r("os-migrate-server:migrate_live"), states=("active", "paused")),
    "pause": Verb(_simple(actions.pause), _r("os-pause-server:pause")),
    "rebuild": Verb(remake.rebuild, _r("servers:rebuild")),
    "rescue": Verb(remake.rescue, _r("os-rescue")),
    "resize": Verb(None, _r("servers:resize"), states=("active", "stopped")),
    "resume": Verb(_simple(actions.resume), _r("os-suspend-server:resume")),
    "revertResize": Verb(None, _r("servers:revert_resize"), states=("resized",)),
    "shelve": Verb(_simple(shelf.shelve), _r("os-shelve:shelve")),
    "shelveOffload": Verb(_simple(shelf.offload), _r("os-shelve:shelve_offload")),
    "suspend": Verb(_simple(actions.suspend), _r("os-suspend-server:suspend")),
    "trigger_crash_dump": Verb(None, _r("servers:trigger_crash_dump"), first="2.17"),
    "unpause": Verb(_simple(actions.unpause), _r("os-pause-server:unpause")),
    "unrescue": Verb(_simple(remakes.unrescue), _r("os-unrescue")),
    "unshelve": Verb(_unshelve, _r("os-shelve:unshelve")),
}


class Action:
    """/servers/{server_id}/action"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_post(self, req: Request, resp: Response, server_id: str) -> None:
        given = json_body(req)
        if not isinstance(given, dict) or len(given) != 1:
            raise BadRequest("Malformed request body: an action is an object with one key")
        name, value = next(iter(given.items()))
        verb = VERBS.get(name)
        if verb is None or (verb.first and version(req) < Version.parse(verb.first)):
            raise BadRequest(f"There is no such action: {str(name)[:64]}")
        only(req, last=verb.last)
        resp.status = 202
        if verb.act is not None:
            verb.act(req, resp, self.cloud, server_id, value)
            return
        with self.cloud.db.read() as tx:
            row = actions.unlocked(tx, caller(req), server_id, verb.rule)
            if verb.states:
                actions.require(row, name, *verb.states)
        raise Unsupported(f"This cloud does not offer '{name}' yet; server {row.id} is unchanged.")


class RemoteConsoles:
    """/servers/{server_id}/remote-consoles"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_post(self, req: Request, resp: Response, server_id: str) -> None:
        only(req, first="2.6")
        given = json_body(req)
        wanted = given.get("remote_console") if isinstance(given, dict) else None
        kinds = {
            "vnc": ("novnc", "xvpvnc"),
            "spice": ("spice-html5",),
            "rdp": ("rdp-html5",),
            "serial": ("serial",),
        }
        if since(req, "2.8"):
            kinds["mks"] = ("webmks",)
        if (
            not isinstance(wanted, dict)
            or set(wanted) != {"protocol", "type"}
            or wanted["type"] not in kinds.get(str(wanted["protocol"]), ())
        ):
            raise BadRequest(
                "Invalid input for field/attribute remote_console: it has a protocol and a type that go together"
            )
        with self.cloud.db.read() as tx:
            actions.get(tx, caller(req), server_id, "os_compute_api:os-remote-consoles")
        raise BadRequest(f"Unavailable console type {wanted['type']}.")
