"""`stackling identity mapping`: trying a mapping before anybody comes in by it."""

import sys
from pathlib import Path
from typing import Annotated, Any

import msgspec
from cyclopts import App, Parameter

from stackling.cli.setting import Trouble, show

app = App(name="mapping", help="What mappings of identity providers come to.")


@app.command(name="test")
def try_out(
    rules: Annotated[
        Path, Parameter(help="File with the rules, as `openstack mapping create --rules` takes it.")
    ],
    assertion: Annotated[
        str,
        Parameter(
            allow_leading_hyphen=True,
            help="File with what the provider says: JSON of names and values, or lines of `name: value`; - is standard input.",
        ),
    ],
    *,
    claims: Annotated[
        bool,
        Parameter(negative=(), help="The file holds claims of an OpenID Connect token, not attributes yet."),
    ] = False,
) -> int:
    """Print the user, groups and projects that somebody would get. Needs no cloud, and changes nothing."""
    from stackling.identity import mapping
    from stackling.identity.oidc.claims import assertion_of

    try:
        wanted = msgspec.json.decode(_read(str(rules)))
    except msgspec.DecodeError as e:
        raise Trouble(f"{rules}: not JSON: {e}") from None
    given = _assertion(_read(assertion))
    if claims:
        if not isinstance(given, dict) or not all(isinstance(given.get(n), str) for n in ("sub", "iss")):
            raise Trouble(f"{assertion}: claims are a JSON object with sub and iss")
        given = assertion_of(given)
    elif isinstance(given, dict):
        given = {name: _values(assertion, name, value) for name, value in given.items()}
    try:
        show(mapping.try_mapping(wanted, given))
    except mapping.MappingInvalid as e:
        raise Trouble(f"{rules}: {e}") from None
    except mapping.MappingRefused as e:
        raise Trouble(f"nobody comes in: {e}") from None
    return 0


def _read(name: str) -> str:
    try:
        return sys.stdin.read() if name == "-" else Path(name).read_text()
    except (OSError, UnicodeDecodeError) as e:
        raise Trouble(f"{name}: {e}") from None


def _assertion(text: str) -> Any:
    try:
        made = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text
    return made if isinstance(made, dict) else text


def _values(source: str, name: str, value: Any) -> str | list[str]:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return value
    raise Trouble(f"{source}: {name} is neither a text nor a list of texts (claims of a token need --claims)")
