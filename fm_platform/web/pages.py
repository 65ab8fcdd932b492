"""What our own pages share: answers in JSON, errors in words, and a strict content policy."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from fm_platform.errors import BranchError, FMError, RefError
from fm_platform.web.lineage.inert import inert

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'"
)
"""No inline script, nothing from elsewhere, and no text that becomes markup."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """An answer that is JSON already."""

    body: bytes


def prepared(value: Any) -> Prepared:
    """Return an answer as JSON, made once."""
    return Prepared(json.dumps(value, separators=(",", ":")).encode())


def answer(ask: Callable[[Request], Any]) -> Callable[[Request], Response]:
    """Return an endpoint that answers with inert JSON, and tells errors in words."""

    def endpoint(request: Request) -> Response:
        return told(request, lambda: ask(request))

    return endpoint


def told(request: Request, ask: Callable[[], Any]) -> Response:
    """Return what `ask` gives as inert JSON, or its error."""
    try:
        value = ask()
    except FMError as error:
        status = 404 if isinstance(error, (RefError, BranchError)) else 409
        return JSONResponse({"error": in_words(error)}, status)
    except Exception:
        _log.exception("%s failed", request.url.path)
        words = {"message": "the server failed at this", "next": "its log tells why"}
        return JSONResponse({"error": words}, 500)
    if isinstance(value, Prepared):
        return Response(value.body, media_type="application/json")
    return JSONResponse(inert(value))


def in_words(error: FMError) -> dict[str, Any]:
    """Return what a page shows of an error."""
    words = {
        "message": error.message, "expected": error.expected, "found": error.found,
        "where": error.where, "next": error.next_step,
    }  # fmt: skip
    return {key: inert(str(value)) for key, value in words.items() if value is not None}


def with_policy(app: ASGIApp) -> ASGIApp:
    """Return an application whose every answer carries the content policy."""

    async def wrapped(scope: Any, receive: Any, send: Any) -> None:
        async def sending(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = dict(message)
                message["headers"] = [
                    *message.get("headers", ()),
                    (b"content-security-policy", POLICY.encode()),
                    (b"cache-control", b"no-cache"),
                ]
            await send(message)

        await app(scope, receive, sending)

    return wrapped
