"""Who may ask, and what pages may do: other sites can neither use the server nor look at it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from http import HTTPStatus
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sfumato.server.refusal import answer

LOOPBACK = ("localhost", "127.0.0.1", "::1")
_READING = {"GET", "HEAD", "OPTIONS"}
_PAGE = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob:",
        "media-src 'self' blob: mediastream:",
        "connect-src 'self'",
        "worker-src 'self'",
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
_HEADERS = {
    "Content-Security-Policy": _PAGE,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(self), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def same_host(headers: Headers) -> bool:
    """Programs send no Origin; a page must come from this server."""
    origin = headers.get("origin")
    if origin is None:
        return True
    with contextlib.suppress(ValueError):  # no address at all
        return urlsplit(origin).netloc == headers.get("host")
    return False


class Guard:
    """Around the whole application.

    Args:
        app: what is guarded.
        hostnames: names under which it may be asked, None is any. A page of another site can point
            its own name at this machine; its browser then takes the two for the same host.
        failed: called with the status of every answer that is an error.
    """

    def __init__(
        self, app: ASGIApp, hostnames: tuple[str, ...] | None, failed: Callable[[int], None]
    ) -> None:
        self._app = app
        self._failed = failed
        self._hostnames = hostnames

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request or WebSocket."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refusal = self._refusal(scope, headers)
        if refusal is None:
            await self._app(scope, receive, self._dressed(send))
        elif scope["type"] == "http":
            await answer(HTTPStatus.FORBIDDEN, refusal)(scope, receive, self._dressed(send))
        else:
            await send({"type": "websocket.close", "code": 1008, "reason": refusal})

    def _refusal(self, scope: Scope, headers: Headers) -> str | None:
        name = None
        with contextlib.suppress(ValueError):
            name = urlsplit(f"//{headers.get('host', '')}").hostname
        if self._hostnames is not None and name not in self._hostnames:
            return f"this server does not go by the name {name}: start it with --hostname {name}"
        changes = scope["type"] == "http" and scope["method"] not in _READING
        if changes and not same_host(headers):
            return "pages of other sites may not use this server"
        return None

    def _dressed(self, send: Send) -> Send:
        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                if message["status"] >= HTTPStatus.BAD_REQUEST:
                    self._failed(message["status"])
            await send(message)

        return sent
