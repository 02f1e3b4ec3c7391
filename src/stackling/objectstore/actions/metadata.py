"""Headers that are kept with accounts, containers and objects, and their limits. Names as they are sent: Title-Case."""

from collections.abc import Mapping

from stackling.base.errors import BadRequest

MOST_NAME, MOST_VALUE, MOST_COUNT, MOST_ALL = 128, 256, 90, 4096  # bytes; as upstream by default
MOST_HEADER = 8192

Headers = dict[str, str]

# What is kept of an object's headers besides its metadata.
KEPT_WITH_OBJECT = (
    "Content-Disposition",
    "Content-Encoding",
    "Content-Language",
    "Cache-Control",
    "Expires",
    "X-Object-Manifest",
    "X-Robots-Tag",
)


def check_name(kind: str, name: str, most: int) -> None:
    """Raises BadRequest for a name that is longer than `most` bytes, or that no URL could hold."""
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise BadRequest(f"{kind} name is not UTF-8") from None
    if size > most:
        raise BadRequest(f"{kind} name length of {size} longer than {most}")
    if "\x00" in name:
        raise BadRequest(f"{kind} name contains NULL")


def plain(text: str) -> str:
    """Text without what would end a header."""
    return "".join(c for c in text if c.isprintable())


def prefix_of(kind: str) -> str:
    """`X-Object-Meta-` for the kind `Object`."""
    return f"X-{kind}-Meta-"


def check(kind: str, headers: Mapping[str, str]) -> None:
    """Raises BadRequest when there is more metadata, or more of it in one place, than may be kept."""
    prefix = prefix_of(kind)
    count, total = 0, 0
    for name, value in headers.items():
        if not name.startswith(prefix):
            continue
        short = name[len(prefix) :]
        size, long = len(short.encode()), len(value.encode())
        if not short:
            raise BadRequest("Metadata name cannot be empty")
        if size > MOST_NAME:
            raise BadRequest(f"Metadata name too long: {name}: {size} bytes, at most {MOST_NAME}")
        if long > MOST_VALUE:
            raise BadRequest(f"Metadata value longer than {MOST_VALUE}: {name}")
        if value or kind == "Object":
            count, total = count + 1, total + size + long
    if count > MOST_COUNT:
        raise BadRequest(f"Too many metadata items; max {MOST_COUNT}")
    if total > MOST_ALL:
        raise BadRequest(f"Total metadata too large; max {MOST_ALL}")


def merged(kind: str, had: Mapping[str, str], given: Mapping[str, str]) -> Headers:
    """What an account or container has after `given` was set; what is given empty goes. Raises BadRequest."""
    check(kind, given)
    made = {**had, **given}
    made = {name: value for name, value in made.items() if value}
    check(kind, made)
    return made
