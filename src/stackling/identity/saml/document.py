"""Reading XML from outside, with nothing in it that could mean two things.

The checks here come before the signature's: there is one assertion, in its place, and no ID twice. So what was signed
is what is read (XML signature wrapping), and no document type can bring in files or entities (XXE).
"""

from collections.abc import Callable
from typing import Any

ASSERTION = "urn:oasis:names:tc:SAML:2.0:assertion"
PROTOCOL = "urn:oasis:names:tc:SAML:2.0:protocol"
METADATA = "urn:oasis:names:tc:SAML:2.0:metadata"
SIGNATURE = "http://www.w3.org/2000/09/xmldsig#"
ENCRYPTION = "http://www.w3.org/2001/04/xmlenc#"
SOAP = "http://schemas.xmlsoap.org/soap/envelope/"
ECP = "urn:oasis:names:tc:SAML:2.0:profiles:SSO:ecp"
PAOS = "urn:liberty:paos:2003-08"

LARGEST = 256 << 10  # bytes
_SIGNATURES = frozenset(
    f"http://www.w3.org/2001/04/xmldsig-more#{name}"
    for name in ("rsa-sha256", "rsa-sha384", "rsa-sha512", "ecdsa-sha256", "ecdsa-sha384", "ecdsa-sha512")
)
_DIGESTS = frozenset(
    (
        "http://www.w3.org/2001/04/xmlenc#sha256",
        "http://www.w3.org/2001/04/xmldsig-more#sha384",
        "http://www.w3.org/2001/04/xmlenc#sha512",
    )
)
_SHA1 = frozenset(f"{SIGNATURE}{name}" for name in ("rsa-sha1", "sha1"))
# What decrypts is asked before the signature is: whoever can tell how that failed must not learn a text by trying.
# So keys are transported by OAEP only, and all refusals look the same.
_CIPHERS = frozenset(
    (
        *(f"{ENCRYPTION}aes{bits}-cbc" for bits in (128, 192, 256)),
        *(f"http://www.w3.org/2009/xmlenc11#aes{bits}-gcm" for bits in (128, 192, 256)),
        f"{ENCRYPTION}rsa-oaep-mgf1p",
        "http://www.w3.org/2009/xmlenc11#rsa-oaep",
    )
)


class Refused(ValueError):
    """The message proves nothing; the text says why, for the log."""


def parse(text: bytes, *, largest: int = LARGEST) -> Any:
    """The root element. Raises Refused for what is no XML, has a document type, or is too large."""
    from lxml import etree

    if len(text) > largest:
        raise Refused("the document is too large")
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )
    try:
        root = etree.fromstring(text, parser)
    except (etree.XMLSyntaxError, ValueError) as e:
        raise Refused(f"not XML: {e}") from None
    if root.getroottree().docinfo.doctype:
        raise Refused("the document has a document type")
    return root


def decrypted(root: Any, decrypt: Callable[[bytes], bytes]) -> Any:
    """The response with its assertion in the clear; one that is not encrypted stays as it is. Raises Refused."""
    from lxml import etree

    every = list(root.iter(f"{{{ASSERTION}}}EncryptedAssertion"))
    if not every:
        return root
    if len(every) > 1 or every[0].getparent() is not root:
        raise Refused(f"{len(every)} encrypted assertions, or one that is not directly in the response")
    if next(root.iter(f"{{{ASSERTION}}}Assertion"), None) is not None:
        raise Refused("an assertion beside the encrypted one")
    for one in root.iter(f"{{{ENCRYPTION}}}EncryptionMethod"):
        if one.get("Algorithm") not in _CIPHERS:
            raise Refused(f"encryption {str(one.get('Algorithm'))[:128]} is not accepted")
    # Only what came is read: no cipher text, and no key, from another place.
    if next(root.iter(f"{{{ENCRYPTION}}}CipherReference"), None) is not None:
        raise Refused("the cipher text is somewhere else")
    for one in root.iter(f"{{{SIGNATURE}}}RetrievalMethod"):
        if not (one.get("URI") or "").startswith("#"):
            raise Refused("the key of the cipher text is somewhere else")
    clear = parse(decrypt(etree.tostring(every[0], with_tail=False))).findall(f"{{{ASSERTION}}}Assertion")
    if len(clear) != 1:
        raise Refused("what was encrypted is not one assertion")
    for signature in root.findall(f"{{{SIGNATURE}}}Signature"):
        root.remove(signature)  # of the cipher text, and needed for nothing: the assertion has its own
    root.replace(every[0], clear[0])
    return root


def response(root: Any, *, allow_sha1: bool = False) -> bytes:
    """A response that can only be read in one way, as text. Raises Refused."""
    from lxml import etree

    if root.tag != f"{{{PROTOCOL}}}Response":
        raise Refused(f"not a response but {str(root.tag)[:128]}")
    assertions = list(root.iter(f"{{{ASSERTION}}}Assertion"))
    if len(assertions) != 1 or assertions[0].getparent() is not root:
        raise Refused(f"{len(assertions)} assertions, or one that is not directly in the response")
    for name in ("EncryptedAssertion", "EncryptedID", "EncryptedAttribute", "Advice"):
        if next(root.iter(f"{{{ASSERTION}}}{name}"), None) is not None:
            raise Refused(f"the assertion has {name}")
    signed = [s for s in assertions[0] if s.tag == f"{{{SIGNATURE}}}Signature"]
    if len(signed) != 1:
        raise Refused("the assertion itself is not signed")
    allowed = {root, assertions[0]}
    for one in root.iter(f"{{{SIGNATURE}}}Signature"):
        if one.getparent() not in allowed:
            raise Refused("a signature in a place where none belongs")
    for tag, known in (("SignatureMethod", _SIGNATURES), ("DigestMethod", _DIGESTS)):
        for one in root.iter(f"{{{SIGNATURE}}}{tag}"):
            if one.get("Algorithm") not in (known | _SHA1 if allow_sha1 else known):
                raise Refused(f"{tag} {str(one.get('Algorithm'))[:128]} is not accepted")
    seen: set[str] = set()
    for element in root.iter():
        for name, value in element.attrib.items():
            if etree.QName(name).localname.lower() == "id":
                if value in seen:
                    raise Refused(f"the ID {value[:64]!r} is there twice")
                seen.add(value)
    made: bytes = etree.tostring(root)
    return made


def issuer(root: Any) -> str:
    """Who a response says it is of; empty where it does not."""
    return (root.findtext(f"{{{ASSERTION}}}Issuer") or "").strip()


def unwrap(root: Any) -> tuple[Any, str | None]:
    """What is in a SOAP envelope, and the relay state in its header. Raises Refused."""
    body = root.find(f"{{{SOAP}}}Body") if root.tag == f"{{{SOAP}}}Envelope" else None
    if body is None or len(body) != 1:
        raise Refused("not a SOAP envelope with one message")
    state = root.findtext(f"{{{SOAP}}}Header/{{{ECP}}}RelayState")
    # By itself, with the prefixes that it had outside: a signature counts them.
    from lxml import etree

    return parse(etree.tostring(body[0], with_tail=False)), state.strip() if state else None
