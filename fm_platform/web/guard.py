"""A guard in front of a web server that trusts whoever reaches it.

The Dagster web server has no login, accepts mutations by GET, and does not look at `Host` or
`Origin`: any web page that a developer opens could start runs on her machine. This ASGI
middleware refuses what a browser can be tricked into sending:

* a `Host` that is not one of the allowed names (DNS rebinding);
* an `Origin`, `Referer` or `Sec-Fetch-Site` of another site, also on WebSockets;
* GraphQL by GET, and by POST with any content type but JSON (no preflight for those);
* the `report_asset_…` endpoints without the token; for a page of ours that writes, every request
  that is no GET, unless it names this server as its origin, brings the token and JSON;
* bodies over the limit; and it forbids framing of every page.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY_BYTES = 5 * 1024 * 1024
TOKEN_HEADER = "x-fm-token"  # noqa: S105 - the name of a header
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


class Guard:
    """ASGI middleware: see the module.

    Args:
        app: The application behind.
        hosts: Allowed values of the Host header, with port, e.g. `127.0.0.1:3000`.
        token: Secret that the report endpoints ask for.
        writes: Whether all that is no GET needs it, with an origin of this server and JSON.
    """

    def __init__(
        self, app: ASGIApp, hosts: Iterable[str], token: str, *, writes: bool = False
    ) -> None:
        self.app = app
        self.hosts = frozenset(host.lower() for host in hosts)
        self._token, self._writes = token, writes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        refusal = self.refusal(scope)
        if refusal is None:
            await self.app(scope, _capped(receive), _with_headers(send, scope["type"]))
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": refusal[1]})
        else:
            status, reason = refusal
            response = JSONResponse({"refused": reason}, status_code=status)
            await response(scope, receive, send)

    def refusal(self, scope: Scope) -> tuple[int, str] | None:
        """Return (status, reason) where the request must not pass, else None."""
        headers = Headers(scope=scope)
        if len(headers.getlist("host")) != 1 or headers["host"].lower() not in self.hosts:
            return 403, "this server answers only to its own name on this machine"
        foreign = self._foreign(headers)
        if foreign is not None:
            return 403, foreign
        if scope["type"] == "websocket":
            return None
        return self._wrong_request(scope, headers)

    def _foreign(self, headers: Headers) -> str | None:
        if "origin" in headers and not self._own(headers["origin"]):
            return "requests of another site are refused"
        if headers.get("sec-fetch-site", "none") == "cross-site" and not _navigation(headers):
            return "requests that another site makes are refused"
        return None

    def _wrong_request(self, scope: Scope, headers: Headers) -> tuple[int, str] | None:
        path = scope["path"].rstrip("/")
        method = scope["method"]
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > MAX_BODY_BYTES:
            return 413, f"a body may hold {MAX_BODY_BYTES} bytes"
        if "/report_asset" in path or path.startswith("/report_"):
            return self._without_token(headers)
        if self._writes and method not in SAFE_METHODS:
            if "origin" not in headers:
                return 403, "a request that changes something must name its origin"
            if _kind(headers) != "application/json":
                return 415, "what changes something is asked by POST with a JSON body"
            return self._without_token(headers)
        if path.endswith("/graphql"):
            query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
            if "query" in query or (method not in (*SAFE_METHODS, "POST")):
                return 405, "GraphQL is asked by POST with a JSON body"
            if method == "POST" and _kind(headers) != "application/json":
                return 415, "GraphQL is asked by POST with a JSON body"
        if method not in SAFE_METHODS and not self._same_referer(headers):
            return 403, "requests of another site are refused"
        return None

    def _without_token(self, headers: Headers) -> tuple[int, str] | None:
        given = headers.get(TOKEN_HEADER, "")
        if self._token and hmac.compare_digest(given.encode(), self._token.encode()):
            return None
        return 401, f"this endpoint needs the header {TOKEN_HEADER}"

    def _same_referer(self, headers: Headers) -> bool:
        return "referer" not in headers or self._own(headers["referer"])

    def _own(self, url: str) -> bool:
        try:
            parts = urlsplit(url)
        except ValueError:
            return False
        return parts.scheme in ("http", "https") and parts.netloc.lower() in self.hosts


def loopback_hosts(port: int) -> tuple[str, ...]:
    """Return the names under which a server on this machine is asked for."""
    names = ("127.0.0.1", "localhost", "[::1]")
    return tuple(f"{name}:{port}" for name in names) + (names if port == 80 else ())


def _kind(headers: Headers) -> str:
    return headers.get("content-type", "").split(";")[0].strip().lower()


def _navigation(headers: Headers) -> bool:
    """A person following a link: a top-level page load, which changes nothing."""
    return (
        headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
    )


def _with_headers(send: Send, kind: str) -> Send:
    async def wrapped(message: Message) -> None:
        if kind == "http" and message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["X-Frame-Options"] = "DENY"
            headers["Referrer-Policy"] = "same-origin"
            headers["X-Content-Type-Options"] = "nosniff"
            policy = headers.get("content-security-policy")
            if policy is None:
                headers["Content-Security-Policy"] = "frame-ancestors 'none'"
            elif "frame-ancestors" not in policy:
                headers["Content-Security-Policy"] = (
                    f"{policy.rstrip('; ')}; frame-ancestors 'none'"
                )
        await send(message)

    return wrapped


def _capped(receive: Receive) -> Receive:
    """Stop a body that grows past the limit without saying so beforehand."""
    seen = 0

    async def wrapped() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b"")) if message["type"] == "http.request" else 0
        if seen > MAX_BODY_BYTES:
            return {"type": "http.disconnect"}
        return message

    return wrapped
