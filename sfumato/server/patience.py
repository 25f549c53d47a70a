"""How long a connection may hold things up: who takes nothing, or asks nothing whole, is cut off.

Otherwise a visitor whose machine fell asleep, or who vanished without a word, holds a session for
as long as the system goes on hoping: a quarter of an hour, or for ever where it acknowledges.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol
from uvicorn.protocols.websockets.auto import AutoWebSocketsProtocol

TAKING = 10.0  # seconds in which something must be taken of what waits for a visitor
LOADING = 60.0  # the same where a file is being fetched, which may be slow
ASKING = 20.0  # seconds in which a whole request must come, or a closing connection close
MOST_WAITING = 1 << 23  # bytes for a visitor who asks on and on, and takes nothing
_UNSENT = 1 << 17  # bytes that wait in the system: megabytes there would be seconds of delay
_CLOSING, _UNASKED = "closing", "unasked"


class _Patience(asyncio.Protocol):
    """Goes before a protocol of uvicorn's."""

    transport: asyncio.Transport
    _taking: asyncio.TimerHandle | None = None
    _looking: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        line: socket.socket | None = transport.get_extra_info("socket")
        if line is not None and hasattr(socket, "TCP_NOTSENT_LOWAT"):
            with contextlib.suppress(OSError):
                line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT)
        self._look_later(self._stuck())

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._taking, self._looking):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._wait()

    def resume_writing(self) -> None:
        if self._taking is not None:
            self._taking.cancel()
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        if self.transport.get_write_buffer_size() > MOST_WAITING:
            self._cut()
        else:
            super().data_received(data)

    def _patience(self) -> float:
        return TAKING

    def _wait(self) -> None:
        loop, waiting = asyncio.get_running_loop(), self.transport.get_write_buffer_size()
        self._taking = loop.call_later(self._patience(), self._waited, waiting)

    def _waited(self, before: int) -> None:
        if self.transport.get_write_buffer_size() < before:
            self._wait()
        else:
            self._cut()

    def _cut(self) -> None:
        line: socket.socket | None = self.transport.get_extra_info("socket")
        if line is not None:
            with contextlib.suppress(OSError):  # what waits in the system goes too: a reset
                line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def _look_later(self, before: object) -> None:
        loop = asyncio.get_running_loop()
        self._looking = loop.call_later(ASKING, self._look, before)

    def _look(self, before: object) -> None:
        if self.transport.get_protocol() is not self:  # it became a WebSocket
            return
        now = self._stuck()
        if now is not None and now == before:
            self._cut()
        else:
            self._look_later(now)

    def _stuck(self) -> object:
        """What it hangs on; None is nothing. The same twice is the end."""
        return _CLOSING if self.transport.is_closing() else None


class _Asked(_Patience):
    """The same before a request and between two."""

    cycle: Any  # of uvicorn's: the request that is answered, or the last one; None before the first

    def _patience(self) -> float:
        return LOADING

    def _stuck(self) -> object:
        if self.transport.is_closing():
            return _CLOSING
        if self.cycle is None:
            return _UNASKED
        return self.cycle if self.cycle.response_complete else None


def protocols() -> tuple[type[asyncio.Protocol], type[asyncio.Protocol]]:
    """What uvicorn takes as ``http`` and as ``ws``."""
    sockets: Any = AutoWebSocketsProtocol
    return (
        type("PatientHttp", (_Asked, AutoHTTPProtocol), {}),
        type("PatientWebSocket", (_Patience, sockets), {}),
    )
