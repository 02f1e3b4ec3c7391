"""Access rules: the few calls that a limited application credential may make, checked before any service is asked."""

import functools
import re
from collections.abc import Iterable

# The words under which clients know a service, besides its name here.
_TYPES = {"volume": ("volumev3", "block-storage", "volumev2"), "network": ("networking",)}


def permits(rules: Iterable[tuple[str, str, str]], service: str, method: str, path: str) -> bool:
    """Whether one of `rules`, each (service type, method, path), allows the call. `path` is that below the service's root.

    In a rule's path `*` and `{name}` stand for one segment, `**` for any number of them.
    """
    known = (service, *_TYPES.get(service, ()))
    return any(
        kind in known
        and (verb == method or (verb == "GET" and method == "HEAD"))
        and _pattern(rule).fullmatch(path)
        for kind, verb, rule in rules
    )


@functools.lru_cache(maxsize=1024)
def _pattern(rule: str) -> re.Pattern[str]:
    parts = re.split(r"(\*\*|\*|\{[^{}]*\})", rule.rstrip("/"))
    made = [".*" if p == "**" else "[^/]+" if p == "*" or p.startswith("{") else re.escape(p) for p in parts]
    return re.compile("".join(made) + "/?")
