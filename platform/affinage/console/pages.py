"""The routes of the console: the page, its files, signing in and out.

`GET /login?token=…` uses up a one-time link and sets a cookie that scripts cannot read and other sites cannot send. Every
change then also needs the session's CSRF token, which the page reads from `/console/session`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib import resources

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from affinage.serving.callers import Caller
from affinage.serving.parts import Parts, route
from affinage.serving.responses import json_response
from affinage.serving.sessions import COOKIE, SESSION_LIFE

# Scripts, styles and requests from this origin only; no inline code, no frame, no plugin, no form to elsewhere.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
_KINDS = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
FILES = ("console.css", "console.js", "words.js", "icon.svg")


def console_routes(parts: Parts) -> list[BaseRoute]:
    """The page at `/` and what it needs."""

    async def page(_request: Request) -> Response:
        return _file("index.html")

    async def login(request: Request) -> Response:
        cookie = parts.sessions.redeem(request.query_params.get("token", ""))
        if cookie is None:
            # The page says what to do; it does not say whether the link was used, old or never valid.
            return RedirectResponse("/?signin=failed", status_code=303, headers={"cache-control": "no-store"})
        response = RedirectResponse("/", status_code=303, headers={"cache-control": "no-store"})
        # `secure` would keep the cookie from a gateway on loopback without TLS; behind TLS the scheme says so.
        response.set_cookie(
            COOKIE,
            cookie,
            max_age=int(SESSION_LIFE.total_seconds()),
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
            path="/",
        )
        return response

    async def session(request: Request, caller: Caller) -> Response:
        found = parts.sessions.find(request.cookies.get(COOKIE))
        return json_response({"user": caller.user, "csrf": found.csrf if found is not None else None})

    async def logout(request: Request, _caller: Caller) -> Response:
        parts.sessions.close(request.cookies.get(COOKIE))
        response = json_response({"signed_out": True})
        response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
        return response

    return [
        Route("/", page),
        *(Route(f"/console/{name}", _file_endpoint(name)) for name in FILES),
        Route("/login", login),
        route(parts, "/console/session", session, methods=["GET"]),
        route(parts, "/console/logout", logout, methods=["POST"]),
    ]


def _file_endpoint(name: str) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(_request: Request) -> Response:
        return _file(name)

    return endpoint


def _file(name: str) -> Response:
    content = (resources.files("affinage.console") / "static" / name).read_bytes()
    headers = {"content-security-policy": POLICY, "cache-control": "no-cache"}
    return Response(content, media_type=_KINDS[name.rsplit(".", 1)[1]], headers=headers)
