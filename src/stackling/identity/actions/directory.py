"""Domains whose users and groups are in a directory (LDAP): logging in, and keeping the copies here as they are there.

No transaction is open while a directory is asked. One that can't be asked is left alone for some seconds, and
whatever needs it answers 503 meanwhile; other domains never notice. Directories are only read.
"""

import threading
import weakref
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa

from stackling.base import log
from stackling.base.cloud import Cloud
from stackling.base.config import ConfigError
from stackling.base.db import Row, Tx
from stackling.base.directory import Directory
from stackling.base.errors import Forbidden, Unauthorized, Unavailable
from stackling.identity.actions import directory_entry as copies
from stackling.identity.actions import encryption
from stackling.identity.actions.directory_entry import Home
from stackling.identity.directory import Client, Down, Invalid
from stackling.identity.directory import options as directory_options
from stackling.identity.state import directory as state
from stackling.identity.state import project as projects
from stackling.identity.state import revision
from stackling.identity.state import user as users
from stackling.identity.state.credential import trust
from stackling.identity.state.directory import GROUP, USER, directory_entry
from stackling.identity.state.domain_config import domain_config

DRIVER = "ldap"
PAUSE = timedelta(seconds=10)  # of silence after a failure
_REFUSED = "The request you have made requires authentication."
T = TypeVar("T")


# -- which domains -----------------------------------------------------------------------------------------------------


def of_domain(tx: Tx, cloud: Cloud, domain_id: str) -> Home | None:
    """The directory of a domain; None where its users are kept here. Raises Unavailable when it is set up wrongly."""
    domain = projects.find_domain(tx, domain_id)
    if domain is None:
        return None
    given: dict[str, Any] = {}
    driver = None
    for row in tx.execute(sa.select(domain_config).where(domain_config.c.domain_id == domain_id)):
        if (row.group, row.option) == ("identity", "driver"):
            driver = row.value
        elif row.group == DRIVER:
            given[row.option] = row.value
    if driver is None:
        named = (domain.id, domain.name)
        own = next((d for d in cloud.config.identity.directories if d.domain in named), None)
        if own is None:
            return None
        made: Directory = own
    elif driver != DRIVER:
        return None
    else:
        if given.get("password") is not None:
            given["password"] = encryption.decrypt(cloud, given["password"])
        try:
            made = directory_options.read(given)
            directory_options.check(made)
        except Invalid as e:
            raise Unavailable(f"The directory of domain {domain.name} is not set up rightly: {e}") from None
    return Home(domain.id, domain.name, domain.enabled, made)


def check_options(given: dict[str, Any], *, in_force: bool) -> None:
    """Raises Invalid naming an option that can't be; `in_force`: the domain's users are to be looked for there.

    Upstream takes any text for an address, and clients rely on it: one that leads nowhere is told when it is asked.
    """
    made = directory_options.read(given)
    if in_force:
        directory_options.check_names(made)


def prepare(tx: Tx, cloud: Cloud) -> None:
    """Check the configuration file's directories, and let go of domains that have none any more."""
    for one in cloud.config.identity.directories:
        try:
            directory_options.check(one)
        except Invalid as e:
            raise ConfigError(f"identity.directories, domain {one.domain or '(none)'}: {e}") from None
        if not one.domain:
            raise ConfigError("identity.directories: each names its domain, by id or name")
    for domain_id in tx.execute(sa.select(directory_entry.c.domain_id).distinct()).scalars().all():
        settled(tx, cloud, domain_id)


def settled(tx: Tx, cloud: Cloud, domain_id: str) -> None:
    """The domain's configuration has changed: without a directory, users who came from one are gone."""
    try:
        home = of_domain(tx, cloud, domain_id)
    except Unavailable:
        return  # set up wrongly: its users can't come in, and are not given up either
    if home is None:
        table = directory_entry.c
        here = sa.select(directory_entry).where(table.domain_id == domain_id, table.gone.is_(False))
        for row in tx.execute(here).all():
            copies.lose(tx, row)
    else:
        tx.execute(
            sa.update(directory_entry)
            .where(directory_entry.c.domain_id == domain_id)
            .values(checked_at=copies.LONG_AGO)
        )
    revision.bump(tx)


def refuse_new(tx: Tx, cloud: Cloud, domain_id: str) -> None:
    """Raise Forbidden where users and groups of the domain are in a directory."""
    if of_domain(tx, cloud, domain_id) is not None:
        raise Forbidden(_READ_ONLY)


def refuse_change(tx: Tx, *ids: str) -> None:
    """Raise Forbidden for a user or group that is in a directory."""
    if any(state.find(tx, id) is not None for id in ids):
        raise Forbidden(_READ_ONLY)


_READ_ONLY = (
    "Users and groups of this domain are in its directory (LDAP), which is only read here: change them there."
)


# -- asking ------------------------------------------------------------------------------------------------------------


class _Known:
    """What a process knows of one cloud's directories: which failed when, and which were read as a whole when."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.failed: dict[str, datetime] = {}
        self.trying: set[str] = set()
        self.whole: dict[tuple[str, bytes], datetime] = {}


_of_clouds: "weakref.WeakKeyDictionary[Cloud, _Known]" = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def _known(cloud: Cloud) -> _Known:
    with _lock:
        return _of_clouds.setdefault(cloud, _Known())


def _ask(cloud: Cloud, home: Home, question: Callable[[Client], T]) -> T:
    """The directory's answer. Raises Unavailable; after a failure at once, for a while, and one at a time tries again."""
    known, id = _known(cloud), home.domain_id
    says = f"The directory of domain {home.domain_name} can't be reached just now; try again later."
    with known.lock:
        failed = known.failed.get(id)
        if failed is not None and (cloud.clock.now() - failed < PAUSE or id in known.trying):
            raise Unavailable(says, detail=f"it failed at {failed}")
        if failed is not None:
            known.trying.add(id)
    try:
        made = question(Client(home.options))
    except Down as e:
        with known.lock:
            known.failed[id] = cloud.clock.now()
        log.get("identity").warning(
            "directory.down", domain=home.domain_name, url=home.options.url, why=str(e)
        )
        raise Unavailable(says, detail=f"{home.options.url}: {e}") from None
    finally:
        with known.lock:
            known.trying.discard(id)
    with known.lock:
        known.failed.pop(id, None)
    return made


def prove(
    cloud: Cloud, home: Home, plain: str, *, name: str | None = None, user_id: str | None = None
) -> str:
    """The id of the user, if the directory lets him in with that password. Raises Unauthorized, Unavailable."""
    local_id = None
    if user_id is not None:
        with cloud.db.read() as tx:
            entry = state.find(tx, user_id)
        local_id = entry.local_id if entry is not None else ""

    found, groups, refused = _ask(cloud, home, lambda c: c.login(plain, local_id=local_id, name=name))
    if found is None:
        raise Unauthorized(_REFUSED, detail=f"no such user in the directory of {home.domain_name}")
    if refused is not None:
        raise Unauthorized(_REFUSED, detail=f"the directory refuses {found.dn}: {refused}")
    if not found.enabled or not home.enabled:
        raise Unauthorized(_REFUSED, detail=f"user {found.dn} or his domain is disabled")
    with cloud.db.begin() as tx:
        made = copies.take_users(tx, cloud, home, [found])
        if found.local_id not in made:
            raise Unauthorized(_REFUSED, detail=f"a user of the cloud itself has the name of {found.dn}")
        copies.put_groups(tx, cloud, home, made[found.local_id], groups)
    return made[found.local_id]


def freshen(cloud: Cloud, user_id: str, trust_id: str = "") -> None:
    """Look again at a user, and at whose trust he acts on, if it is long ago. Raises Unavailable."""
    with cloud.db.read() as tx:
        now = cloud.clock.now()
        entries = [
            e
            for e in tx.execute(_BEARERS, {"user_id": user_id, "trust_id": trust_id})
            if _is_due(cloud, e, now)
        ]
        homes = {e.domain_id: of_domain(tx, cloud, e.domain_id) for e in entries}
    for entry in entries:
        home = homes[entry.domain_id]
        if home is not None and entry.kind == USER:
            _refresh_user(cloud, home, entry.local_id, None)


def ends(tx: Tx, cloud: Cloud, user_ids: list[str]) -> datetime | None:
    """Until when what is known of these users holds; None where none of them is in a directory."""
    seen = state.oldest(tx, user_ids)
    return None if seen is None else seen + timedelta(seconds=cloud.config.identity.directory_seconds)


def refresh(cloud: Cloud, domain_id: str | None, *, kind: str = USER, name: str | None = None) -> None:
    """Have what a list is to show: a whole domain, or the one of that name in it.

    Raises Unavailable. Without a domain all directories are looked at, and those that are down are passed over.
    """
    with cloud.db.read() as tx:
        if domain_id is not None:
            homes = [of_domain(tx, cloud, domain_id)]
        else:
            homes = [_unless_wrong(tx, cloud, id) for id in _domains(tx, cloud)]
    for home in homes:
        if home is None:
            continue
        try:
            if name is None:
                _refresh_all(cloud, home)
            elif kind == USER:
                _refresh_user(cloud, home, None, name)
            else:
                _refresh_group(cloud, home, None, name)
        except Unavailable:
            if domain_id is not None:
                raise


def refresh_one(cloud: Cloud, id: str, *, members: bool = False) -> None:
    """Have what is shown of a user or group that is in a directory, if it is. Raises Unavailable."""
    with cloud.db.read() as tx:
        entry = state.find(tx, id)
        home = of_domain(tx, cloud, entry.domain_id) if entry is not None else None
    if entry is None or home is None:
        return
    if entry.kind == GROUP and members:
        _refresh_all(cloud, home)
    elif not _is_due(cloud, entry, cloud.clock.now()):
        return
    elif entry.kind == USER:
        _refresh_user(cloud, home, entry.local_id, None)
    else:
        _refresh_group(cloud, home, entry.local_id, None)


def _is_due(cloud: Cloud, entry: Row, now: datetime) -> bool:
    return bool(entry.checked_at + timedelta(seconds=cloud.config.identity.directory_seconds) <= now)


def _domains(tx: Tx, cloud: Cloud) -> list[str]:
    """Domains that may have a directory."""
    table = domain_config.c
    query = sa.select(table.domain_id).where(table.group == "identity", table.option == "driver")
    named = [d.domain for d in cloud.config.identity.directories]
    project = projects.project.c
    by_file = sa.select(project.id).where(
        project.is_domain.is_(True), sa.or_(project.id.in_(named), project.name.in_(named))
    )
    return sorted({*tx.execute(query).scalars(), *tx.execute(by_file).scalars()})


def _unless_wrong(tx: Tx, cloud: Cloud, domain_id: str) -> Home | None:
    try:
        return of_domain(tx, cloud, domain_id)
    except Unavailable:
        return None


def _refresh_user(cloud: Cloud, home: Home, local_id: str | None, name: str | None) -> None:
    found, groups = _ask(cloud, home, lambda c: c.user(local_id=local_id, name=name))
    with cloud.db.begin() as tx:
        if found is None:
            _lose_named(tx, home, USER, local_id, name, users.user)
            return
        made = copies.take_users(tx, cloud, home, [found])
        if found.local_id in made:
            copies.put_groups(tx, cloud, home, made[found.local_id], groups)


def _refresh_group(cloud: Cloud, home: Home, local_id: str | None, name: str | None) -> None:
    found = _ask(cloud, home, lambda c: c.group(local_id=local_id, name=name))
    with cloud.db.begin() as tx:
        if found is None:
            _lose_named(tx, home, GROUP, local_id, name, users.group)
        else:
            copies.take_groups(tx, cloud, home, [found])


def _lose_named(
    tx: Tx, home: Home, kind: str, local_id: str | None, name: str | None, table: sa.Table
) -> None:
    """Who was there by that id or name is there no more."""
    entry = directory_entry.c
    query = sa.select(directory_entry).where(
        entry.domain_id == home.domain_id, entry.kind == kind, entry.gone.is_(False)
    )
    if name is None:
        query = query.where(entry.local_id == local_id)
    else:
        query = query.join(table, table.c.id == entry.id).where(table.c.name == name)
    for row in tx.execute(query).all():
        copies.lose(tx, row)


def _refresh_all(cloud: Cloud, home: Home) -> None:
    """Read the whole directory, unless that was just done."""
    known, key = _known(cloud), (home.domain_id, msgspec.json.encode(home.options))
    now = cloud.clock.now()
    seen = known.whole.get(key)
    if seen is not None and now < seen + timedelta(seconds=cloud.config.identity.directory_seconds):
        return

    everybody, groups, members = _ask(cloud, home, lambda c: c.everything())
    with cloud.db.begin() as tx:
        made = copies.take_users(tx, cloud, home, everybody)
        made_groups = copies.take_groups(tx, cloud, home, groups)
        present = {*made.values(), *made_groups.values()}
        entry = directory_entry.c
        here = sa.select(directory_entry).where(entry.domain_id == home.domain_id, entry.gone.is_(False))
        for row in tx.execute(here).all():
            if row.id not in present:
                copies.lose(tx, row)
        wanted = {
            (made[m], made_groups[local_id])
            for local_id, found in members.items()
            for m in found
            if m in made and local_id in made_groups
        }
        copies.put_memberships(tx, list(made_groups.values()), None, wanted)
    with known.lock:
        known.whole = {k: v for k, v in known.whole.items() if k[0] != home.domain_id} | {key: now}


_TRUSTOR = sa.select(trust.c.trustor_user_id).where(trust.c.id == sa.bindparam("trust_id"))
_BEARERS = sa.select(directory_entry).where(
    sa.or_(directory_entry.c.id == sa.bindparam("user_id"), directory_entry.c.id.in_(_TRUSTOR))
)
