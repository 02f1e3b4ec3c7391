"""The administrator's credentials, in the forms that clients read."""

import contextlib
import os
import shlex
from pathlib import Path

import yaml

from stackling.base.config import Config


def admin(config: Config) -> dict[str, str]:
    """The administrator's `OS_*` variables. Raises OSError when the password file can't be read."""
    password = (Path(config.paths.config_dir) / "admin-password").read_text().strip()
    found = {
        "OS_AUTH_URL": f"{config.base_url}/identity/v3",
        "OS_IDENTITY_API_VERSION": "3",
        "OS_USERNAME": config.identity.admin_name,
        "OS_PASSWORD": password,
        "OS_USER_DOMAIN_ID": "default",
        "OS_PROJECT_NAME": "admin",
        "OS_PROJECT_DOMAIN_ID": "default",
        "OS_REGION_NAME": config.identity.region,
    }
    if config.api.tls:
        found["OS_CACERT"] = str(authority(config))
    return found


def authority(config: Config) -> Path:
    """The CA's certificate, where every user of this machine can read it."""
    return Path(config.paths.config_dir) / "ca.pem"


def openrc(values: dict[str, str]) -> str:
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in values.items())


def clouds_yaml(values: dict[str, str]) -> str:
    cloud = {
        "auth": {
            "auth_url": values["OS_AUTH_URL"],
            "username": values["OS_USERNAME"],
            "password": values["OS_PASSWORD"],
            "user_domain_id": values["OS_USER_DOMAIN_ID"],
            "project_name": values["OS_PROJECT_NAME"],
            "project_domain_id": values["OS_PROJECT_DOMAIN_ID"],
        },
        "region_name": values["OS_REGION_NAME"],
        "identity_api_version": 3,
    }
    if "OS_CACERT" in values:
        cloud["cacert"] = values["OS_CACERT"]
    return yaml.safe_dump({"clouds": {"stackling": cloud}}, sort_keys=False)


def write(config: Config) -> None:
    """Write clouds.yaml and openrc beside the password, for root's eyes only."""
    values = admin(config)
    if config.api.tls:
        issuer = Path(config.paths.state_dir) / "keys" / "ca" / "ca.pem"
        fresh = authority(config).with_name(".ca.pem.new")
        fresh.write_bytes(issuer.read_bytes())
        fresh.chmod(0o644)
        fresh.replace(authority(config))
    for name, text in (("clouds.yaml", clouds_yaml(values)), ("openrc", openrc(values))):
        file = Path(config.paths.config_dir) / name
        fresh = file.with_name(f".{name}.new")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as out:
            out.write(text)
        fresh.replace(file)


def remove(config: Config) -> None:
    """Remove what the cloud wrote beside the operator's own configuration, which stays."""
    home = Path(config.paths.config_dir)
    for name in ("admin-password", "clouds.yaml", "openrc", "ca.pem"):
        (home / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # the operator's stackling.toml or policy.yaml is there
        home.rmdir()
