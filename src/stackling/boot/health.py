"""How the cloud is, for its administrator: what `stackling status` and `stackling doctor` ask for over HTTP.

GET  /stackling/v1/status     every part: version, health, address, memory
GET  /stackling/v1/findings   the database compared with libvirt, OVN and the volumes
POST /stackling/v1/findings   the same, and what can be repaired is
"""

import contextlib
import os
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa
from falcon import Request, Response
from msgspec import Struct

from stackling import __version__
from stackling.base import jobs, rest
from stackling.base.cloud import Cloud
from stackling.base.errors import Error, Forbidden
from stackling.boot import schema
from stackling.compute.driver import HostUnavailable, Hypervisor, Power
from stackling.compute.state.host import host as compute_host_table
from stackling.compute.state.server import State as ServerState
from stackling.compute.state.server import server
from stackling.compute.steps import host as compute_host
from stackling.network.driver import Fabric, FabricError
from stackling.network.steps import fabric as network_fabric
from stackling.node.daemon import memory
from stackling.volume.driver import Backend, BackendUnavailable
from stackling.volume.state.volume import State as VolumeState
from stackling.volume.state.volume import volume


class Daemon(Protocol):
    """How one of the host's daemons is, as `node.services` tells it."""

    name: str
    version: str
    pid: int | None
    healthy: bool
    why: str
    memory: int


class Host(Protocol):
    """What runs on this host beside API and worker."""

    daemons: list[Any]
    says: list[str]


class Part(Struct, kw_only=True):
    """One part of the cloud. `memory` is its proportional share, KiB."""

    name: str
    version: str = ""
    healthy: bool = True
    why: str = ""
    address: str = ""
    memory: int = 0


class Finding(Struct, kw_only=True):
    """Something that is not as it should be: what, what to do, and whether that was done now."""

    name: str
    says: str
    do: str
    fixed: bool = False


def parts(cloud: Cloud, host: Host) -> list[Part]:
    """Every part of the cloud as it is now."""
    return [
        _api(cloud),
        _database(cloud),
        _jobs(cloud),
        *_disks(cloud, host),
        *_hypervisors(cloud),
        _fabric(cloud),
        *_daemons(host),
    ]


def _api(cloud: Cloud) -> Part:
    own = sum(memory(pid) for pid in _processes())
    return Part(name="stackling", version=__version__, address=cloud.config.base_url, memory=own)


def _processes() -> list[int]:
    """The cloud's own: the one that watches over the others, and those (proc(5), `children`)."""
    first = os.getppid()
    try:
        children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
    except OSError:  # a kernel without CONFIG_PROC_CHILDREN
        return [first, os.getpid()]
    return [first, *map(int, children)]


def _database(cloud: Cloud) -> Part:
    shown = cloud.db.url.render_as_string(hide_password=True)
    try:
        revision = schema.current(cloud.db)
    except sa.exc.SQLAlchemyError as e:
        return Part(name="database", healthy=False, why=str(e.__cause__ or e), address=shown)
    old = revision != schema.newest()
    return Part(
        name="database",
        version=f"{version('sqlalchemy')}, schema {revision}",
        healthy=not old,
        why="its schema is not this release's" if old else "",
        address=shown,
    )


def _jobs(cloud: Cloud) -> Part:
    now = cloud.clock.now()
    with cloud.db.read() as tx:
        late = tx.execute(
            sa.select(sa.func.min(jobs.job.c.due_at)).where(jobs.job.c.lease.is_(None))
        ).scalar()
        trying = tx.execute(
            sa.select(sa.func.count(), sa.func.min(jobs.job.c.why)).where(
                jobs.job.c.attempts > 5, jobs.job.c.kind.notin_(_PERIODIC)
            )
        ).one()
    behind = (now - late).total_seconds() if late else 0.0
    why = (
        f"the oldest due job waits for {behind:.0f} s"
        if behind > 15
        else f"{trying[0]} {'job is' if trying[0] == 1 else 'jobs are'} being tried again and again: {trying[1]}"
        if trying[0]
        else ""
    )
    return Part(name="worker", version=__version__, healthy=behind <= 15, why=why)


def _disks(cloud: Cloud, host: Host) -> Iterator[Part]:
    """The file system of database, images and disks, and any other that the cloud's work needs and that is full."""
    paths = cloud.config.paths
    policies = [p.directory for p in cloud.config.objectstore.policies if p.directory]
    daemons = _DAEMONS_WRITE if host.daemons else ()
    places = [paths.state_dir, paths.run_dir, paths.log_dir, *policies, *daemons]
    seen = set()
    for place in places:
        with contextlib.suppress(OSError):
            device, found = os.stat(place).st_dev, os.statvfs(place)
            if device in seen:
                continue
            seen.add(device)
            free = found.f_bavail * found.f_frsize >> 20
            full = (
                free < _LEAST and found.f_bavail < found.f_blocks / 2
            )  # some file systems are small by design
            why = (
                f"{place} has {free} MiB left; when it is full work comes to a halt: free space there"
                if full
                else ""
            )
            if full or place == paths.state_dir:
                yield Part(name="disk", healthy=not full, why=why, address=place)


_DAEMONS_WRITE = ("/var/lib/ovn", "/etc/openvswitch", "/var/log")
_LEAST = 128  # MiB
_PERIODIC = ("compute.host", "network.fabric", "volume.backend")


def _hypervisors(cloud: Cloud) -> Iterator[Part]:
    with cloud.db.read() as tx:
        joined = {
            row.hostname: row.why
            for row in tx.execute(sa.select(compute_host_table.c.hostname, compute_host_table.c.why))
        }
    for name in cloud.hosts(Hypervisor):
        try:
            if joined.get(name, "it has not joined the cloud yet"):
                yield Part(
                    name=f"host {name}",
                    healthy=False,
                    why=joined.get(name, "it has not joined the cloud yet"),
                )
                continue
            info = cloud.driver(Hypervisor, name).info()
            number = info.hypervisor_version
            release = f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"
            yield Part(
                name=f"host {name}",
                version=f"{info.hypervisor_type} {release}",
                why=info.accel_reason and f"guests are emulated: {info.accel_reason}",
            )
        except (HostUnavailable, Error) as e:
            yield Part(name=f"host {name}", healthy=False, why=str(e))


def _fabric(cloud: Cloud) -> Part:
    health = cloud.driver(Fabric).check()
    return Part(
        name="network",
        healthy=health.ok,
        why=health.reason,
        address=", ".join(c.hostname for c in health.chassis),
    )


def _daemons(host: Host) -> Iterator[Part]:
    for daemon in host.daemons:
        address = f"pid {daemon.pid}" if daemon.pid else ""
        yield Part(
            name=daemon.name,
            version=daemon.version,
            healthy=daemon.healthy,
            why=daemon.why,
            address=address,
            memory=daemon.memory,
        )
    for says in host.says:
        yield Part(name="node", healthy=False, why=says)


def findings(cloud: Cloud, *, fix: bool) -> list[Finding]:
    """Where the database and the hosts disagree. With `fix` what can be repaired is, and says so."""
    return [
        *_strangers(cloud, fix),
        *_missing_domains(cloud, fix),
        *_drift(cloud, fix),
        *_missing_volumes(cloud),
        *_stumbling(cloud),
    ]


def _strangers(cloud: Cloud, fix: bool) -> Iterator[Finding]:
    for name, found in compute_host.orphans(cloud).items():
        for id in found:
            if fix:
                cloud.driver(Hypervisor, name).remove(id)
            yield Finding(
                name="domain of no server",
                says=f"host {name} has the domain {id}, which no server owns",
                do="remove it with --fix",
                fixed=fix,
            )


def _missing_domains(cloud: Cloud, fix: bool) -> Iterator[Finding]:
    for name in cloud.hosts(Hypervisor):
        with cloud.db.read() as tx:
            rows = list(
                tx.execute(
                    sa.select(server.c.id, server.c.name).where(
                        server.c.host == name, server.c.state == ServerState.ACTIVE
                    )
                )
            )
        try:
            there = cloud.driver(Hypervisor, name).observe()
        except HostUnavailable as e:
            yield Finding(
                name="host", says=f"host {name} does not answer: {e}", do="see its log and `stackling status`"
            )
            continue
        for row in rows:
            if row.id in there and there[row.id].power is not Power.OFF:
                continue
            if fix:
                with cloud.db.begin() as tx:
                    jobs.start(tx, "compute.server", row.id, now=cloud.clock.now())
            yield Finding(
                name="server without its domain",
                says=f"server {row.name} ({row.id}) should run on {name} and does not",
                do="have it looked at with --fix",
                fixed=fix,
            )


def _drift(cloud: Cloud, fix: bool) -> Iterator[Finding]:
    try:
        report = network_fabric.resync(cloud) if fix else network_fabric.compare(cloud)
    except FabricError as e:
        yield Finding(
            name="network",
            says=str(e),
            do="see `stackling status`; it is repaired by itself when OVN is back",
        )
        return
    for what, refs in (
        ("is missing in OVN", report.created),
        ("differs in OVN", report.changed),
        ("is in OVN and nowhere else", report.removed),
    ):
        for ref in refs:
            yield Finding(
                name="network drift",
                says=f"{ref.kind.value} {ref.id} {what}",
                do="repair it with --fix",
                fixed=fix,
            )


def _missing_volumes(cloud: Cloud) -> Iterator[Finding]:
    for name in cloud.hosts(Backend):
        with cloud.db.read() as tx:
            rows = list(
                tx.execute(
                    sa.select(volume.c.id, volume.c.name).where(
                        volume.c.host == name, volume.c.state.in_([VolumeState.AVAILABLE, VolumeState.IN_USE])
                    )
                )
            )
        try:
            for row in rows:
                if cloud.driver(Backend, name).observe(row.id) is None:
                    yield Finding(
                        name="volume without data",
                        says=f"volume {row.name or row.id} ({row.id}) has no file on {name}",
                        do="restore its file, or set it to error: openstack volume set --state error",
                    )
        except BackendUnavailable as e:
            yield Finding(
                name="volumes", says=f"the backend of {name} does not answer: {e}", do="see its log"
            )


def _stumbling(cloud: Cloud) -> Iterator[Finding]:
    with cloud.db.read() as tx:
        for row in tx.execute(
            sa.select(jobs.job).where(jobs.job.c.attempts > 5, jobs.job.c.kind.notin_(_PERIODIC))
        ):
            yield Finding(
                name="job",
                says=f"{row.kind} {row.resource_id} was tried {row.attempts} times: {row.why}",
                do="mend the cause; it goes on by itself",
            )


def routes(cloud: Cloud, host: Host) -> list[tuple[str, object]]:
    return [("/stackling/v1/status", Status(cloud, host)), ("/stackling/v1/findings", Findings(cloud))]


def _admin(req: Request) -> None:
    if not rest.caller(req).is_admin:
        raise Forbidden("This is for administrators.")


class Status:
    def __init__(self, cloud: Cloud, host: Host) -> None:
        self.cloud, self.host = cloud, host

    def on_get(self, req: Request, resp: Response) -> None:
        _admin(req)
        resp.media = {"parts": parts(self.cloud, self.host)}


class Findings:
    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response) -> None:
        _admin(req)
        resp.media = {"findings": findings(self.cloud, fix=False)}

    def on_post(self, req: Request, resp: Response) -> None:
        _admin(req)
        resp.media = {"findings": findings(self.cloud, fix=True)}
