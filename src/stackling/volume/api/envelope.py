"""Errors as this API words them: an object named after the kind of error."""

from stackling.base.errors import QuotaExceeded
from stackling.base.rest import Envelope, Problem

_NAMES = {
    400: "badRequest",
    401: "unauthorized",
    403: "forbidden",
    404: "itemNotFound",
    405: "badMethod",
    409: "conflictingRequest",
    413: "overLimit",
    415: "badMediaType",
    429: "overLimit",
    501: "notImplemented",
    503: "serviceUnavailable",
}


def envelope(problem: Problem) -> Envelope:
    """An unknown method is a path that nobody has (as upstream's router sees it)."""
    status = (
        413
        if isinstance(problem.error, QuotaExceeded)
        else 404
        if problem.kind == "method"
        else problem.status
    )
    says = "The resource could not be found." if problem.kind == "method" else problem.error.says
    inside: dict[str, object] = {"code": status, "message": says}
    headers = {}
    if status in (413, 429):
        inside["retryAfter"] = "0"
        headers["Retry-After"] = "0"
    return Envelope({_NAMES.get(status, "computeFault"): inside}, status=status, headers=headers)
