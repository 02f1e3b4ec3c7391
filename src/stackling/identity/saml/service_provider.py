"""The cloud as a SAML2 service provider, by pysaml2: kept well, and what Keystone itself is an identity provider with.

xmlsec1 checks signatures, with the keys of the provider's metadata only. What the profile asks for beyond that and
pysaml2 leaves open is checked here: one bearer confirmation for our address, an audience that is us, times.
"""

import base64
import calendar
import time
from typing import Any

from msgspec import Struct

from stackling.identity.saml import document
from stackling.identity.saml.document import ECP, PAOS, SOAP, Refused
from stackling.identity.saml.library import KeyPair, library, xmlsec
from stackling.identity.saml.metadata import Options

LEEWAY = 60  # seconds that clocks may differ
BEARER = "urn:oasis:names:tc:SAML:2.0:cm:bearer"
_MOST_VALUES = 2000


class Accepted(Struct, frozen=True):
    """What an assertion says, all of it checked. `ends` is in seconds since 1970: until then its `id` must not come again."""

    id: str
    issuer: str
    name_id: str
    ends: int
    attributes: dict[str, list[str]]


class ServiceProvider:
    """One protocol of one provider. With `keys` we sign; assertions may be encrypted for those of `encryption`."""

    def __init__(
        self, options: Options, *, entity_id: str, consumer: str, keys: KeyPair, encryption: KeyPair
    ) -> None:
        program = xmlsec()
        saml2 = library()
        self.options, self.entity_id, self.consumer = options, entity_id, consumer
        self._encryption = encryption
        config = saml2.config.SPConfig()
        settings = {
            "entityid": entity_id,
            "key_file": str(keys.key),
            "cert_file": str(keys.certificate),
            "encryption_keypairs": [
                {"key_file": str(encryption.key), "cert_file": str(encryption.certificate)}
            ],
            "metadata": {"inline": [options.metadata]},
            "xmlsec_binary": program,
            "accepted_time_diff": LEEWAY,
            "allow_unknown_attributes": True,
            "only_use_keys_in_metadata": True,
            "delete_tmpfiles": True,
            "service": {
                "sp": {
                    "endpoints": {
                        "assertion_consumer_service": [
                            (consumer, saml2.BINDING_HTTP_POST),
                            (consumer, saml2.BINDING_PAOS),
                        ]
                    },
                    "want_assertions_signed": True,
                    "want_response_signed": False,
                    "authn_requests_signed": True,
                    "allow_unsolicited": options.allow_unsolicited,
                    "name_id_format_allow_create": True,
                }
            },
        }
        try:
            config.load(settings)
            self._client = saml2.client.Saml2Client(config=config)
        except Exception as e:  # noqa: BLE001 (the library raises whatever it likes for metadata that it can't use)
            raise Refused(f"the provider's metadata can't be used: {e}") from None

    def metadata(self) -> bytes:
        """What the provider's administrator needs to know of us."""
        saml2 = library()
        made = saml2.metadata.entity_descriptor(self._client.config)
        return str(made).encode()

    def redirect(self) -> tuple[str, str]:
        """The id of a fresh request, and the URL that takes a browser to the provider with it, signed."""
        saml2 = library()
        from saml2.xmldsig import SIG_RSA_SHA256

        try:
            request_id, info = self._client.prepare_for_authenticate(
                entityid=self.options.entity_id,
                binding=saml2.BINDING_HTTP_REDIRECT,
                response_binding=saml2.BINDING_HTTP_POST,
                sign=True,
                sigalg=SIG_RSA_SHA256,
            )
        except saml2.SAMLError as e:
            raise Refused(f"the provider has no place where browsers log in: {e}") from None
        return str(request_id), str(dict(info["headers"])["Location"])

    def envelope(self, relay_state: Any) -> bytes:
        """A SOAP envelope that asks a client to ask the provider (ECP). `relay_state(request_id)` comes back with it."""
        from lxml import etree

        saml2 = library()
        request_id, request = self._client.create_authn_request(
            "", binding=saml2.BINDING_PAOS, assertion_consumer_service_url=self.consumer, sign=False
        )
        made = etree.Element(f"{{{SOAP}}}Envelope", nsmap={"S": SOAP, "ecp": ECP, "paos": PAOS})
        header = etree.SubElement(made, f"{{{SOAP}}}Header")
        heard = {
            f"{{{SOAP}}}mustUnderstand": "1",
            f"{{{SOAP}}}actor": "http://schemas.xmlsoap.org/soap/actor/next",
        }
        etree.SubElement(
            header, f"{{{PAOS}}}Request", {**heard, "responseConsumerURL": self.consumer, "service": ECP}
        )
        asked = etree.SubElement(header, f"{{{ECP}}}Request", {**heard, "IsPassive": "0"})
        issuer = etree.SubElement(asked, f"{{{document.ASSERTION}}}Issuer")
        issuer.text = self.entity_id
        state = etree.SubElement(header, f"{{{ECP}}}RelayState", heard)
        state.text = relay_state(str(request_id))
        etree.SubElement(made, f"{{{SOAP}}}Body").append(document.parse(str(request).encode()))
        return bytes(etree.tostring(made))

    def accept(self, root: Any, request_id: str | None) -> Accepted:
        """What a response asserts. `request_id` is None for one that nobody asked for. Raises Refused."""
        text = document.response(document.decrypted(root, self._decrypt), allow_sha1=self.options.allow_sha1)
        saml2 = library()
        asked = {request_id: self.consumer} if request_id is not None else {}
        if root.get("InResponseTo") != request_id:
            raise Refused("the response is to another request")
        if root.get("Destination") not in (None, "", self.consumer):
            raise Refused("the response was meant for another address")
        try:
            # HTTP-POST is what it came by, or as good as: the envelope is off, and the text is not encoded any more.
            found = self._client.parse_authn_request_response(
                base64.b64encode(text).decode(), saml2.BINDING_HTTP_POST, asked
            )
        except Exception as e:  # noqa: BLE001 (likewise, for a response that strangers may have made)
            raise Refused(f"{type(e).__name__}: {str(e)[:300]}") from None
        if found is None or found.assertion is None or not found.assertion.signature:
            raise Refused("the library accepts no assertion")
        return self._checked(found.response, found.assertion, request_id)

    def _decrypt(self, text: bytes) -> bytes:
        try:
            clear = self._client.sec.decrypt(text.decode(), str(self._encryption.key))
        except Exception as e:  # noqa: BLE001 (likewise)
            raise Refused(f"the assertion can't be decrypted: {type(e).__name__}") from None
        return clear.encode() if isinstance(clear, str) else bytes(clear)

    def _checked(self, response: Any, assertion: Any, request_id: str | None) -> Accepted:
        now, us = time.time(), self.options.entity_id
        issuers = [assertion.issuer, *([response.issuer] if response.issuer is not None else [])]
        if any(i is None or (i.text or "").strip() != us for i in issuers):
            raise Refused("the issuer is another")
        confirmed = [c for c in assertion.subject.subject_confirmation if c.method == BEARER]
        data = confirmed[0].subject_confirmation_data if len(confirmed) == 1 else None
        if data is None or data.recipient != self.consumer or data.in_response_to != request_id:
            raise Refused("the subject is not confirmed for us, or for another request")
        ends = _instant(data.not_on_or_after)
        if ends is None or ends + LEEWAY <= now:
            raise Refused("the subject's confirmation is over, or never is")
        conditions = assertion.conditions
        audiences = [
            [(a.text or "").strip() for a in one.audience]
            for one in (conditions.audience_restriction if conditions is not None else [])
        ]
        # One that nobody asked for may name none, as Keystone's: that it is for us is said by the recipient.
        needed = request_id is not None or bool(audiences)
        if needed and not (audiences and all(self.entity_id in one for one in audiences)):
            raise Refused(f"the audience is {audiences}")
        over = _instant(conditions.not_on_or_after) if conditions is not None else None
        if over is not None and over + LEEWAY <= now:
            raise Refused("the assertion is over")
        name = assertion.subject.name_id
        text = (name.text or "").strip() if name is not None else ""
        if not text or not assertion.id:
            raise Refused("the assertion names nobody")
        return Accepted(
            id=assertion.id,
            issuer=str(us),
            name_id=text,
            ends=int(max(ends, over or 0)) + 2 * LEEWAY,
            attributes=_attributes(assertion, str(us), text),
        )


def _attributes(assertion: Any, issuer: str, name_id: str) -> dict[str, list[str]]:
    """What the assertion comes to for a mapping, under the names that mod_auth_mellon and mod_shib give it.

    Names that are made here come first, then attributes' own names, then the friendly ones: none can pass itself off
    as another.
    """
    made = {
        "REMOTE_USER": [name_id],
        "NAME_ID": [name_id],
        "MELLON_NAME_ID": [name_id],
        "MELLON_IDP": [issuer],
        "Shib-Identity-Provider": [issuer],
    }
    every = [a for statement in assertion.attribute_statement for a in statement.attribute]
    for alias in ("name", "friendly_name"):
        for one in every:
            name = getattr(one, alias)
            values = [v.text.strip() for v in one.attribute_value[:_MOST_VALUES] if v.text and v.text.strip()]
            if name and values:
                made.setdefault(name, values)
                made.setdefault(f"MELLON_{name}", values)
    return made


def _instant(text: str | None) -> float | None:
    """Seconds since 1970 of an xs:dateTime in UTC."""
    if not text:
        return None
    from saml2.time_util import str_to_time

    try:
        return float(calendar.timegm(str_to_time(text)))
    except (ValueError, TypeError, AttributeError):
        return 0.0
