"""OpenID Connect as a relying party: a provider's keys, the checking of its tokens, and what they say as an assertion.

No database and no request: values in, claims out.
"""
