"""Which hosts come into question for a server, and why the others do not."""

import sqlalchemy as sa
from msgspec import Struct, field

from stackling.base import db
from stackling.base.cloud import Cloud
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, QuotaExceeded
from stackling.compute.state import aggregate, host
from stackling.compute.state.server import live, server
from stackling.compute.state.server_group import server_group


class Choice(Struct, kw_only=True):
    """What limits the choice of a host. `servers`: hosts of other servers to be with, or away from."""

    zone: str | None = None
    host: str | None = None
    group: Row | None = None
    same_host: tuple[str, ...] = ()
    different_host: tuple[str, ...] = ()
    volume_hosts: dict[str, str] = field(default_factory=dict)  # volume id → the host that has its file


class Candidates(Struct):
    """`hosts` in question, why each of the others is not, and what some are preferred for."""

    hosts: list[str]
    reasons: dict[str, str]
    weigh: dict[str, float]


def why_not_serving(row: Row, cloud: Cloud) -> str | None:
    """Why a host takes no new servers just now."""
    if row.disabled:
        return f"its compute service is disabled{': ' + row.disabled_reason if row.disabled_reason else ''}"
    if row.forced_down:
        return "its compute service was marked as down"
    if not alive(row, cloud):
        silent = (
            "never reported"
            if row.seen_at is None
            else f"has not reported for {int((cloud.clock.now() - row.seen_at).total_seconds())} seconds"
        )
        return f"it {silent}{' (' + row.why + ')' if row.why else ''}"
    return None


def alive(row: Row, cloud: Cloud) -> bool:
    """The host has reported lately, and nobody says that it is down."""
    return (
        not row.forced_down and row.seen_at is not None and cloud.clock.now() - row.seen_at <= host.DOWN_AFTER
    )


def candidates(tx: Tx, cloud: Cloud, choice: Choice) -> Candidates:
    zones = aggregate.zones(tx, cloud.config.compute.availability_zone)
    used = _group_hosts(tx, choice.group)
    policy, group_name, most = "", "", 1
    if choice.group is not None:
        policy, group_name = choice.group.policy, choice.group.name
        most = choice.group.rules.get("max_server_per_host", 1)
    beside, away = _hosts_of(tx, choice.same_host), _hosts_of(tx, choice.different_host)
    found = Candidates([], {}, {})
    for row in host.everyone(tx):
        name = row.hostname
        why = why_not_serving(row, cloud)
        if choice.host and name != choice.host:
            why = f"the server was asked for on {choice.host}"
        elif choice.zone and zones.of(name) != choice.zone:
            why = f"it is in availability zone {zones.of(name)}, not {choice.zone}"
        elif wrong := [v for v, h in choice.volume_hosts.items() if h != name]:
            why = why or f"volume {wrong[0]} is on {choice.volume_hosts[wrong[0]]}"
        elif choice.same_host and name not in beside:
            why = why or "none of the servers of hint same_host is on it"
        elif name in away:
            why = why or "a server of hint different_host is on it"
        elif policy == "anti-affinity" and used.get(name, 0) >= most:
            why = why or f"server group {group_name} has a server there and its policy is anti-affinity"
        elif policy == "affinity" and used and name not in used:
            why = (
                why
                or f"the servers of group {group_name} are on {', '.join(used)} and its policy is affinity"
            )
        if why:
            found.reasons[name] = why
            continue
        found.hosts.append(name)
        if policy.startswith("soft-"):
            found.weigh[name] = used.get(name, 0) * (1 if policy == "soft-affinity" else -1)
    return found


def check_zone(tx: Tx, cloud: Cloud, zone: str) -> None:
    """Raises BadRequest for a zone that no host is in."""
    zones = aggregate.zones(tx, cloud.config.compute.availability_zone)
    if zone != zones.default and zone not in {zones.of(h.hostname) for h in host.everyone(tx)}:
        raise BadRequest("The requested availability zone is not available")


def group_for(tx: Tx, cloud: Cloud, project_id: str, id: str, adds: int, most: int) -> Row:
    """The server group that a hint names. Raises BadRequest, QuotaExceeded (too many members)."""
    db.lock(tx, f"server-group:{id}")
    found = tx.execute(
        sa.select(server_group).where(server_group.c.id == id, server_group.c.project_id == project_id)
    ).first()
    if found is None:
        raise BadRequest(f"Instance group {id[:64]} could not be found.")
    members = tx.execute(
        sa.select(sa.func.count()).select_from(server).where(server.c.group_id == id, live)
    ).scalar_one()
    if 0 <= most < members + adds:
        raise QuotaExceeded("Quota exceeded, too many servers in group")
    return found


def _group_hosts(tx: Tx, group: Row | None) -> dict[str, int]:
    if group is None:
        return {}
    query = sa.select(server.c.host, sa.func.count().label("n")).where(
        server.c.group_id == group.id, live, server.c.host.isnot(None)
    )
    return {r.host: r.n for r in tx.execute(query.group_by(server.c.host))}


def _hosts_of(tx: Tx, server_ids: tuple[str, ...]) -> set[str]:
    if not server_ids:
        return set()
    query = sa.select(server.c.host).where(server.c.id.in_(server_ids), live, server.c.host.isnot(None))
    return set(tx.execute(query).scalars())
