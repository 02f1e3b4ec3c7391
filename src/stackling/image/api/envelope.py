"""Errors as this API words them: JSON for those who ask for it, else a small HTML page."""

import html

import falcon

from stackling.base.errors import QuotaExceeded
from stackling.base.rest import Envelope, Problem


def envelope(problem: Problem) -> Envelope:
    status = 413 if isinstance(problem.error, QuotaExceeded) else problem.status
    code = falcon.code_to_http_status(status)
    title = code.partition(" ")[2]
    says = problem.error.says
    if "json" in problem.accept:
        detail = "" if problem.kind in ("route", "method") else html.escape(says, quote=False)
        return Envelope(
            {"message": f"{detail}<br /><br />\n\n\n", "code": code, "title": title}, status=status
        )
    page = (
        f"<html>\n <head>\n  <title>{code}</title>\n </head>\n <body>\n  <h1>{code}</h1>\n"
        f"  {html.escape(says, quote=False)}<br /><br />\n\n\n\n </body>\n</html>"
    )
    return Envelope(text=page, content_type="text/html; charset=UTF-8", status=status)
