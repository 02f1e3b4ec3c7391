"""The cloud as a SAML2 identity provider: Keystone to Keystone, in the form that Keystone has given it.

A response holds one signed assertion with `openstack_…` attributes. It says for whom it is by the address that it is
to be brought to (Recipient): an OpenStack identity provider does not know its service providers' entity ids.
"""

import json
import time
import uuid
from collections.abc import Iterable
from typing import Any

from msgspec import Struct

from stackling.identity.saml import document
from stackling.identity.saml.document import ASSERTION, ECP, METADATA, PROTOCOL, SIGNATURE, SOAP
from stackling.identity.saml.library import KeyPair, library, xmlsec

LIFETIME = 3600  # seconds that an assertion lets in at most, as upstream's
_ENTITY = "urn:oasis:names:tc:SAML:2.0:nameid-format:entity"
_TRANSIENT = "urn:oasis:names:tc:SAML:2.0:nameid-format:transient"
_URI = "urn:oasis:names:tc:SAML:2.0:bindings:URI"
_BEARER = "urn:oasis:names:tc:SAML:2.0:cm:bearer"
_PASSWORD = "urn:oasis:names:tc:SAML:2.0:ac:classes:Password"
_SUCCESS = "urn:oasis:names:tc:SAML:2.0:status:Success"
_XSI, _XSD = "http://www.w3.org/2001/XMLSchema-instance", "http://www.w3.org/2001/XMLSchema"
_NAMES = {"saml": ASSERTION, "samlp": PROTOCOL, "xs": _XSD, "xsi": _XSI}


class Bearer(Struct, frozen=True):
    """Who is asserted: a user in a project. `groups` are pairs of a group's name and its domain's."""

    user: str
    user_domain: str
    project: str
    project_domain: str
    roles: tuple[str, ...]
    groups: tuple[tuple[str, str], ...]
    seconds: int  # that his token still has


class IdentityProvider(Struct, frozen=True):
    """What other clouds know this one as: `entity_id`, `sign_on` (an address that metadata must have), its keys."""

    entity_id: str
    sign_on: str
    keys: KeyPair

    def metadata(self) -> bytes:
        """What an administrator of another cloud needs to know of this one."""
        from lxml import etree

        root = etree.Element(f"{{{METADATA}}}EntityDescriptor", nsmap={"md": METADATA, "ds": SIGNATURE})
        root.set("entityID", self.entity_id)
        says = _add(root, METADATA, "IDPSSODescriptor", protocolSupportEnumeration=PROTOCOL)
        info = _add(_add(says, METADATA, "KeyDescriptor", use="signing"), SIGNATURE, "KeyInfo")
        _add(_add(info, SIGNATURE, "X509Data"), SIGNATURE, "X509Certificate").text = self._certificate()
        _add(says, METADATA, "NameIDFormat").text = _TRANSIENT
        _add(says, METADATA, "SingleSignOnService", Binding=_URI, Location=self.sign_on)
        return bytes(etree.tostring(root))

    def response(self, bearer: Bearer, recipient: str) -> Any:
        """A response with an assertion of `bearer` for the service provider at `recipient`."""
        from lxml import etree

        now = int(time.time())
        made = etree.Element(f"{{{PROTOCOL}}}Response", nsmap=_NAMES)
        head = {"ID": _id(), "IssueInstant": _instant(now), "Version": "2.0"}
        for name, value in {"Destination": recipient, **head}.items():
            made.set(name, value)
        self._issuer(made)
        _add(_add(made, PROTOCOL, "Status"), PROTOCOL, "StatusCode", Value=_SUCCESS)
        made.append(self._signed(self._assertion(bearer, recipient, now)))
        return made

    def text(self, response: Any) -> bytes:
        """The response alone. Beyond ASCII it holds references, so that nobody reads it in a wrong encoding."""
        from lxml import etree

        return bytes(etree.tostring(response))

    def envelope(self, response: Any, relay_state_prefix: str) -> bytes:
        """The response as a command line brings it to the service provider (ECP)."""
        from lxml import etree

        made = etree.Element(f"{{{SOAP}}}Envelope", nsmap={"S": SOAP, "ecp": ECP})
        state = _add(_add(made, SOAP, "Header"), ECP, "RelayState")
        state.set(f"{{{SOAP}}}mustUnderstand", "1")
        state.set(f"{{{SOAP}}}actor", "http://schemas.xmlsoap.org/soap/actor/next")
        state.text = relay_state_prefix + uuid.uuid4().hex
        _add(made, SOAP, "Body").append(response)
        return bytes(etree.tostring(made))

    def _issuer(self, above: Any) -> None:
        _add(above, ASSERTION, "Issuer", Format=_ENTITY).text = self.entity_id

    def _assertion(self, bearer: Bearer, recipient: str, now: int) -> Any:
        from lxml import etree

        ends = _instant(now + min(LIFETIME, bearer.seconds))
        made = etree.Element(f"{{{ASSERTION}}}Assertion", nsmap=_NAMES)
        for name, value in (("ID", _id()), ("IssueInstant", _instant(now)), ("Version", "2.0")):
            made.set(name, value)
        self._issuer(made)
        subject = _add(made, ASSERTION, "Subject")
        _add(subject, ASSERTION, "NameID").text = bearer.user
        confirmed = _add(subject, ASSERTION, "SubjectConfirmation", Method=_BEARER)
        _add(confirmed, ASSERTION, "SubjectConfirmationData", NotOnOrAfter=ends, Recipient=recipient)
        session = {
            "AuthnInstant": _instant(now),
            "SessionIndex": _id(),
            "SessionNotOnOrAfter": ends,
        }
        context = _add(_add(made, ASSERTION, "AuthnStatement", **session), ASSERTION, "AuthnContext")
        _add(context, ASSERTION, "AuthnContextClassRef").text = _PASSWORD
        _add(context, ASSERTION, "AuthenticatingAuthority").text = self.entity_id
        statement = _add(made, ASSERTION, "AttributeStatement")
        _attribute(statement, "openstack_user", [bearer.user])
        _attribute(statement, "openstack_roles", bearer.roles)
        _attribute(statement, "openstack_project", [bearer.project])
        _attribute(statement, "openstack_project_domain", [bearer.project_domain])
        _attribute(statement, "openstack_user_domain", [bearer.user_domain])
        if bearer.groups:
            described = ({"name": name, "domain": {"name": domain}} for name, domain in bearer.groups)
            _attribute(statement, "openstack_groups", ["JSON:" + json.dumps(one) for one in described])
        return made

    def _signed(self, assertion: Any) -> Any:
        """The assertion with its signature, by xmlsec1."""
        from lxml import etree

        library()
        from saml2.sigver import CryptoBackendXmlSec1, pre_signature_part
        from saml2.xmldsig import DIGEST_SHA256, SIG_RSA_SHA256

        part = pre_signature_part(
            assertion.get("ID"), self._certificate(), digest_alg=DIGEST_SHA256, sign_alg=SIG_RSA_SHA256
        )
        assertion.insert(1, etree.fromstring(str(part).encode()))  # behind the issuer, as the schema wants it
        signer = CryptoBackendXmlSec1(xmlsec())
        text = etree.tostring(assertion).decode()
        made = signer.sign_statement(text, f"{ASSERTION}:Assertion", str(self.keys.key), assertion.get("ID"))
        return document.parse(made.encode() if isinstance(made, str) else made)

    def _certificate(self) -> str:
        """The certificate's base64 alone."""
        lines = self.keys.certificate.read_text().splitlines()
        return "".join(line for line in lines if not line.startswith("-----"))


def _add(above: Any, space: str, name: str, **attributes: str) -> Any:
    from lxml import etree

    return etree.SubElement(above, f"{{{space}}}{name}", attributes)


def _attribute(statement: Any, name: str, values: Iterable[str]) -> None:
    held = _add(statement, ASSERTION, "Attribute", Name=name)
    for value in values:
        one = _add(held, ASSERTION, "AttributeValue")
        one.set(f"{{{_XSI}}}type", "xs:string")
        one.text = value


def _id() -> str:
    return f"_{uuid.uuid4().hex}"  # XML's type ID begins with no digit


def _instant(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
