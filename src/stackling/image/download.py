"""Fetching an image from the web on behalf of a user, without lending the user this machine's place in the network.

A user names a URL and the cloud fetches it. So only http and https, only the ports an operator allows, and never an
address that isn't public or that is this machine's own: a name is looked up once, every address it has is judged,
and the connection goes to the judged address. The same holds for every redirect.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

from msgspec import Struct

CHUNK = 1 << 20
REDIRECTS = 5
CONNECT_SECONDS, READ_SECONDS = 15.0, 60.0
PORTS = {"http": 80, "https": 443}

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# Ways to write an IPv4 address as an IPv6 one that a gateway would turn back.
_TRANSLATED = [
    ipaddress.IPv6Network(n) for n in ("64:ff9b::/96", "64:ff9b:1::/48", "2001::/32", "2002::/16", "::/96")
]


class Refused(Exception):
    """The image can't be had from there. `says` is a sentence for the one who asked."""

    def __init__(self, says: str) -> None:
        super().__init__(says)
        self.says = says


class Allowed(Struct, frozen=True):
    """What an operator lets users fetch from, beyond public addresses on `ports`.

    `hosts` are names, addresses and networks (CIDR) that are exempt from both.
    """

    hosts: tuple[str, ...] = ()
    ports: tuple[int, ...] = (80, 443)

    def name(self, host: str) -> bool:
        return host.lower().rstrip(".") in {h.lower() for h in self.hosts}

    def address(self, address: Address) -> bool:
        return any(network.version == address.version and address in network for network in self._networks())

    def _networks(self) -> Iterator[ipaddress.IPv4Network | ipaddress.IPv6Network]:
        for host in self.hosts:
            try:
                yield ipaddress.ip_network(host, strict=False)
            except ValueError:
                continue


class Target(Struct, frozen=True):
    """A URL that passed. `host` is a name or address without brackets; `named`: the operator allowed it by its name."""

    scheme: str
    host: str
    port: int
    path: str
    named: bool

    @property
    def base(self) -> str:
        return f"{self.scheme}://{self.host}"


def check(uri: str, allowed: Allowed) -> Target:
    """Judge a URL by what it says; names are not looked up. Raises Refused."""
    if not uri.isascii() or not uri.isprintable() or " " in uri or len(uri) > 2048:
        raise Refused("Given URI is not a URL of printable ASCII characters")
    try:
        parts: SplitResult = urlsplit(uri)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise _filtered(uri, "it is not a URL") from None
    if parts.scheme not in PORTS or not host:
        raise _filtered(uri, "only http and https URLs with a host are fetched")
    if parts.username is not None or parts.password is not None:
        raise Refused("Given URI does not pass filtering: it holds a user name or password")
    target = Target(
        parts.scheme,
        host,
        PORTS[parts.scheme] if port is None else port,
        (parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
        allowed.name(host),
    )
    if target.named:
        return target
    bare = host.lower().rstrip(".")
    literal = _literal(bare)
    if literal is not None:
        _judge_port(target, literal, allowed)
        judge(literal, allowed, uri)
    elif (bare == "localhost" or bare.endswith(".localhost")) and not allowed.address(
        ipaddress.ip_address("127.0.0.1")
    ):
        raise _filtered(uri, "it is the cloud's own")
    elif target.port not in allowed.ports and not any(allowed._networks()):
        raise _filtered(uri, f"port {target.port} is not allowed")
    return target


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _filtered(uri: str, why: str) -> Refused:
    return Refused(f"Given URI '{uri[:256]}' does not pass filtering: {why}")


def _judge_port(target: Target, address: Address, allowed: Allowed) -> None:
    if target.port not in allowed.ports and not allowed.address(address):
        raise _filtered(target.base, f"port {target.port} is not allowed")


def judge(address: Address, allowed: Allowed, uri: str) -> None:
    """Raises Refused for an address that users must not reach through the cloud."""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        judge(address.ipv4_mapped, allowed, uri)
        return
    if allowed.address(address):
        return
    public = address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)
    if isinstance(address, ipaddress.IPv6Address):
        public = public and not (address.is_site_local or any(address in n for n in _TRANSLATED))
    if not public:
        raise _filtered(uri, f"{address} is not a public address")
    if _own(address):
        raise _filtered(uri, f"{address} is the cloud's own")


def _own(address: Address) -> bool:
    """Whether packets to `address` would not leave this machine. Nothing is sent to find out."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((str(address), 9))
        except OSError:
            return False
        return bool(probe.getsockname()[0] == str(address))


def _addresses(target: Target, allowed: Allowed) -> list[Address]:
    """Where the target is; all of its addresses may be reached. Raises Refused."""
    try:
        found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as e:
        raise Refused(f"Host {target.host} was not found") from e
    addresses = list(
        dict.fromkeys(ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found)
    )
    if not target.named:
        for address in addresses:
            judge(address, allowed, target.base)
            _judge_port(target, address, allowed)
    return addresses


class _Pinned(http.client.HTTPConnection):
    """A connection to one judged address, whatever the host's name means by now."""

    def __init__(self, target: Target, address: Address) -> None:
        super().__init__(target.host, target.port, timeout=READ_SECONDS)
        # Left out of the Host header where the scheme implies it, as servers with many names expect.
        self.default_port = PORTS[target.scheme]
        self._target, self._address = target, address

    def connect(self) -> None:
        plain = socket.create_connection((str(self._address), self._target.port), timeout=CONNECT_SECONDS)
        plain.settimeout(READ_SECONDS)
        self.sock: Any = plain
        if self._target.scheme == "https":
            self.sock = ssl.create_default_context().wrap_socket(plain, server_hostname=self._target.host)


class Body(Struct):
    """What arrives: `length` in bytes if the server told, and the bytes."""

    length: int | None
    chunks: Iterator[bytes]


@contextmanager
def fetch(uri: str, allowed: Allowed) -> Iterator[Body]:
    """The bytes at a URL. Raises Refused, also while they arrive: broken off, or not what was announced."""
    for _ in range(REDIRECTS + 1):
        target = check(uri, allowed)
        connection, response = _request(target, _addresses(target, allowed))
        try:
            if response.status in (301, 302, 303, 307, 308):
                uri = urljoin(uri, response.getheader("Location") or "")
                continue
            if response.status != 200:
                raise Refused(f"{target.host} answered {response.status}")
            if (response.getheader("Content-Encoding") or "identity").lower() != "identity":
                raise Refused(f"{target.host} sent the data encoded, which was not asked for")
            told = response.getheader("Content-Length") or ""
            length = int(told) if told.isdigit() and len(told) < 19 else None
            yield Body(length, _chunks(response, length, target.host))
            return
        finally:
            connection.close()
    raise Refused(f"There are more than {REDIRECTS} redirects")


def _request(target: Target, addresses: list[Address]) -> tuple[_Pinned, http.client.HTTPResponse]:
    why: Exception = OSError("it has no address")
    for address in addresses:
        connection = _Pinned(target, address)
        try:
            connection.request(
                "GET",
                target.path,
                headers={"Accept-Encoding": "identity", "User-Agent": "stackling", "Accept": "*/*"},
            )
            return connection, connection.getresponse()
        except (OSError, http.client.HTTPException, ValueError) as e:
            connection.close()
            why = e
    raise Refused(f"{target.host} can't be reached: {why}"[:300]) from why


def _chunks(response: http.client.HTTPResponse, length: int | None, host: str) -> Iterator[bytes]:
    seen = 0
    try:
        while chunk := response.read(CHUNK):
            seen += len(chunk)
            yield chunk
    except (OSError, http.client.HTTPException) as e:
        raise Refused(f"{host} broke off after {seen} bytes") from e
    if length is not None and seen != length:
        raise Refused(f"{host} broke off after {seen} of {length} bytes")
