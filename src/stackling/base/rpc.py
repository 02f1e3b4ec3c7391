"""A driver's protocol over HTTPS: what is sent is derived from the protocol's own type hints.

    POST /<interface>/<method>   {"argument": value, …}
    200 {"result": value}        409 {"error": "<class>", "message": "…"}

Every driver call may be repeated, so a call whose reply is lost is simply sent again once. Errors come out of
the far call as the class that the near one would have raised.
"""

from __future__ import annotations

import http.client
import inspect
import ssl
import threading
import typing
from collections.abc import Callable
from typing import Any

import msgspec

from stackling.base import ca

CONNECT_SECONDS = 5.0
REPLY_SECONDS = 150.0
MAX_BODY = 16 << 20


class Method:
    """One method of a protocol: how its arguments and result look on the wire."""

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self.name = name
        hints = typing.get_type_hints(function)
        parameters = list(inspect.signature(function).parameters.values())[1:]
        self.returns = hints.get("return", type(None))
        self.names = tuple(parameter.name for parameter in parameters)
        fields: list[Any] = [
            (parameter.name, hints[parameter.name])
            if parameter.default is parameter.empty
            else (parameter.name, hints[parameter.name], parameter.default)
            for parameter in parameters
        ]
        self.arguments = msgspec.defstruct(
            f"{name}_arguments", fields, frozen=True, kw_only=True, forbid_unknown_fields=True
        )
        self.decode_arguments = msgspec.json.Decoder(self.arguments).decode
        self.decode_result = msgspec.json.Decoder(_result_of(name, self.returns)).decode


class Failure(msgspec.Struct):
    """An error on the wire."""

    error: str
    message: str


class Interface:
    """A protocol made ready for the wire.

    `errors` are the classes that its methods raise; `unavailable` is the one among them for a far side that does
    not answer. Methods in `local` cannot travel (they take a callback).
    """

    def __init__(
        self,
        name: str,
        protocol: type,
        errors: tuple[type[Exception], ...],
        unavailable: type[Exception],
        local: frozenset[str] = frozenset(),
    ) -> None:
        self.name = name
        self.errors = {error.__name__: error for error in errors}
        self.unavailable = unavailable
        self.methods = {
            method: Method(method, function)
            for method, function in vars(protocol).items()
            if inspect.isfunction(function) and not method.startswith("_") and method not in local
        }

    def error_name(self, error: Exception) -> str | None:
        """The nearest class of `error` that the far side knows; None for none."""
        for kind in type(error).__mro__:
            if kind.__name__ in self.errors and self.errors[kind.__name__] is kind:
                return kind.__name__
        return None


class Transport:
    """HTTPS connections to one node, one per calling thread, kept open between calls."""

    def __init__(self, host: str, port: int, context: ssl.SSLContext, role: str = "node") -> None:
        self._host, self._port = host, port
        self._context = context
        self._role = role
        self._mine = threading.local()

    @property
    def address(self) -> str:
        """Where the node is."""
        return f"{self._host}:{self._port}"

    def post(self, path: str, body: bytes, timeout: float = REPLY_SECONDS) -> tuple[int, bytes]:
        """Send a call and return status and body. OSError or HTTPException: no answer, even on a second try."""
        kept: http.client.HTTPSConnection | None = getattr(self._mine, "connection", None)
        if kept is not None:
            try:
                return self._exchange(kept, path, body, timeout)
            except TimeoutError:
                self._forget(kept)
                raise
            except (OSError, http.client.HTTPException):
                # The node closed an idle connection, or was started anew.
                self._forget(kept)
        fresh = self._connect()
        try:
            return self._exchange(fresh, path, body, timeout)
        except BaseException:
            self._forget(fresh)
            raise

    def _connect(self) -> http.client.HTTPSConnection:
        connection = http.client.HTTPSConnection(
            self._host, self._port, timeout=CONNECT_SECONDS, context=self._context
        )
        connection.connect()
        peer = connection.sock.getpeercert() if isinstance(connection.sock, ssl.SSLSocket) else None
        if self._role not in ca.roles_of(peer):
            connection.close()
            raise ConnectionError(f"{self.address} has no certificate of a {self._role}")
        self._mine.connection = connection
        return connection

    def _exchange(
        self, connection: http.client.HTTPSConnection, path: str, body: bytes, timeout: float
    ) -> tuple[int, bytes]:
        if connection.sock is not None:
            connection.sock.settimeout(timeout)
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        with connection.getresponse() as response:
            return response.status, response.read(MAX_BODY)

    def _forget(self, connection: http.client.HTTPSConnection) -> None:
        self._mine.connection = None
        connection.close()


class Remote:
    """The near end of an interface: has its methods, and sends each call through `transport`."""

    def __init__(self, interface: Interface, transport: Transport) -> None:
        self._interface = interface
        self._transport = transport
        for method in interface.methods.values():
            setattr(self, method.name, self._caller(method))

    def _caller(self, method: Method) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            named = dict(zip(method.names, args, strict=False)) | kwargs
            body = msgspec.json.encode(method.arguments(**named))
            return self._call(method, body, REPLY_SECONDS + float(named.get("wait", 0)))

        call.__name__ = method.name
        return call

    def _call(self, method: Method, body: bytes, timeout: float) -> Any:
        unavailable, where = self._interface.unavailable, self._transport.address
        try:
            status, answer = self._transport.post(f"/{self._interface.name}/{method.name}", body, timeout)
        except (OSError, http.client.HTTPException) as error:
            raise unavailable(
                f"The node at {where} does not answer: {error or type(error).__name__}"
            ) from error
        try:
            if status == 200:
                return method.decode_result(answer).result
            failure = msgspec.json.decode(answer, type=Failure)
        except msgspec.MsgspecError as error:
            raise unavailable(
                f"The node at {where} answered {method.name} with nonsense ({status})"
            ) from error
        kind = self._interface.errors.get(failure.error, unavailable) if status == 409 else unavailable
        raise kind(failure.message)


def _result_of(name: str, returns: Any) -> Any:
    return msgspec.defstruct(f"{name}_result", [("result", returns)])


def answer(interface: Interface, driver: object, method_name: str, body: bytes) -> tuple[int, bytes]:
    """The far end: call `driver` as `body` says. Status and body of the reply; unexpected errors are raised."""
    method = interface.methods.get(method_name)
    if method is None:
        return 404, msgspec.json.encode(
            Failure("NoSuchMethod", f"{interface.name} has no {method_name[:64]!r}")
        )
    try:
        arguments = method.decode_arguments(body)
    except msgspec.MsgspecError as error:
        return 400, msgspec.json.encode(Failure("BadArguments", f"{method.name}: {error}"))
    try:
        result = getattr(driver, method.name)(**{name: getattr(arguments, name) for name in method.names})
    except Exception as error:
        kind = interface.error_name(error)
        if kind is None:
            raise
        return 409, msgspec.json.encode(Failure(kind, str(error)))
    return 200, msgspec.json.encode({"result": result})
