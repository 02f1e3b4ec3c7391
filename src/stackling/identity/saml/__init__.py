"""SAML2: as a service provider, asking an identity provider and checking what it asserts; and as an identity provider,

asserting who somebody is here to other clouds. Knows no database.
"""

from stackling.identity.saml.document import Refused
from stackling.identity.saml.identity_provider import Bearer, IdentityProvider
from stackling.identity.saml.library import KeyPair
from stackling.identity.saml.metadata import Invalid, Options
from stackling.identity.saml.service_provider import Accepted, ServiceProvider

__all__ = [
    "Accepted",
    "Bearer",
    "IdentityProvider",
    "Invalid",
    "KeyPair",
    "Options",
    "Refused",
    "ServiceProvider",
]
