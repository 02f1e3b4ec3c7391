"""An OpenID provider as seen from here: where its endpoints are, and its keys, fetched when needed and kept.

Providers are asked seldom: keys are kept for ten minutes, looked for again at most every half minute when a token
names an unknown one, and after a failure nobody asks for ten seconds. Old keys serve while a provider is away.
"""

import base64
import json
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import weakref
from typing import Any

import msgspec
from msgspec import Struct, field

from stackling.base import log
from stackling.base.cloud import Cloud
from stackling.base.errors import Unavailable

KEEP = 600.0  # seconds that keys are believed
AGAIN = 30.0  # seconds between looks for a key that is not known
PAUSE = 10.0  # seconds of silence after a failure
PATIENCE = 5.0  # seconds that a provider may take to answer
LARGEST = 512 << 10  # bytes of a provider's answer
MOST_KEYS = 64
_SHORTEST_MODULUS = 341  # characters of base64 that 2048 bits take

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Options(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How an identity provider speaks OpenID Connect. `client_secret` is encrypted where it is kept.

    `introspection_endpoint` is for an issuer that does not publish it; `userinfo` adds what that endpoint tells to what
    a token says, and has it vouch for tokens that can't be read where there is no introspection.
    """

    issuer: str
    audiences: list[str] = []
    jwks_uri: str | None = None
    client_id: str | None = None
    client_secret: str | None = None
    scopes: list[str] = field(default_factory=lambda: ["openid", "profile", "email"])
    introspection_endpoint: str | None = None
    userinfo: bool = False


class Discovered(Struct, frozen=True):
    """What is needed of a provider's metadata (OpenID Connect Discovery 1.0)."""

    issuer: str
    jwks_uri: str
    authorization_endpoint: str | None = None
    token_endpoint: str | None = None
    token_endpoint_auth_methods_supported: list[str] = field(default_factory=lambda: ["client_secret_basic"])
    introspection_endpoint: str | None = None
    introspection_endpoint_auth_methods_supported: list[str] | None = None  # None: as at the token endpoint
    userinfo_endpoint: str | None = None


def is_safe(url: str) -> bool:
    """Whether keys and codes may travel to `url`: HTTPS, or plain HTTP that stays on this machine."""
    try:
        parts = urllib.parse.urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    if not host or parts.username is not None or not url.isascii() or any(c <= " " for c in url):
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and host in _LOOPBACK)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None  # a redirect could lead anywhere; providers name their endpoints


_opener = urllib.request.build_opener(_NoRedirects)


class Answered(Unavailable):
    """The provider answered with an HTTP error."""

    def __init__(self, url: str, code: int) -> None:
        super().__init__("The identity provider can't be asked just now.", detail=f"{url} answered {code}")
        self.code = code


def fetch(
    url: str, *, form: dict[str, str] | None = None, headers: dict[str, str] | None = None
) -> dict[str, Any]:
    """The JSON object at `url`, or what it answers to `form`. Raises Unavailable, of which Answered is one."""
    if not is_safe(url):
        raise Unavailable(f"The identity provider can't be asked: {url[:255]} is not an HTTPS URL.")
    data = urllib.parse.urlencode(form).encode() if form is not None else None
    request = urllib.request.Request(
        url, data=data, headers={"Accept": "application/json", **(headers or {})}
    )
    try:
        with _opener.open(request, timeout=PATIENCE) as answer:
            text = _read(answer)
    except urllib.error.HTTPError as e:
        with e:
            raise Answered(url, e.code) from None
    except (OSError, ValueError) as e:
        raise Unavailable("The identity provider can't be asked just now.", detail=f"{url}: {e}") from None
    if len(text) > LARGEST:
        raise Unavailable("The identity provider's answer is too large.", detail=url)
    try:
        made = json.loads(text)
    except (ValueError, RecursionError):
        made = None
    if not isinstance(made, dict):
        raise Unavailable("The identity provider's answer is not a JSON object.", detail=url)
    return made


def _read(answer: Any) -> bytes:
    """The body, as long as it is no longer than allowed. Raises TimeoutError for one that comes in drops."""
    text, until = b"", time.monotonic() + PATIENCE
    while len(text) <= LARGEST:
        part = answer.read1(LARGEST + 1 - len(text))
        if not part:
            break
        text += part
        if time.monotonic() > until:
            raise TimeoutError("the answer takes too long")
    return text


def as_client(options: Options, client_id: str, methods: list[str]) -> tuple[dict[str, str], dict[str, str]]:
    """What says who asks, in the form and in the headers (RFC 6749, 2.3.1)."""
    if options.client_secret is None:
        return {"client_id": client_id}, {}
    if "client_secret_basic" in methods:
        pair = (
            f"{urllib.parse.quote(client_id, safe='')}:{urllib.parse.quote(options.client_secret, safe='')}"
        )
        return {}, {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}
    return {"client_id": client_id, "client_secret": options.client_secret}, {}


class Provider:
    """One provider as this process knows it."""

    def __init__(self, cloud: Cloud, options: Options) -> None:
        self._cloud = weakref.proxy(cloud)
        self._issuer, self._jwks_uri = options.issuer, options.jwks_uri
        self._lock = threading.Lock()
        self._keys: list[Any] | None = None
        self._fetched = self._failed = float("-inf")
        self._discovered: tuple[float, Discovered] | None = None
        self._silent: dict[str, float] = {}  # since when each endpoint did not answer

    def keys(self, kid: str | None) -> list[Any]:
        """The provider's keys for signatures; fetched anew when `kid` is not among them. Raises Unavailable."""
        # Whoever has old keys goes on with them while another thread fetches; the first ones have to wait.
        if self._is_due(kid) and self._lock.acquire(blocking=self._keys is None):
            try:
                if self._is_due(kid):
                    self._refresh()
            finally:
                self._lock.release()
        if self._keys is None:
            raise Unavailable("The identity provider's keys can't be fetched just now; try again later.")
        return self._keys

    def discovered(self) -> Discovered:
        """The provider's metadata. Raises Unavailable."""
        now = self._cloud.clock.monotonic()
        kept = self._discovered
        if kept is not None and now - kept[0] <= KEEP:
            return kept[1]
        if now - self._failed < PAUSE:
            raise Unavailable("The identity provider can't be asked just now; try again later.")
        try:
            kept = self._discovered = (now, discover(self._issuer))
        except Unavailable:
            self._failed = self._cloud.clock.monotonic()
            raise
        return kept[1]

    def ask(
        self, url: str, *, form: dict[str, str] | None = None, headers: dict[str, str] | None = None
    ) -> dict[str, Any]:
        """Like `fetch`, but after a failure nobody asks there for a while, so that nobody waits for it."""
        if self._cloud.clock.monotonic() - self._silent.get(url, float("-inf")) < PAUSE:
            raise Unavailable("The identity provider can't be asked just now; try again later.")
        try:
            return fetch(url, form=form, headers=headers)
        except Unavailable as e:
            if not isinstance(e, Answered):
                self._silent[url] = self._cloud.clock.monotonic()
            raise

    def _is_due(self, kid: str | None) -> bool:
        now = self._cloud.clock.monotonic()
        if now - self._failed < PAUSE:
            return False
        if self._keys is None or now - self._fetched > KEEP:
            return True
        known = kid is None or any(key.kid == kid for key in self._keys)
        return not known and now - self._fetched > AGAIN

    def _refresh(self) -> None:
        try:
            keys = read_keys(fetch(self._jwks_uri or self.discovered().jwks_uri))
        except Unavailable as e:
            self._failed = self._cloud.clock.monotonic()
            log.get("identity").warning("oidc.keys", issuer=self._issuer, error=e.says, detail=e.detail)
            return
        self._keys, self._fetched = keys, self._cloud.clock.monotonic()


def discover(issuer: str) -> Discovered:
    """What the issuer says of itself. Raises Unavailable, also when it says it is somebody else."""
    found = fetch(issuer.rstrip("/") + "/.well-known/openid-configuration")
    try:
        made = msgspec.convert(found, Discovered)
    except msgspec.ValidationError as e:
        raise Unavailable(
            "The identity provider's metadata can't be used.", detail=f"{issuer}: {e}"
        ) from None
    if made.issuer != issuer:
        raise Unavailable(
            "The identity provider's metadata is of another issuer.", detail=f"{issuer}: {made.issuer}"
        )
    return made


def read_keys(found: dict[str, Any]) -> list[Any]:
    """The public keys for signatures in a JWK set, as joserfc's keys.

    Secret keys (`oct`) are never taken: with one, whoever can read the set could sign.
    """
    from joserfc import errors
    from joserfc.jwk import import_key

    made = []
    listed = found.get("keys")
    for one in listed[:MOST_KEYS] if isinstance(listed, list) else []:
        if not isinstance(one, dict) or one.get("kty") not in ("RSA", "EC", "OKP"):
            continue
        if one.get("use", "sig") != "sig" or not isinstance(one.get("kid", ""), str):
            continue
        public = {
            k: v for k, v in one.items() if k not in ("d", "p", "q", "dp", "dq", "qi", "oth", "key_ops")
        }
        if one["kty"] == "RSA" and len(str(one.get("n", ""))) < _SHORTEST_MODULUS:
            continue
        try:
            made.append(import_key(public))
        except (errors.JoseError, ValueError, TypeError, KeyError):
            continue  # a key of a kind that is not known here is passed over (RFC 7517, 5)
    return made


_of_clouds: "weakref.WeakKeyDictionary[Cloud, dict[tuple[str, str | None], Provider]]" = (
    weakref.WeakKeyDictionary()
)
_lock = threading.Lock()


def provider(cloud: Cloud, options: Options) -> Provider:
    """The provider of these options, one a process."""
    with _lock:
        known = _of_clouds.setdefault(cloud, {})
        key = (options.issuer, options.jwks_uri)
        if key not in known:
            known[key] = Provider(cloud, options)
        return known[key]
