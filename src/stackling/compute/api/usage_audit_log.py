"""What upstream's monthly usage audits did. This cloud runs none, its usage is always counted anew: no host ever did one."""

import re
from datetime import datetime, timedelta

from falcon import Request, Response

from stackling.base.cloud import Cloud
from stackling.base.errors import BadRequest
from stackling.base.rest import caller
from stackling.compute.state import host

_TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d(:\d\d(\.\d{1,6})?)?")


class UsageAuditLog:
    """/os-instance_usage_audit_log and /os-instance_usage_audit_log/{before}"""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def on_get(self, req: Request, resp: Response, before: str | None = None) -> None:
        verb = "list" if before is None else "show"
        caller(req).may(f"os_compute_api:os-instance-usage-audit-log:{verb}")
        start, stop = _month(self.cloud.clock.now() if before is None else _time(before))
        with self.cloud.db.read() as tx:
            names = [h.hostname for h in host.everyone(tx)]
        resp.media = {
            "instance_usage_audit_log" + ("s" if before is None else ""): {
                "period_beginning": str(start),
                "period_ending": str(stop),
                "num_hosts": len(names),
                "num_hosts_done": 0,
                "num_hosts_running": 0,
                "num_hosts_not_run": len(names),
                "hosts_not_run": names,
                "total_instances": 0,
                "total_errors": 0,
                "overall_status": f"0 of {len(names)} hosts done. 0 errors.",
                "log": {},
            }
        }


def _time(text: str) -> datetime:
    try:
        if _TIME.fullmatch(text):
            return datetime.fromisoformat(text)
    except ValueError:
        pass
    raise BadRequest(f"Invalid timestamp for date {text[:64]}")


def _month(now: datetime) -> tuple[datetime, datetime]:
    """The last whole calendar month before `now`."""
    stop = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    if stop.year == 1 and stop.month == 1:
        raise BadRequest(f"Invalid timestamp for date {now}")
    return (stop - timedelta(days=1)).replace(day=1), stop
