"""Regular expressions that users send: RE2's, which take time in proportion to the text, whatever they are.

SQLite has none of its own and matches with these; PostgreSQL's own engine is of the same kind.
"""

import functools
from typing import Any

import re2

from stackling.base.errors import BadRequest

_LONGEST = 255
_options = re2.Options()
_options.log_errors = False


@functools.lru_cache(maxsize=256)
def _compiled(text: str) -> Any:
    return re2.compile(text, _options)


def checked(text: str, name: str) -> str:
    """`text` if it is a regular expression that both databases take. Raises BadRequest naming the parameter."""
    try:
        if len(text) > _LONGEST or "(?" in text:  # PostgreSQL means something else by some of those
            raise re2.error
        _compiled(text)
    except (re2.error, UnicodeError):
        raise BadRequest(
            f"Invalid input for query parameter {name}: {text[:64]!r} is not a regular expression, or too complicated a one"
        ) from None
    return text


def matches(pattern: str, value: str | None) -> bool:
    """Whether the pattern is found anywhere in the value, for SQLite's REGEXP."""
    return value is not None and _compiled(pattern).search(value) is not None
