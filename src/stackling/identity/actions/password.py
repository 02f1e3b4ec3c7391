"""Passwords: proving one, setting one, and the rules that the configuration puts on them."""

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from stackling.base.cloud import Cloud
from stackling.base.db import Row, Tx
from stackling.base.errors import BadRequest, Unauthorized
from stackling.identity.actions import directory, secret
from stackling.identity.state import directory as directories
from stackling.identity.state import project as projects
from stackling.identity.state import revision
from stackling.identity.state import user as users
from stackling.identity.state.user import password

_REFUSED = "The request you have made requires authentication."


def prove(cloud: Cloud, find: Callable[[Tx], Row | None], plain: str) -> str:
    """The id of the user whom `find` finds, if `plain` is his password. Raises Unauthorized.

    Hashing takes long, so no transaction is open meanwhile, and it is done for users that don't exist as well.
    """
    options = cloud.config.identity
    with cloud.db.read() as tx:
        user = find(tx)
        kept = users.current_password(tx, user.id) if user is not None else None
        domain = projects.find(tx, user.domain_id) if user is not None else None
    right = secret.matches(cloud, plain, kept.hash if kept is not None else None)
    now = cloud.clock.now()
    if user is not None:
        cloud.audit.initiator(user)
    if user is None or kept is None:
        raise Unauthorized(_REFUSED, detail="no such user, or one without a password")
    if _locked(cloud, user, now):
        raise Unauthorized(_REFUSED, detail=f"user {user.id} is locked after too many failures")
    if not right:
        _count_failure(cloud, user, now)
        raise Unauthorized(_REFUSED, detail=f"wrong password of user {user.id}")
    if not user.enabled or domain is None or not domain.enabled:
        raise Unauthorized(_REFUSED, detail=f"user {user.id} or his domain is disabled")
    if _inactive(cloud, user, now):
        raise Unauthorized(_REFUSED, detail=f"user {user.id} was inactive for too long")
    if kept.expires_at is not None and kept.expires_at <= now:
        raise Unauthorized("The password is expired and needs to be changed for user: " + user.id + ".")
    changes: dict[str, Any] = {}
    if user.failed_logins:
        changes |= {"failed_logins": 0, "failed_at": None}
    if options.disable_inactive_days and (
        user.last_active_at is None or user.last_active_at.date() != now.date()
    ):
        changes["last_active_at"] = now
    stale = secret.is_stale(cloud, kept.hash)
    if changes or stale:
        fresh = secret.digest(cloud, plain) if stale else ""
        with cloud.db.begin() as tx:
            if changes:
                tx.execute(sa.update(users.user).where(users.user.c.id == user.id).values(**changes))
            if stale:
                tx.execute(sa.update(password).where(password.c.id == kept.id).values(hash=fresh))
    return str(user.id)


def _locked(cloud: Cloud, user: Row, now: datetime) -> bool:
    options = cloud.config.identity
    if not options.lockout_failures or user.options.get("ignore_lockout_failure_attempts"):
        return False
    if user.failed_logins < options.lockout_failures:
        return False
    return user.failed_at is None or now < user.failed_at + timedelta(seconds=options.lockout_seconds)


def _count_failure(cloud: Cloud, user: Row, now: datetime) -> None:
    options = cloud.config.identity
    if not options.lockout_failures or user.options.get("ignore_lockout_failure_attempts"):
        return
    over = user.failed_at is not None and now >= user.failed_at + timedelta(seconds=options.lockout_seconds)
    count: Any = (
        1 if over and user.failed_logins >= options.lockout_failures else users.user.c.failed_logins + 1
    )
    with cloud.db.begin() as tx:
        tx.execute(
            sa.update(users.user).where(users.user.c.id == user.id).values(failed_logins=count, failed_at=now)
        )


def _inactive(cloud: Cloud, user: Row, now: datetime) -> bool:
    days = cloud.config.identity.disable_inactive_days
    if not days or user.options.get("ignore_user_inactivity"):
        return False
    return bool((user.last_active_at or user.created_at) + timedelta(days=days) < now)


def check_form(cloud: Cloud, plain: str) -> None:
    """Raise BadRequest for a password that nobody may have."""
    options = cloud.config.identity
    if len(plain) > secret.LONGEST:
        raise BadRequest(
            f"Invalid input for field/attribute password: it is longer than {secret.LONGEST} characters."
        )
    if options.password_regex and not re.match(options.password_regex, plain):
        says = options.password_regex_description or options.password_regex
        raise BadRequest(f"The password does not match the requirements: {says}.")


def put(
    tx: Tx, cloud: Cloud, user_id: str, digest: str | None, *, by_user: bool, options: dict[str, Any]
) -> None:
    """Make `digest` the user's password (None: he has none) and end all his tokens. Earlier ones stay as history."""
    config = cloud.config.identity
    now = cloud.clock.now()
    if digest is None:
        tx.execute(sa.delete(password).where(password.c.user_id == user_id))
    else:
        ends = None
        if config.password_days and not options.get("ignore_password_expiry"):
            ends = now + timedelta(days=config.password_days)
        first = config.change_password_on_first_use and not by_user
        if first and not options.get("ignore_change_password_upon_first_use"):
            ends = now
        tx.execute(
            password.insert().values(
                user_id=user_id, hash=digest, created_at=now, expires_at=ends, self_service=by_user
            )
        )
        kept = max(config.password_history, 1)
        old = (
            sa.select(password.c.id)
            .where(password.c.user_id == user_id)
            .order_by(password.c.id.desc())
            .offset(kept)
        )
        tx.execute(sa.delete(password).where(password.c.id.in_(list(tx.execute(old).scalars()))))
    users.end_tokens(tx, user_id)
    revision.bump(tx)


def change(cloud: Cloud, user_id: str, original: str, new: str) -> None:
    """A user changes his own password. Raises Unauthorized when `original` is not it, BadRequest for a bad new one."""
    options = cloud.config.identity
    now = cloud.clock.now()
    with cloud.db.read() as tx:
        entry = directories.find(tx, user_id)
        home = directory.of_domain(tx, cloud, entry.domain_id) if entry is not None else None
    if home is not None:
        directory.prove(cloud, home, original, user_id=user_id)
    with cloud.db.read() as tx:
        if home is not None:
            directory.refuse_change(tx, user_id)
        user = users.find(tx, user_id)
        history: list[Row] = []
        if user is not None:
            query = sa.select(password).where(password.c.user_id == user_id).order_by(password.c.id.desc())
            history = list(tx.execute(query))
            cloud.audit.initiator(user)
    kept = history[0] if history else None
    right = secret.matches(cloud, original, kept.hash if kept is not None else None)
    if user is None or kept is None or not user.enabled:
        raise Unauthorized(_REFUSED, detail="no such user, or one without a password")
    if _locked(cloud, user, now):
        raise Unauthorized(_REFUSED, detail=f"user {user.id} is locked after too many failures")
    if not right:
        _count_failure(cloud, user, now)
        raise Unauthorized(_REFUSED, detail=f"wrong password of user {user.id}")
    if user.options.get("lock_password"):
        raise BadRequest("The password of this user can't be changed by the user.")
    youngest = timedelta(days=options.password_minimum_days)
    due = kept.expires_at is not None and kept.expires_at <= now
    if kept.self_service and not due and kept.created_at + youngest > now:
        raise BadRequest("Cannot change password before minimum age is reached.")
    check_form(cloud, new)
    for row in history[: options.password_history]:
        if secret.matches(cloud, new, row.hash):
            raise BadRequest(
                f"Changed password cannot be identical to the last {options.password_history} passwords."
            )
    digest = secret.digest(cloud, new)
    with cloud.db.begin() as tx:
        put(tx, cloud, user_id, digest, by_user=True, options=user.options)
        tx.execute(
            sa.update(users.user).where(users.user.c.id == user_id).values(failed_logins=0, failed_at=None)
        )
