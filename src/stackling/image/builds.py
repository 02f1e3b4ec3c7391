"""Where builds of a cloud keep their files."""

from pathlib import Path

from stackling.base.cloud import Cloud


def home(cloud: Cloud) -> Path:
    return Path(cloud.config.paths.state_dir) / "builds"


def directory(cloud: Cloud, id: str) -> Path:
    """Log and results of one build; while it runs also what it works on."""
    return home(cloud) / id


def cache(cloud: Cloud) -> Path:
    """Packages and installation media that builds have fetched."""
    return home(cloud) / "cache"
