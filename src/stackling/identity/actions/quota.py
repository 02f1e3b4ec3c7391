"""How much a project may have of every service's resources: unified limits, and the counting that they need.

The one truth is what `/v3/registered_limits` and `/v3/limits` show; the services' own quota calls read and write the
same rows through a `Quotas`. A limit is a number; -1 is no limit. Usage is counted from the tables of the service
that owns the resource, in the transaction that adds to it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from stackling.base import db, ids
from stackling.base.cloud import Cloud
from stackling.base.db import Row, Tx
from stackling.base.errors import NotFound, QuotaExceeded
from stackling.base.statement import Statement
from stackling.identity.actions import limit as limits
from stackling.identity.state import project as projects
from stackling.identity.state.catalog import service
from stackling.identity.state.limit import limit, registered_limit

Projects = Sequence[str] | sa.Select[tuple[str]]  # what `project_id.in_(…)` takes

_DOMAIN = (
    sa.select(projects.project.c.domain_id)
    .where(projects.project.c.id == sa.bindparam("project"))
    .scalar_subquery()
)
_REGISTERED = registered_limit.join(service, service.c.id == registered_limit.c.service_id)
_HERE = sa.and_(
    service.c.type == sa.bindparam("kind"), registered_limit.c.region_id == sa.bindparam("region")
)
_own, _domain = limit.alias("own"), limit.alias("domain")
_IN_FORCE = Statement(
    sa.select(
        registered_limit.c.resource_name,
        sa.func.coalesce(_own.c.resource_limit, registered_limit.c.default_limit).label("most"),
        sa.func.coalesce(_domain.c.resource_limit, registered_limit.c.default_limit).label("most_of_domain"),
        _DOMAIN.label("domain_id"),
    )
    .select_from(
        _REGISTERED.outerjoin(
            _own,
            sa.and_(
                _own.c.registered_limit_id == registered_limit.c.id,
                _own.c.project_id == sa.bindparam("project"),
            ),
        ).outerjoin(
            _domain,
            sa.and_(_domain.c.registered_limit_id == registered_limit.c.id, _domain.c.domain_id == _DOMAIN),
        )
    )
    .where(_HERE)
)
_DEFAULTS = sa.select(registered_limit).select_from(_REGISTERED).where(_HERE)


class Quotas:
    """The limits of one service.

    `kind` is its type in the catalog. `configured(cloud)` gives the limits of the configuration by the names of the
    service's own quota API; `words` says what unified limits call those that have another name there.
    `usage(tx, projects, names)` counts what projects have, all of them together; it may count more than `names`.
    """

    def __init__(
        self,
        kind: str,
        configured: Callable[[Cloud], Mapping[str, int]],
        usage: Callable[[Tx, Projects, Iterable[str]], Mapping[str, int]],
        words: Mapping[str, str] | None = None,
    ) -> None:
        self.kind = kind
        self.configured = configured
        self.usage = usage
        self._words = dict(words or {})
        self._names = {word: name for name, word in self._words.items()}

    # -- looking -------------------------------------------------------------------------------------------------------

    def limits(self, tx: Tx, cloud: Cloud, project_id: str) -> dict[str, int]:
        """The limits in force for a project: its own where set, else the registered ones."""
        return {
            **self.configured(cloud),
            **{self._name(r): r.most for r in self._rows(tx, cloud, project_id)},
        }

    def defaults(self, tx: Tx, cloud: Cloud) -> dict[str, int]:
        """The limits of a project that has none of its own."""
        return {
            **self.configured(cloud),
            **{self._name(r): r.default_limit for r in self._registered(tx, cloud)},
        }

    def owners(self, tx: Tx, cloud: Cloud) -> list[str]:
        """The projects that have limits of their own."""
        query = (
            sa.select(limit.c.project_id)
            .select_from(limit.join(_REGISTERED, registered_limit.c.id == limit.c.registered_limit_id))
            .where(_HERE, limit.c.project_id.isnot(None))
            .distinct()
            .order_by(limit.c.project_id)
        )
        return list(tx.execute(query, self._here(cloud)).scalars())

    def check(self, tx: Tx, cloud: Cloud, project_id: str, adds: Mapping[str, int]) -> None:
        """Let `adds` more of each resource through, or raise QuotaExceeded naming what is over.

        Adding 0 is refused only where a project has more than it may.

        Two requests at once cannot both take the last one: the quota of the service is locked until the transaction
        ends, for the project or, where a domain's limit counts too, for the domain.
        """
        rows = self._rows(tx, cloud, project_id)
        most = {**self.configured(cloud), **{self._name(r): r.most for r in rows}}
        domain_id = limits.domain_of_tree(cloud, rows[0].domain_id if rows else None)
        above = {self._name(r): r.most_of_domain for r in rows} if domain_id else {}
        bounded = [n for n, more in adds.items() if more >= 0 and max(most.get(n, -1), above.get(n, -1)) >= 0]
        if not bounded:
            return
        db.lock(tx, f"quota:{self.kind}:{domain_id or project_id}")
        used = self.usage(tx, [project_id], bounded)
        _refuse(adds, [n for n in bounded if 0 <= most.get(n, -1) < used.get(n, 0) + adds[n]], used, most, "")
        if domain_id:
            used = self.usage(tx, _tree(domain_id), bounded)
            over = [n for n in bounded if 0 <= above.get(n, -1) < used.get(n, 0) + adds[n]]
            _refuse(adds, over, used, above, f" of all projects of domain {domain_id}")

    # -- setting -------------------------------------------------------------------------------------------------------

    def set_limits(self, tx: Tx, cloud: Cloud, project_id: str, wanted: Mapping[str, int]) -> None:
        """Give a project limits of its own. Raises NotFound for no such project, Forbidden as `limit.fits` does."""
        owner = projects.find(tx, project_id.replace("-", ""))
        if owner is None or owner.is_domain:
            raise NotFound(f"Could not find project: {project_id[:64]}.")
        known = {self._name(r): r for r in self._registered(tx, cloud)}
        for name, value in wanted.items():
            registered = known.get(name) or self._register(tx, cloud, name, self.configured(cloud).get(name))
            limits.fits(tx, cloud, registered, owner, value)
            key = {"registered_limit_id": registered.id, "project_id": owner.id}
            values = {"id": ids.hex32(), **key, "resource_limit": value}
            db.upsert(tx, limit, values, {"resource_limit": value}, key=key)

    def set_defaults(self, tx: Tx, cloud: Cloud, wanted: Mapping[str, int]) -> None:
        """Change what projects have that nothing was said about."""
        known = {self._name(r): r for r in self._registered(tx, cloud)}
        for name, value in wanted.items():
            row = known.get(name) or self._register(tx, cloud, name, None)
            change = sa.update(registered_limit).where(registered_limit.c.id == row.id)
            tx.execute(change.values(default_limit=value))

    def forget(self, tx: Tx, cloud: Cloud, project_id: str) -> None:
        """Back to the defaults."""
        here = sa.select(registered_limit.c.id).select_from(_REGISTERED).where(_HERE)
        mine = sa.and_(limit.c.project_id == project_id, limit.c.registered_limit_id.in_(here))
        tx.execute(sa.delete(limit).where(mine), self._here(cloud))

    def register(self, tx: Tx, cloud: Cloud) -> None:
        """Have a registered limit for all that is configured. One that nobody changed follows the configuration."""
        known = {self._name(r): r for r in self._registered(tx, cloud)}
        for name, value in self.configured(cloud).items():
            row = known.get(name)
            if row is None:
                self._register(tx, cloud, name, value)
            elif row.configured is not None and row.default_limit == row.configured != value:
                change = sa.update(registered_limit).where(registered_limit.c.id == row.id)
                tx.execute(change.values(default_limit=value, configured=value))

    # -- rows ----------------------------------------------------------------------------------------------------------

    def _name(self, row: Row) -> str:
        return self._names.get(row.resource_name, row.resource_name)

    def _here(self, cloud: Cloud) -> dict[str, Any]:
        return {"kind": self.kind, "region": cloud.config.identity.region}

    def _rows(self, tx: Tx, cloud: Cloud, project_id: str) -> list[Row]:
        return _IN_FORCE.all(tx, project=project_id, **self._here(cloud))

    def _registered(self, tx: Tx, cloud: Cloud) -> list[Row]:
        return list(tx.execute(_DEFAULTS, self._here(cloud)))

    def _register(self, tx: Tx, cloud: Cloud, name: str, configured: int | None) -> Row:
        owner = tx.execute(
            sa.select(service.c.id).where(service.c.type == self.kind).order_by(service.c.id)
        ).scalar()
        if owner is None:
            raise NotFound(f"The catalog has no service of type {self.kind} that limits could belong to.")
        values = {
            "id": ids.hex32(),
            "service_id": owner,
            "region_id": cloud.config.identity.region,
            "resource_name": self._words.get(name, name),
            "default_limit": -1 if configured is None else configured,
            "configured": configured,
        }
        return tx.execute(registered_limit.insert().values(**values).returning(registered_limit)).one()


def _tree(domain_id: str) -> sa.Select[tuple[str]]:
    table = projects.project.c
    return sa.select(table.id).where(sa.or_(table.domain_id == domain_id, table.id == domain_id))


def _refuse(
    adds: Mapping[str, int], over: list[str], used: Mapping[str, int], most: Mapping[str, int], whose: str
) -> None:
    """Raise QuotaExceeded unless nothing is over."""
    if over:
        names = ", ".join(over)
        wants = ", ".join(str(adds[n]) for n in over)
        has = ", ".join(str(used.get(n, 0)) for n in over)
        limit = ", ".join(str(most[n]) for n in over)
        raise QuotaExceeded(
            f"Quota exceeded for {names}: Requested {wants}, but already used {has} of {limit} {names}{whose}"
        )
