"""Names of new things.

Identity's ids are 32 hex digits, all others' UUIDs with dashes (seen in every upstream service).
"""

import uuid


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
