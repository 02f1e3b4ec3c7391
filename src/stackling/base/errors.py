"""The kinds of error a user can be told about.

`says` is the sentence that the reader can act on; it is sent. `detail` is for the operator; it is logged.
Each service's API wraps kinds in its own envelope; nobody matches on message text. A subclass of a kind
exists only where someone catches it.
"""

from typing import ClassVar


class Error(Exception):
    """Base of all kinds. `status` is the HTTP status the kind has in every service unless its API says otherwise."""

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal Server Error"

    def __init__(self, says: str = "", *, detail: str = "", headers: dict[str, str] | None = None) -> None:
        super().__init__(says or self.title)
        self.says = says or self.title
        self.detail = detail
        self.headers = headers or {}


class BadRequest(Error):
    status, title = 400, "Bad Request"


class Unauthorized(Error):
    status, title = 401, "Unauthorized"


class Forbidden(Error):
    status, title = 403, "Forbidden"


class NotFound(Error):
    status, title = 404, "Not Found"


class MethodNotAllowed(Error):
    status, title = 405, "Method Not Allowed"


class NotAcceptable(Error):
    status, title = 406, "Not Acceptable"


class Conflict(Error):
    status, title = 409, "Conflict"


class Incomplete(Error):
    """A body that did not arrive whole; clients know that they may send it again."""

    status, title = 408, "Request Timeout"


class Gone(Error):
    status, title = 410, "Gone"


class LengthRequired(Error):
    status, title = 411, "Length Required"


class PreconditionFailed(Error):
    status, title = 412, "Precondition Failed"


class TooLarge(Error):
    status, title = 413, "Request Entity Too Large"


class UnsupportedMediaType(Error):
    status, title = 415, "Unsupported Media Type"


class RangeNotSatisfiable(Error):
    status, title = 416, "Requested Range Not Satisfiable"


class Unprocessable(Error):
    """What arrived is not what its sender said it would be."""

    status, title = 422, "Unprocessable Entity"


class QuotaExceeded(Error):
    """More than a limit allows. Compute answers 403, network 409, block storage and image 413 (quirks of upstream)."""

    status, title = 403, "Forbidden"


class TooManyRequests(Error):
    status, title = 429, "Too Many Requests"


class Unsupported(Error):
    """The API knows the call and this cloud does not offer it."""

    status, title = 501, "Not Implemented"


class Unavailable(Error):
    """A part that the request needs is not there just now; trying again later helps."""

    status, title = 503, "Service Unavailable"


class InsufficientStorage(Error):
    """There is not enough space for what is to be kept."""

    status, title = 507, "Insufficient Storage"
