"""The pages that browsers see while logging in: a form that sends itself."""

import base64
import hashlib
import html

from falcon import Response

from stackling.identity.actions.token import Token

_SCRIPT = "document.forms[0].submit()"
_SCRIPT_HASH = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
# A dashboard takes the token as a form that the browser sends, as Keystone's own page does.
_PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>Logging in</title></head>
<body>
<form method="post" action="{action}">
{fields}
<noscript><button type="submit">Go on</button></noscript>
</form>
<script>{script}</script>
</body>
</html>
"""


def private(resp: Response) -> None:
    """Nobody keeps the answer, or tells where it came from."""
    resp.set_header("Cache-Control", "no-store")
    resp.set_header("Referrer-Policy", "no-referrer")


def form(resp: Response, action: str, values: dict[str, str]) -> None:
    """Answer with a form that sends `values` to `action`; an empty one is where the browser is."""
    resp.content_type = "text/html; charset=utf-8"
    resp.set_header("Content-Security-Policy", f"default-src 'none'; script-src 'sha256-{_SCRIPT_HASH}'")
    fields = "\n".join(
        f'<input type="hidden" name="{html.escape(name, quote=True)}" value="{html.escape(value, quote=True)}">'
        for name, value in values.items()
    )
    resp.text = _PAGE.format(action=html.escape(action, quote=True), fields=fields, script=_SCRIPT)


def cookie(resp: Response, name: str, value: str, *, path: str, seconds: int, secure: bool) -> None:
    """Have the browser keep `value` for its way back, which is a link from another site: Strict would not be sent."""
    resp.set_cookie(name, value, max_age=seconds, path=path, secure=secure, http_only=True, same_site="Lax")


def show_token(resp: Response, made: Token) -> None:
    """Answer with a token as a login does."""
    resp.status, resp.content_type = "201 Created", "application/json"
    resp.data = made.encoded(True)
    resp.set_header("X-Subject-Token", made.text)
