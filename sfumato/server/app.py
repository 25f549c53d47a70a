"""The application: guard, requests, live sessions and the page, put together."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from http import HTTPStatus
from pathlib import Path

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.staticfiles import StaticFiles

from sfumato.avatar import Studio
from sfumato.server import refusal, routes, rtc, socket
from sfumato.server.guard import Guard
from sfumato.server.house import House
from sfumato.server.settings import ServerSettings
from sfumato.version import __version__

PAGE = Path(__file__).parent / "page"


def create_app(settings: ServerSettings, studio: Studio | None = None) -> FastAPI:
    """A server, loaded and warm; what its visitors share lies in ``app.state.house``.

    Args:
        settings: how it is set up.
        studio: networks that are loaded already.

    Raises:
        SfumatoError: As :meth:`sfumato.server.house.House.open`.
    """
    house = House.open(settings, studio)

    @contextlib.asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        house.begin()
        yield
        await house.close()

    app = FastAPI(
        title="Sfumato",
        version=__version__,
        description="A face for a voice: portraits, videos and live sessions.",
        openapi_url="/api/openapi.json",
        docs_url=None,  # both would load programs from other hosts
        redoc_url=None,
        lifespan=life,
    )
    app.state.house = house
    refusal.install(app)
    for router in (routes.router, socket.router, rtc.router):
        app.include_router(router)
    _add_page(app)
    app.add_middleware(Guard, hostnames=settings.hostnames, failed=house.metrics.failed)
    return app


def _add_page(app: FastAPI) -> None:
    """The files of the page, for all paths that nothing else has."""
    files = StaticFiles(directory=PAGE)

    @app.api_route("/{path:path}", methods=["GET", "HEAD"], include_in_schema=False)
    async def page(path: str, request: Request) -> Response:
        if "\0" in path:  # no file has such a name, and asking for one raises
            raise HTTPException(HTTPStatus.NOT_FOUND)
        response = await files.get_response(path or "index.html", request.scope)
        response.headers["Cache-Control"] = "no-cache"  # asked anew, answered by 304
        return response
