"""LDAP as Active Directory speaks it where OpenLDAP doesn't: a proxy that gives values in parts, and says why it refuses."""

import socket
import threading
from contextlib import suppress
from typing import Any

from pyasn1.codec.ber import decoder, encoder
from pyasn1_modules import rfc2251

PART = 3  # values at once; Windows: 1,500
REFUSES = "80090308: LdapErr: DSID-0C0903A9, comment: AcceptSecurityContext error, data 532, v1db1"
_BIND_RESPONSE, _SEARCH_REQUEST, _SEARCH_ENTRY = 0x61, 0x63, 0x64


class AdLimits:
    """Serves `url` in front of the server at `port`. `asked` are the names of attributes that were asked for."""

    def __init__(self, port: int) -> None:
        self.asked: list[str] = []
        self._behind = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"ldap://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._behind))
            starts: dict[int, int] = {}  # by message: the first value that was asked for
            for one, other, change in ((client, server, self._request), (server, client, self._answer)):
                threading.Thread(target=self._pass, args=(one, other, change, starts), daemon=True).start()

    def _pass(self, one: socket.socket, other: socket.socket, change: Any, starts: dict[int, int]) -> None:
        # Both directions close both ends: what one of them is about may be closed under it when a side goes.
        with suppress(OSError), one, other, one.makefile("rb") as said:
            while message := _message(said):
                other.sendall(change(message, starts))
            other.shutdown(socket.SHUT_RDWR)

    def _request(self, message: bytes, starts: dict[int, int]) -> bytes:
        if _operation(message) != _SEARCH_REQUEST:
            return message
        made = _decoded(message)
        wanted = made["protocolOp"]["searchRequest"]["attributes"]
        for place, name in enumerate(str(n) for n in wanted):
            self.asked.append(name)
            attribute, _, reach = name.partition(";range=")
            if reach:
                starts[int(made["messageID"])] = int(reach.partition("-")[0])
                wanted[place] = attribute
        return bytes(encoder.encode(made))

    def _answer(self, message: bytes, starts: dict[int, int]) -> bytes:
        if _operation(message) == _BIND_RESPONSE:
            made = _decoded(message)
            if made["protocolOp"]["bindResponse"]["resultCode"] == 49:
                made["protocolOp"]["bindResponse"]["errorMessage"] = REFUSES
            return bytes(encoder.encode(made))
        if _operation(message) != _SEARCH_ENTRY:
            return message
        made = _decoded(message)
        given = made["protocolOp"]["searchResEntry"]["attributes"]
        start = starts.get(int(made["messageID"]))
        for one in list(given):
            values = [bytes(v) for v in one["vals"]]
            if len(values) <= PART and start is None:
                continue
            first = start or 0
            last = "*" if first + PART >= len(values) else str(first + PART - 1)
            name = str(one["type"])
            if start is None:
                one["vals"].clear()  # it stands there as well, empty
                one = given.getComponentByPosition(len(given))
            one["type"] = f"{name};range={first}-{last}"
            one["vals"].clear()
            one["vals"].extend(values[first : first + PART])
        return bytes(encoder.encode(made))


def _message(said: Any) -> bytes:
    """The next message; none when the connection ends."""
    head = said.read(2)
    if len(head) < 2:
        return b""
    length = head[1]
    if length & 0x80:
        more = said.read(length & 0x7F)
        head, length = head + more, int.from_bytes(more)
    return head + bytes(said.read(length))


def _operation(message: bytes) -> int:
    """The tag of what stands after the message's number."""
    at = 2 + (message[1] & 0x7F if message[1] & 0x80 else 0)
    return message[at + 2 + message[at + 1]]


def _decoded(message: bytes) -> Any:
    return decoder.decode(message, asn1Spec=rfc2251.LDAPMessage())[0]
