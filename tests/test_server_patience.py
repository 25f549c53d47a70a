"""Connections that would hold the server up are cut off, all others are left alone."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import time
from collections.abc import Iterator

import pytest

pytest.importorskip("fastapi", reason="needs the extra: server")
pytest.importorskip("uvicorn", reason="needs the extra: server")

import bad_visitors as bad  # noqa: E402
import uvicorn  # noqa: E402
from bad_visitors import PING, Visitor, framed  # noqa: E402
from starlette.applications import Starlette  # noqa: E402
from starlette.requests import Request  # noqa: E402
from starlette.responses import Response, StreamingResponse  # noqa: E402
from starlette.routing import Route, WebSocketRoute  # noqa: E402
from starlette.websockets import WebSocket  # noqa: E402

from sfumato.protocol import Kind  # noqa: E402
from sfumato.server import patience  # noqa: E402

pytestmark = [
    pytest.mark.unit,
    pytest.mark.skipif(sys.platform != "linux", reason="cut lines are found out with Linux' poll"),
]

SHORT = 0.4


class Place:
    """A small server that sends without end, and knows who is there."""

    def __init__(self) -> None:
        self.here = 0
        routes = [Route("/", self.page), Route("/file", self.file)]
        app = Starlette(routes=[*routes, WebSocketRoute("/live", self.live)])
        http, ws = patience.protocols()
        self.server = uvicorn.Server(
            uvicorn.Config(app, port=0, http=http, ws=ws, log_level="error", lifespan="off")
        )

    @property
    def port(self) -> int:
        while not self.server.started:
            time.sleep(0.01)
        port: int = self.server.servers[0].sockets[0].getsockname()[1]
        return port

    async def page(self, request: Request) -> Response:
        await asyncio.sleep(3 * SHORT)  # an answer may take its time
        return Response("here")

    async def file(self, request: Request) -> Response:
        async def endless() -> object:
            self.here += 1
            try:
                while True:
                    yield bytes(10_000)
                    await asyncio.sleep(0)
            finally:
                self.here -= 1

        return StreamingResponse(endless())

    async def live(self, socket: WebSocket) -> None:
        await socket.accept()
        self.here += 1
        try:
            while True:
                await socket.send_bytes(bytes([Kind.STATE]) + bytes(10_000))
                await asyncio.sleep(0.001)
        except Exception:  # gone
            self.here -= 1


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    for name in ("TAKING", "LOADING", "ASKING"):
        monkeypatch.setattr(patience, name, SHORT)
    place = Place()
    thread = threading.Thread(target=place.server.run)
    thread.start()
    yield place
    place.server.force_exit = place.server.should_exit = True
    thread.join()


def left(place: Place) -> bool:
    end = time.monotonic() + 10
    while place.here and time.monotonic() < end:
        time.sleep(0.01)
    return not place.here


def test_who_takes_nothing_is_cut_off(place: Place) -> None:
    visitor = Visitor(place.port, narrow=True)
    visitor.receive()
    assert place.here == 1
    assert bad.until_cut(visitor.line, 10) > 0.8 * SHORT
    assert left(place)


def test_who_takes_slowly_is_not(place: Place) -> None:
    visitor = Visitor(place.port)
    end = time.monotonic() + 5 * SHORT
    while time.monotonic() < end:
        visitor.receive()
        time.sleep(0.002)
    assert place.here == 1
    visitor.line.close()
    assert left(place)


def test_a_flood_of_pings_fills_no_memory(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "MOST_WAITING", 1 << 18)
    monkeypatch.setattr(patience, "TAKING", 60.0)
    visitor = Visitor(place.port, narrow=True)
    with contextlib.suppress(OSError):
        for _ in range(100_000):
            visitor.line.sendall(framed(b"x" * 100, PING) * 100)
    bad.until_cut(visitor.line, 1)
    assert left(place)


def test_a_download_that_nobody_takes_is_cut_off(place: Place) -> None:
    line = bad.connect(place.port, narrow=True)
    line.sendall(b"GET /file HTTP/1.1\r\nHost: here\r\n\r\n")
    while not place.here:
        time.sleep(0.01)
    bad.until_cut(line, 10)
    assert left(place)


@pytest.mark.parametrize("asked", [b"", b"GET / HTTP/1.1\r\nHo"])
def test_who_asks_nothing_whole_is_cut_off(place: Place, asked: bytes) -> None:
    line = bad.connect(place.port)
    line.sendall(asked)
    assert 0.8 * SHORT < bad.until_cut(line, 10) < 10 * SHORT
    line = bad.connect(place.port)
    line.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
    answer = b""
    while not answer.endswith(b"here"):
        answer += line.recv(1000)
    line.sendall(b"GET / HTTP/1.1\r\nHo")  # begins, and leaves it at that
    bad.until_cut(line, 10)
