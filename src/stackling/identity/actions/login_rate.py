"""How often one may try to log in: so many a minute for a user name and for an address, in all processes together.

Each login uses up its part of a minute; who has used up the minute waits until that part is free again (GCRA). Names
that nobody has are counted like others, and before any password is looked at, so a refusal tells nothing.
"""

import hashlib
import ipaddress
import math
from datetime import datetime, timedelta

import sqlalchemy as sa

from stackling.base import db
from stackling.base.cloud import Cloud
from stackling.base.db import Tx
from stackling.base.errors import TooManyRequests
from stackling.identity.actions.login import Auth, UserRef
from stackling.identity.state import user as users
from stackling.identity.state.login_rate import OLD, login_rate

_MINUTE = timedelta(minutes=1)


def named(auth: Auth) -> list[UserRef] | None:
    """Whom a login names, in the methods that are guessed at; None when it uses no such method."""
    identity = auth.identity
    parts = [p.user for p in (identity.password, identity.totp) if p is not None]
    return parts if parts or identity.application_credential is not None else None


def check(cloud: Cloud, address: str, refs: list[UserRef]) -> None:
    """Count one login. Raises TooManyRequests, with the seconds to wait, when the configuration allows no more."""
    options = cloud.config.identity
    if not options.logins_per_user and not options.logins_per_address:
        return
    now = cloud.clock.now()
    with cloud.db.begin() as tx:
        shares = {_key("user", _name(tx, ref)): options.logins_per_user for ref in refs}
        shares[_key("address", _network(address))] = options.logins_per_address
        ends = {k: _use(tx, k, now, share) for k, share in sorted(shares.items()) if share}
        late = max((end - now - _MINUTE for end in ends.values()), default=timedelta())
        if late > timedelta():
            wait = str(math.ceil(late.total_seconds()))
            raise TooManyRequests(
                f"There were too many logins. Try again in {wait} seconds.", headers={"Retry-After": wait}
            )
        for key, end in ends.items():
            values = {"used_until": end}
            db.upsert(tx, login_rate, {"key": key, **values}, values, key=("key",))


def forget(tx: Tx, now: datetime) -> None:
    """Delete the rows of those who have all of their share again."""
    tx.execute(OLD, {"now": now})


def _use(tx: Tx, key: str, now: datetime, share: int) -> datetime:
    db.lock(tx, f"identity.login:{key}")
    used = tx.execute(sa.select(login_rate.c.used_until).where(login_rate.c.key == key)).scalar()
    return max(used or now, now) + _MINUTE / share


def _name(tx: Tx, ref: UserRef) -> str:
    """A user counts as one, whether he is called by name or by id, in whatever domain."""
    user = users.find(tx, ref.id) if ref.id else None
    return str(user.name if user is not None else ref.id or ref.name or "").lower()


def _network(address: str) -> str:
    """Who has an IPv6 address has 2^64 of them."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network((ip, 64), strict=False)) if ip.version == 6 else str(ip)


def _key(kind: str, value: str) -> str:
    return hashlib.sha256(f"{kind}:{value}".encode()).hexdigest()
