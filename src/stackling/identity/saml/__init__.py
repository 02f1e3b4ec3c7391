"""SAML2 as a service provider: asking an identity provider, and checking what it asserts. Knows no database."""

from stackling.identity.saml.document import Refused
from stackling.identity.saml.metadata import Invalid, Options
from stackling.identity.saml.service_provider import Accepted, ServiceProvider

__all__ = ["Accepted", "Invalid", "Options", "Refused", "ServiceProvider"]
