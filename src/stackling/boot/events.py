"""What the drivers tell by themselves, carried into the database; looking finds it too, only later."""

from stackling.base import log
from stackling.base.cloud import Cloud
from stackling.network.actions import port
from stackling.network.driver import Fabric


def follow(cloud: Cloud) -> None:
    """Have each port that goes up or down noted at once. (Hypervisors are watched by compute's own host job.)"""
    logger = log.get("events")

    def seen(port_id: str, up: bool) -> None:
        try:
            with cloud.db.begin() as tx:
                port.seen(tx, cloud, port_id, up)
        except Exception as e:  # noqa: BLE001 (a missed event is found by the next look)
            logger.warning("events.missed", port=port_id, error=f"{type(e).__name__}: {e}")

    cloud.driver(Fabric).watch(seen)
