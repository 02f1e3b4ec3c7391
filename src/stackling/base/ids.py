"""Names of new things.

Identity's ids are 32 hex digits, all others' UUIDs with dashes (seen in every upstream service).
"""

import random
import uuid


def request() -> str:
    """The id of a request. It guards nothing, so it need not come from the kernel, which takes four times as long."""
    digits = f"{random.getrandbits(128):032x}"
    return f"req-{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"


def uuid4() -> str:
    return str(uuid.uuid4())


def hex32() -> str:
    return uuid.uuid4().hex


def is_uuid(text: str) -> bool:
    """A UUID in the form that upstream accepts: with or without dashes, any case."""
    try:
        return str(uuid.UUID(text)).replace("-", "") == text.lower().replace("-", "")
    except (ValueError, AttributeError):
        return False
