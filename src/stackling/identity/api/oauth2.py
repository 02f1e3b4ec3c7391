"""/v3/OS-OAUTH2/token: OAuth2 client credentials. Errors are those of RFC 6749, section 5.2."""

import base64
import binascii
import math
from typing import NamedTuple
from urllib.parse import parse_qs, unquote_plus

from falcon import Request, Response

from stackling.base import peer, rest
from stackling.base.errors import BadRequest, Error, Forbidden, Unauthorized
from stackling.identity.actions import login_rate, oauth2
from stackling.identity.actions.login import UserRef
from stackling.identity.actions.token import Token
from stackling.identity.api.resource import Resource


class _Client(NamedTuple):
    id: str
    secret: str


class AccessToken(Resource):
    """/v3/OS-OAUTH2/token"""

    public = True  # this is how a client gets a token
    audited = {"POST": "authenticate"}

    def on_post(self, req: Request, resp: Response) -> None:
        resp.set_header("Cache-Control", "no-store")
        try:
            made = self._login(req)
        except _Problem as e:
            self._refuse(req, resp, e)
            return
        except (Unauthorized, Forbidden):
            self._refuse(req, resp, _Problem("invalid_client", "Client authentication failed."))
            return
        left = made.payload.expires_at - self.cloud.clock.now()
        resp.media = {
            "access_token": made.text,
            "token_type": "Bearer",
            "expires_in": math.floor(left.total_seconds()),
        }

    def _login(self, req: Request) -> Token:
        form = _form(req)
        grant = form.get("grant_type")
        if grant is None:
            raise _Problem("invalid_request", "The parameter grant_type is required.")
        if grant != "client_credentials":
            says = f"The parameter grant_type {grant[:64]} is not supported."
            raise _Problem("unsupported_grant_type", says)
        certificate = peer.certificate(req, self.cloud.config.api)
        client = _basic(req) if certificate is None else None
        client_id = client.id if client else form.get("client_id", "")
        if not client_id:
            raise Unauthorized(detail="no client id")
        near = peer.address(req, self.cloud.config.api)
        login_rate.check(self.cloud, near, [UserRef(id=client_id)])
        if certificate is not None:
            return oauth2.by_certificate(self.cloud, client_id, certificate)
        secret = client.secret if client else form.get("client_secret", "")
        return oauth2.by_secret(self.cloud, client_id, secret)

    def _refuse(self, req: Request, resp: Response, problem: "_Problem") -> None:
        resp.status = "400 Bad Request"
        resp.media = {"error": problem.word, "error_description": problem.says}
        if problem.word == "invalid_client":
            resp.status = "401 Unauthorized"
            resp.set_header(
                "WWW-Authenticate", f'Keystone uri="{rest.base_url(req, self.cloud)}/identity/v3"'
            )


class _Problem(Error):
    """An error under the word that RFC 6749 has for it."""

    def __init__(self, word: str, says: str) -> None:
        super().__init__(says)
        self.word = word


def _form(req: Request) -> dict[str, str]:
    if (req.content_type or "").partition(";")[0].strip() != "application/x-www-form-urlencoded":
        raise _Problem("invalid_request", "The body is a form: application/x-www-form-urlencoded.")
    try:
        pairs = parse_qs(rest.raw_body(req).decode(), keep_blank_values=True, max_num_fields=20)
    except (UnicodeDecodeError, ValueError):
        raise _Problem("invalid_request", "The form can't be read.") from None
    twice = next((name for name, values in pairs.items() if len(values) > 1), None)
    if twice is not None:
        raise _Problem("invalid_request", f"The parameter {twice[:64]} is given more than once.")
    if any("\0" in text for pair in pairs.items() for text in (pair[0], *pair[1])):
        raise BadRequest("Malformed request body: a text holds a NUL character.")
    return {name: values[0] for name, values in pairs.items()}


def _basic(req: Request) -> _Client | None:
    """Client id and secret of the header `Authorization: Basic` (RFC 6749, section 2.3.1)."""
    kind, _, text = (req.get_header("Authorization") or "").partition(" ")
    if kind.lower() != "basic":
        return None
    try:
        name, _, secret = base64.b64decode(text.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise _Problem("invalid_request", "The header Authorization can't be read.") from None
    if "\0" in name:
        raise _Problem("invalid_request", "The client id holds a NUL character.")
    return _Client(unquote_plus(name), unquote_plus(secret))


ROUTES = (("/v3/OS-OAUTH2/token", AccessToken),)
