"""A connection to one directory: bound, with TLS, and never waited for long."""

import os
import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from stackling.base import log
from stackling.base.directory import Directory

PATIENCE = 5  # seconds for a connection
ANSWER = 15  # seconds for an answer

# What Active Directory means by the number with which it refuses a password (`data 532`).
_REASONS = {
    "525": "there is no such user",
    "52e": "the password is wrong",
    "530": "not at this hour",
    "531": "not from this machine",
    "532": "the password has expired",
    "533": "the account is disabled",
    "701": "the account has expired",
    "773": "the password must be changed first",
    "775": "the account is locked",
}


class Down(Exception):
    """The directory can't be asked, or doesn't answer as it should; the text says why, for the log."""


@contextmanager
def connected(options: Directory, *, anonymous: bool = False) -> Iterator[Any]:
    """A connection, bound as the one who searches. Errors of the directory become Down."""
    try:
        import ldap
    except ImportError:
        raise Down("Debian's package python3-ldap is not installed") from None
    connection = None
    try:
        connection = _connect(ldap, options)
        if not anonymous and options.user:
            if not options.password:
                raise Down("ldap.password is missing: a bind without one would be anonymous")
            connection.simple_bind_s(options.user, options.password)
        yield connection
    except ldap.SIZELIMIT_EXCEEDED as e:
        hint = "" if options.page_size else "; set ldap.page_size, such as 500"
        raise Down(f"it gives no more entries at once{hint} ({_why(e)})") from None
    except ldap.STRONG_AUTH_REQUIRED as e:
        raise Down(
            f"it takes passwords over TLS only: an ldaps:// URL, or ldap.use_tls ({_why(e)})"
        ) from None
    except ldap.LDAPError as e:
        raise Down(_why(e)) from None
    finally:
        if connection is not None:
            try:
                connection.unbind_ext_s()
            except ldap.LDAPError as e:
                log.get("identity").debug("directory.unbind", error=_why(e))


def refusal(options: Directory, dn: str, password: str) -> str | None:
    """Why the directory does not let `dn` in with that password; None: it does. Raises Down.

    An empty password proves nothing, whatever the directory says.
    """
    import ldap

    if not dn or not password or "\0" in password:
        return "no password was sent"
    with connected(options, anonymous=True) as c:
        try:
            c.simple_bind_s(dn, password)
        except (
            ldap.INVALID_CREDENTIALS,
            ldap.UNWILLING_TO_PERFORM,
            ldap.INAPPROPRIATE_AUTH,
            ldap.INSUFFICIENT_ACCESS,
            ldap.CONSTRAINT_VIOLATION,
            ldap.INVALID_DN_SYNTAX,
            ldap.NO_SUCH_OBJECT,
        ) as e:
            return _why(e)
    return None


def _connect(ldap: Any, o: Directory) -> Any:
    urls = [part for part in re.split(r"[\s,]+", o.url) if part]
    if o.randomize_urls:
        random.shuffle(urls)
    c = ldap.initialize(" ".join(urls), bytes_mode=False)
    c.set_option(ldap.OPT_PROTOCOL_VERSION, ldap.VERSION3)
    patience = next((t for t in (o.connection_timeout, o.pool_connection_timeout) if t > 0), PATIENCE)
    c.set_option(ldap.OPT_NETWORK_TIMEOUT, patience)
    c.set_option(ldap.OPT_TIMEOUT, ANSWER)
    c.set_option(ldap.OPT_REFERRALS, 1 if o.chase_referrals else 0)
    if o.alias_dereferencing != "default":
        c.set_option(ldap.OPT_DEREF, getattr(ldap, f"DEREF_{o.alias_dereferencing.upper()}"))
    if o.use_tls or "ldaps://" in o.url:
        for name, place in (("CACERTFILE", o.tls_cacertfile), ("CACERTDIR", o.tls_cacertdir)):
            if place:
                if not os.path.exists(place):
                    raise Down(f"ldap.tls_{name.lower()}: there is no {place}")
                c.set_option(getattr(ldap, f"OPT_X_TLS_{name}"), place)
        c.set_option(ldap.OPT_X_TLS_REQUIRE_CERT, getattr(ldap, f"OPT_X_TLS_{o.tls_req_cert.upper()}"))
        c.set_option(ldap.OPT_X_TLS_NEWCTX, 0)  # what was set counts from here on
    if o.use_tls:
        c.start_tls_s()
    return c


def _why(error: Exception) -> str:
    """What the library says, for the log: without what was sent."""
    told = error.args[0] if error.args else {}
    if not isinstance(told, dict):
        return type(error).__name__
    says = " ".join(str(told[k]) for k in ("desc", "info") if told.get(k)) or type(error).__name__
    number = re.search(r"AcceptSecurityContext error, data ([0-9a-f]+)", says)
    reason = _REASONS.get(number.group(1)) if number else None
    return f"{reason} ({says})" if reason else says
