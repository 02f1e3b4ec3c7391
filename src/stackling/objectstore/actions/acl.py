"""Access lists of containers: who else may read or write. Swift's language."""

from urllib.parse import urlsplit

from stackling.base.context import Caller
from stackling.base.errors import BadRequest

_REFERRERS = (".r", ".ref", ".referer", ".referrer")
LISTINGS = ".rlistings"


def clean(header: str, text: str) -> str:
    """The list as it is kept. Raises BadRequest for what no list can say."""
    made = []
    for entry in (part.strip() for part in text.split(",")):
        if not entry:
            continue
        first, colon, second = (word.strip() for word in entry.partition(":"))
        if not first.startswith("."):
            made.append(f"{first}:{second}" if colon else first)
            continue
        if not colon and first == LISTINGS:
            made.append(first)
            continue
        if first not in _REFERRERS or not colon:
            raise BadRequest(f"{header}: Unknown designator {first!r} in ACL: {entry[:256]!r}")
        if "write" in header.lower():
            raise BadRequest(f"{header}: Referrers not allowed in write ACL: {entry[:256]!r}")
        negated = second.startswith("-")
        host = second.lstrip("-").strip()
        if host.startswith("*") and host != "*":
            host = host[1:].strip()
        if not host or host == ".":
            raise BadRequest(
                f"{header}: No host/domain value after referrer designation in ACL: {entry[:256]!r}"
            )
        made.append(f".r:{'-' if negated else ''}{host}")
    return ",".join(made)


def referrer_may(acl: str, referer: str) -> bool:
    """Whether a page at `referer` may read: the last entry that fits decides."""
    try:
        host = urlsplit(referer).hostname or "unknown"
    except ValueError:
        host = "unknown"
    allowed = False
    for entry in acl.split(","):
        if not entry.startswith(".r:"):
            continue
        negated, name = entry[3:4] == "-", entry[3:].removeprefix("-")
        if name == "*" or name == host or (name.startswith(".") and host.endswith(name)):
            allowed = not negated
    return allowed


def names(acl: str, caller: Caller) -> bool:
    """Whether the list names the caller, by user and project, or by one of its roles.

    Names count only where user and project are of the default domain: elsewhere they are not unique.
    """
    entries = {entry for entry in acl.split(",") if entry and not entry.startswith(".")}
    users, projects = ["*", caller.user_id], ["*"]
    if caller.project_id:
        projects.append(caller.project_id)
        if caller.user_domain_id == caller.project_domain_id == "default":
            users.append(caller.user_name)
            projects.append(caller.project_name)
    return any(f"{p}:{u}" in entries for p in projects for u in users) or bool(entries & caller.roles)
