"""A small OpenID provider on loopback: metadata, keys, the code flow with PKCE, and tokens signed as a test wants them."""

import base64
import contextlib
import hashlib
import json
import threading
import time
import urllib.parse
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, RSAKey
from joserfc.jws import JWSRegistry

CLIENT_ID, CLIENT_SECRET = "dashboard", "s3cret:/?"
AUDIENCE = "the-cloud"


class OidcProvider:
    """Serves from construction to `close`. `asked` counts the requests to each path."""

    def __init__(self) -> None:
        self.keys = [
            RSAKey.generate_key(2048, {"kid": "rsa-1", "use": "sig"}),
            ECKey.generate_key("P-256", {"kid": "ec-1"}),
        ]
        self.claims: dict[str, Any] = {"preferred_username": "ada", "groups": ["dev"]}
        self.asked: dict[str, int] = {}
        self.claimed_issuer: str | None = None
        self.down = False
        self.codes: dict[str, dict[str, str]] = {}
        self.opaque: dict[
            str, dict[str, Any]
        ] = {}  # tokens that only we can read, and what introspection says
        self.told: dict[str, Any] = {}  # by userinfo, beside the subject
        self.publishes: tuple[str, ...] = ()  # endpoints beyond those that every provider has
        self.slow = 0.0  # seconds that it lets askers wait
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.issuer = f"http://127.0.0.1:{self._server.server_port}/realm"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def token(
        self, *, key: Any = None, alg: str | None = None, header: dict[str, Any] | None = None, **claims: Any
    ) -> str:
        """A signed token; claims that are None are left out."""
        key = key or self.keys[0]
        alg = alg or {"RSA": "RS256", "EC": "ES256", "OKP": "Ed25519", "oct": "HS256"}[key.key_type]
        now = int(time.time())
        base = {"iss": self.issuer, "sub": "77", "aud": AUDIENCE, "exp": now + 300, "iat": now, **self.claims}
        made = {k: v for k, v in {**base, **claims}.items() if v is not None}
        head = {"alg": alg, **({"kid": key.kid} if key.kid else {}), **(header or {})}
        registry = JWSRegistry(algorithms=[alg], strict_check_header=False)
        return jwt.encode({k: v for k, v in head.items() if v is not None}, made, key, registry=registry)

    def authorize(self, url: str) -> dict[str, str]:
        """What a browser does at `url` once its user has logged in: the parameters it is sent back with."""
        asked = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(url).query))
        assert asked["response_type"] == "code"
        assert asked["client_id"] == CLIENT_ID
        assert asked["code_challenge_method"] == "S256"
        assert "openid" in asked["scope"].split()
        code = uuid.uuid4().hex
        self.codes[code] = asked
        return {"state": asked["state"], "code": code}

    def _grant(self, form: dict[str, str], authorization: str) -> tuple[int, dict[str, Any]]:
        """Access tokens for command lines, as JWTs; codes are for browsers."""
        kind = form.get("grant_type", "")
        if kind == "authorization_code":
            return self._redeem(form, authorization)
        if base64.b64decode(authorization.removeprefix("Basic ")).decode() != f"{CLIENT_ID}:{CLIENT_SECRET}":
            return 401, {"error": "invalid_client"}
        made: dict[str, Any] = {}
        if kind == "password":
            if (form.get("username"), form.get("password")) != ("ada", "ada-pw"):
                return 400, {"error": "invalid_grant"}
        elif kind == "client_credentials":
            made = {"sub": "robot", "preferred_username": "robot"}
        elif kind == "urn:ietf:params:oauth:grant-type:device_code":
            self.polls += 1
            if self.polls < 2:
                return 400, {"error": "authorization_pending"}
        else:
            return 400, {"error": "unsupported_grant_type"}
        return 200, {"access_token": self.token(**made), "token_type": "Bearer", "expires_in": 300}

    def _introspect(self, form: dict[str, str], authorization: str) -> tuple[int, Any]:
        """RFC 7662."""
        pair = base64.b64decode(authorization.removeprefix("Basic ")).decode().split(":")
        if [urllib.parse.unquote(p) for p in pair] != [CLIENT_ID, CLIENT_SECRET]:
            return 401, {"error": "invalid_client"}
        assert form["token_type_hint"] == "access_token"
        return 200, self.opaque.get(form["token"], {"active": False})

    def _userinfo(self, authorization: str) -> tuple[int, dict[str, Any]]:
        text = authorization.removeprefix("Bearer ")
        found = self.opaque.get(text) or ({"sub": "77"} if text.count(".") == 2 or text == "opaque" else None)
        if found is None or not found.get("active", True):
            return 401, {"error": "invalid_token"}
        return 200, {"sub": found.get("sub"), **self.told}

    polls = 0

    def _device(self) -> tuple[int, dict[str, Any]]:
        made = {"device_code": "d", "user_code": "WXYZ", "verification_uri": f"{self.issuer}/device"}
        return 200, {**made, "expires_in": 60, "interval": 0}

    def _redeem(self, form: dict[str, str], authorization: str) -> tuple[int, dict[str, Any]]:
        pair = base64.b64decode(authorization.removeprefix("Basic ")).decode().split(":")
        if [urllib.parse.unquote(p) for p in pair] != [CLIENT_ID, CLIENT_SECRET]:
            return 401, {"error": "invalid_client"}
        asked = self.codes.pop(form.get("code", ""), None)
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if (
            asked is None
            or asked["code_challenge"] != challenge
            or asked["redirect_uri"] != form.get("redirect_uri")
        ):
            return 400, {"error": "invalid_grant"}
        made = {"aud": CLIENT_ID, "nonce": asked["nonce"]}
        return 200, {
            "access_token": "opaque",
            "token_type": "Bearer",
            "id_token": self.token(**{**made, **self.id_claims}),
        }

    id_claims: dict[str, Any] = {}

    def _handler(provider) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                pass

            def answer(self, status: int, body: Any) -> None:
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def dribble(self) -> None:
                """An answer that comes one character at a time, each before anybody's patience with it ends."""
                self.send_response(200)
                self.send_header("Content-Length", "10000")
                self.end_headers()
                with contextlib.suppress(OSError):
                    for _ in range(10000):
                        self.wfile.write(b" ")
                        time.sleep(provider.slow)

            def do_GET(self) -> None:
                provider.asked[self.path] = provider.asked.get(self.path, 0) + 1
                root = provider.issuer
                if provider.down:
                    self.answer(503, {})
                elif self.path == "/realm/userinfo":
                    self.answer(*provider._userinfo(self.headers.get("Authorization", "")))
                elif self.path == "/realm/.well-known/openid-configuration":
                    self.answer(
                        200,
                        {
                            "issuer": provider.claimed_issuer or root,
                            "jwks_uri": f"{root}/keys",
                            "authorization_endpoint": f"{root}/authorize",
                            "token_endpoint": f"{root}/token",
                            "device_authorization_endpoint": f"{root}/device",
                            **{f"{name}_endpoint": f"{root}/{name}" for name in provider.publishes},
                        },
                    )
                elif self.path == "/realm/keys":
                    self.answer(200, KeySet(provider.keys).as_dict())
                elif self.path == "/realm/away":
                    self.send_response(302)
                    self.send_header("Location", f"{root}/keys")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                else:
                    self.answer(404, {})

            def do_POST(self) -> None:
                form = dict(
                    urllib.parse.parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode())
                )
                provider.asked[self.path] = provider.asked.get(self.path, 0) + 1
                if self.path == "/realm/introspection":
                    if provider.slow:
                        self.dribble()
                    elif provider.down:
                        self.answer(503, {})
                    else:
                        self.answer(*provider._introspect(form, self.headers.get("Authorization", "")))
                    return
                if self.path == "/realm/device":
                    self.answer(*provider._device())
                    return
                self.answer(*provider._grant(form, self.headers.get("Authorization", "")))

        return Handler
