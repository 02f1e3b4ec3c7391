"""A domain's own options, over the cloud's: groups `identity` and `ldap`, as far as they may differ."""

from typing import Any

import sqlalchemy as sa

from stackling.base.cloud import Cloud
from stackling.base.context import Caller
from stackling.base.db import Tx
from stackling.base.directory import Directory, plain
from stackling.base.errors import BadRequest, Forbidden, NotFound
from stackling.identity.actions import directory, encryption, keys
from stackling.identity.actions.permission import may
from stackling.identity.directory import Invalid
from stackling.identity.state import project as projects
from stackling.identity.state.domain_config import domain_config

Config = dict[str, dict[str, Any]]

# Options that may differ, with the cloud's own value.
DEFAULTS: Config = {
    "identity": {"driver": "sql", "list_limit": None},
    "ldap": plain(Directory()),
}
_SECRET = {"ldap": {"password"}}  # kept encrypted, never shown


def _domain(tx: Tx, domain_id: str) -> None:
    if projects.find_domain(tx, domain_id) is None:
        raise NotFound(f"Could not find domain: {domain_id[:64]}.")


def _known(group: str | None, option: str | None = None) -> None:
    """Raise Forbidden for what can't differ."""
    if group is not None and group not in DEFAULTS:
        raise Forbidden(
            f"Invalid domain specific configuration: Group {group[:64]} is not supported for domain specific configurations."
        )
    if (
        group is not None
        and option is not None
        and option not in DEFAULTS[group]
        and option not in _SECRET.get(group, ())
    ):
        raise Forbidden(
            f"Invalid domain specific configuration: Option {option[:64]} in group {group} is not supported for domain specific configurations."
        )


def _check(config: Config) -> None:
    if not config:
        raise Forbidden("Invalid domain specific configuration: No options specified.")
    for group, options in config.items():
        _known(group)
        if not options:
            raise Forbidden(f"Invalid domain specific configuration: No options specified in group {group}.")
        for option, value in options.items():
            _known(group, option)
            if option == "driver" and not isinstance(value, str):
                raise BadRequest(f"Invalid input for field/attribute {group}.driver: it is text.")


def _read(tx: Tx, domain_id: str) -> Config:
    made: Config = {}
    query = sa.select(domain_config).where(domain_config.c.domain_id == domain_id)
    for row in tx.execute(query.order_by(domain_config.c.group, domain_config.c.option)):
        if row.option not in _SECRET.get(row.group, ()):
            made.setdefault(row.group, {})[row.option] = row.value
    return made


def _write(tx: Tx, cloud: Cloud, domain_id: str, config: Config) -> None:
    """Raises BadRequest naming an option that can't be."""
    table = domain_config
    for group, options in config.items():
        for option, given in options.items():
            value = given
            if option in _SECRET.get(group, ()) and given is not None:
                if not isinstance(given, str):
                    raise BadRequest(f"Invalid input for field/attribute {group}.{option}: it is text.")
                value = encryption.encrypt(cloud, given)
            key = (table.c.domain_id == domain_id, table.c.group == group, table.c.option == option)
            tx.execute(sa.delete(table).where(*key))
            tx.execute(table.insert().values(domain_id=domain_id, group=group, option=option, value=value))
    made = _read(tx, domain_id)
    try:
        in_force = made.get("identity", {}).get("driver") == directory.DRIVER
        directory.check_options(made.get("ldap", {}), in_force=in_force)
    except Invalid as e:
        raise BadRequest(f"Invalid input for field/attribute {e}.") from None
    directory.settled(tx, cloud, domain_id)


def rotate_secrets(tx: Tx, cloud: Cloud) -> None:
    """Encrypt every secret option anew with the primary of the credential keys."""
    every = keys.fernets(cloud, keys.CREDENTIALS).every
    table = domain_config.c
    for group, options in _SECRET.items():
        query = sa.select(domain_config).where(table.group == group, table.option.in_(options))
        for row in tx.execute(query).all():
            if row.value is not None:
                key = (table.domain_id == row.domain_id, table.group == group, table.option == row.option)
                fresh = every.rotate(row.value.encode()).decode()
                tx.execute(sa.update(domain_config).where(*key).values(value=fresh))


def put(tx: Tx, cloud: Cloud, caller: Caller, domain_id: str, config: Config) -> tuple[Config, bool]:
    """The whole configuration anew; True if there was none before."""
    may(caller, "create_domain_config")
    _domain(tx, domain_id)
    _check(config)
    gone = tx.execute(sa.delete(domain_config).where(domain_config.c.domain_id == domain_id)).rowcount
    _write(tx, cloud, domain_id, config)
    return _read(tx, domain_id), not gone


def _part(config: Config, group: str | None, option: str | None) -> Config | None:
    """What of `config` is asked for; None when it is not there."""
    if group is None:
        return config or None
    if group not in config:
        return None
    if option is None:
        return {group: config[group]}
    return {option: config[group][option]} if option in config[group] else None


def get(
    tx: Tx, cloud: Cloud, caller: Caller, domain_id: str, group: str | None, option: str | None
) -> Config:
    if group == "security_compliance":
        return _compliance(tx, cloud, caller, domain_id, option)
    may(caller, "get_domain_config")
    _domain(tx, domain_id)
    _known(group, option)
    found = _part(_read(tx, domain_id), group, option)
    if found is None:
        what = f" group {group}" if group else ""
        raise NotFound(
            f"Could not find{what} option {option} in domain configuration for domain {domain_id}."
            if option
            else f"Could not find{what or ' any options'} in domain configuration for domain {domain_id}."
        )
    return found


def _compliance(tx: Tx, cloud: Cloud, caller: Caller, domain_id: str, option: str | None) -> Config:
    """What passwords must look like: for everyone to know."""
    may(caller, "get_security_compliance_domain_config")
    _domain(tx, domain_id)
    if domain_id != "default":
        raise Forbidden("The password rules are those of the default domain.")
    shown: dict[str, Any] = {
        "password_regex": cloud.config.identity.password_regex or None,
        "password_regex_description": cloud.config.identity.password_regex_description or None,
    }
    if option is None:
        return {"security_compliance": shown}
    if option not in shown:
        raise Forbidden(f"Option {option[:64]} in group security_compliance can't be read.")
    return {option: shown[option]}


def update(
    tx: Tx,
    cloud: Cloud,
    caller: Caller,
    domain_id: str,
    config: dict[str, Any],
    group: str | None,
    option: str | None,
) -> Config:
    """Change what is named. `config` has the form of what is changed: the whole, `{group: …}` or `{option: value}`."""
    may(caller, "update_domain_config")
    _domain(tx, domain_id)
    _known(group, option)
    if option is not None and group is not None:
        if set(config) != {option}:
            raise Forbidden(
                f"Invalid domain specific configuration: The option in the URL is {option[:64]}, that in the body is not."
            )
        config = {group: config}
    elif group is not None and set(config) != {group}:
        raise Forbidden(
            f"Invalid domain specific configuration: The group in the URL is {group[:64]}, that in the body is not."
        )
    if not all(isinstance(options, dict) for options in config.values()):
        raise BadRequest("Invalid input for field/attribute config: a group is an object of options.")
    _check(config)
    before = _read(tx, domain_id)
    if group is not None and _part(before, group, option) is None:
        raise NotFound(f"Could not find group {group} in domain configuration for domain {domain_id}.")
    _write(tx, cloud, domain_id, config)
    return _read(tx, domain_id)


def delete(
    tx: Tx, cloud: Cloud, caller: Caller, domain_id: str, group: str | None, option: str | None
) -> None:
    may(caller, "delete_domain_config")
    _domain(tx, domain_id)
    _known(group, option)
    query = sa.delete(domain_config).where(domain_config.c.domain_id == domain_id)
    if group is not None:
        query = query.where(domain_config.c.group == group)
    if option is not None:
        query = query.where(domain_config.c.option == option)
    if not tx.execute(query).rowcount and group is not None:
        raise NotFound(f"Could not find group {group} in domain configuration for domain {domain_id}.")
    directory.settled(tx, cloud, domain_id)


def defaults(caller: Caller, group: str | None, option: str | None) -> Config:
    may(caller, "get_domain_config_default")
    _known(group, option)
    found = _part(DEFAULTS, group, option)
    if found is None:
        raise NotFound(f"Option {option} has no default that is shown.")
    return found
