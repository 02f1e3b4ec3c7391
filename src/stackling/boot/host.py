"""This machine as a host of the cloud: its name, its external networks, its daemons, and its certificates."""

from pathlib import Path

from stackling.base.ca import CertificateAuthority, Identity
from stackling.base.config import Config, ExternalNetwork
from stackling.node import bridges
from stackling.node.bridges import External
from stackling.node.services import Services

LOOPBACK = "127.0.0.1"


def hostname(config: Config) -> str:
    """The name of this host in the cloud."""
    return config.node.hostname or Path("/proc/sys/kernel/hostname").read_text().strip()


def external(config: Config) -> list[External]:
    """The external networks as this host has to make them."""
    return [_external(network) for network in config.network.external]


def _external(network: ExternalNetwork) -> External:
    prefix = network.cidr.rpartition("/")[2]
    own = not network.interface
    return External(
        physical_network=network.name,
        gateway=f"{network.gateway}/{prefix}" if own else None,
        nic=network.interface or None,
        masquerade=network.masquerade,
    )


def services(config: Config) -> Services:
    """The daemons of this host."""
    return Services(
        Path(config.paths.run_dir),
        Path(config.paths.state_dir),
        host=hostname(config),
        mappings=bridges.mappings(external(config)),
    )


def identity(config: Config, role: str) -> Identity:
    """The certificate of the agent (`node`) or of those who call it (`control`)."""
    authority = CertificateAuthority(Path(config.paths.state_dir) / "keys" / "ca")
    return authority.issue(f"{role}-{hostname(config)}", [LOOPBACK], [role])
