"""pysaml2 and the program xmlsec1, which are there when somebody needs SAML2; and the keys they are given."""

import functools
import logging
import os
import shutil
import threading
import warnings
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from msgspec import Struct

from stackling.base.errors import Unavailable

_lock = threading.Lock()


class KeyPair(Struct, frozen=True):
    """A private key and its certificate, both PEM files."""

    key: Path
    certificate: Path


def library() -> Any:
    """pysaml2, which takes two seconds to load, and tells of its messages in no log: they are what lets people in."""
    with _lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a cipher that it offers and nothing here uses
        import saml2
        import saml2.client
        import saml2.config
        import saml2.cryptography.asymmetric
        import saml2.metadata
        import saml2.samlp
        import saml2.sigver

        saml2.sigver.validate_doc_with_schema = _valid
        saml2.cryptography.asymmetric.load_pem_private_key = _private_key
    logging.getLogger("saml2").setLevel(logging.CRITICAL + 1)
    return saml2


@functools.lru_cache(maxsize=8)
def _private_key(data: bytes, password: bytes | None = None) -> Any:
    """A key from PEM. The library reads its keys for each request, and to check one takes 0.1 s of CPU."""
    return serialization.load_pem_private_key(data, password)


def _valid(text: str) -> None:
    """Whether a document is as its schema has it, which the library asks before it looks at a signature.

    Keystone's ids may begin with a digit, which the schema does not let them, and nothing depends on.
    """
    from lxml import etree
    from saml2.xml.schema import validate

    root = etree.fromstring(text.encode(), etree.XMLParser(resolve_entities=False, no_network=True))
    for element in root.iter():
        if element.get("ID", "")[:1].isdigit():
            element.set("ID", f"_{element.get('ID')}")
    validate(etree.tostring(root).decode())


def xmlsec() -> str:
    """Where the program is. Raises Unavailable."""
    found = shutil.which("xmlsec1", path=f"{os.environ.get('PATH', '')}:/usr/bin")
    if found is None:
        raise Unavailable("SAML2 needs Debian's package xmlsec1, which is not installed on the cloud's host.")
    return found
