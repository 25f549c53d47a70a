"""Live sessions over a WebSocket: the messages of docs/protocol.md, pictures as JPEG."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from concurrent.futures import ThreadPoolExecutor

from fastapi import APIRouter, WebSocket, WebSocketDisconnect

from sfumato import machine
from sfumato.errors import InputError, SfumatoError
from sfumato.live import LiveFrame
from sfumato.media.image import jpeg
from sfumato.protocol import Packet
from sfumato.server.conversation import (
    HELLO_SECONDS,
    Conversation,
    LeftError,
    VersionError,
    first_of,
)
from sfumato.server.guard import same_host
from sfumato.server.house import House
from sfumato.server.portraits import UnknownPortraitError
from sfumato.server.process import LOST
from sfumato.server.relay import carry
from sfumato.server.room import Room
from sfumato.server.seats import FullError

router = APIRouter()

_LOG = logging.getLogger(__name__)

MOST_MESSAGE = 1 << 20  # bytes
# Threads of their own: what others wait for in the common ones must not hold up pictures.
_PACKERS = ThreadPoolExecutor(machine.cores(), "sfumato-pack")
_PROTOCOL, _POLICY, _FAULT, _FULL = 1002, 1008, 1011, 1013
_BAD_HELLO, _NO_PORTRAIT = 4000, 4004
_MOST_REASON = 120  # bytes that a closing frame has for its reason


class TextError(InputError):
    """A message is text, which the protocol has none of."""


@router.websocket("/live")
async def live(socket: WebSocket) -> None:
    """One visitor, from hello to goodbye."""
    house: House = socket.app.state.house
    await socket.accept()
    if not same_host(socket.headers):
        await close(socket, _POLICY, "pages of other hosts may not use this server")
        return
    try:
        await house.seats.settle()
        with house.seat() as worker:
            end = await (talk(socket, house) if worker is None else carry(socket, worker))
    except FullError as error:
        house.metrics.refused()
        end = _FULL, str(error)
    if end is not None:
        await close(socket, *end)


async def talk(socket: WebSocket, room: Room) -> tuple[int, str] | None:
    """One visitor, from hello to goodbye.

    Args:
        socket: accepted.
        room: where it is held.

    Returns:
        Code and reason to close with; None: the visitor has gone.
    """
    conversation = Conversation(room, functools.partial(_send, socket))
    try:
        async with conversation:
            refusal = await _begun(socket, conversation)
            if refusal is None:
                await first_of(_show(socket, conversation), _hear(socket, conversation))
            return refusal
    except LeftError:
        return None
    except TextError as error:
        return _PROTOCOL, str(error)
    except Exception:
        _LOG.exception("live session %s is lost", conversation.id)
        return _FAULT, LOST


async def _begun(socket: WebSocket, conversation: Conversation) -> tuple[int, str] | None:
    """Take up the visitor's hello; where that cannot be, code and reason to close with."""
    try:
        hello = await asyncio.wait_for(_received(socket), HELLO_SECONDS)
    except TimeoutError:
        return _PROTOCOL, f"no hello within {HELLO_SECONDS:.0f} seconds"
    try:
        await conversation.begin(hello)
    except VersionError as error:
        return _PROTOCOL, str(error)
    except UnknownPortraitError as error:
        return _NO_PORTRAIT, str(error)
    except SfumatoError as error:
        return _BAD_HELLO, str(error)
    return None


async def _show(socket: WebSocket, conversation: Conversation) -> None:
    loop = asyncio.get_running_loop()
    async for frame in conversation.frames():
        await _send(socket, await loop.run_in_executor(_PACKERS, _packed, frame))


async def _hear(socket: WebSocket, conversation: Conversation) -> None:
    while True:
        await conversation.receive(await _received(socket))


async def _received(socket: WebSocket) -> bytes:
    """The visitor's next message.

    Raises:
        LeftError: There is none any more.
        TextError: It is no binary one.
    """
    try:
        message = await socket.receive()
    except RuntimeError:  # it was closed while something was being sent
        raise LeftError from None
    if message["type"] == "websocket.disconnect":
        raise LeftError
    data: bytes | None = message.get("bytes")
    if data is None:
        raise TextError("messages are binary, see docs/protocol.md")
    return data


async def _send(socket: WebSocket, data: bytes) -> None:
    try:
        await socket.send_bytes(data)
    except (WebSocketDisconnect, RuntimeError):  # the latter where it was closed before
        raise LeftError from None


def _packed(frame: LiveFrame) -> bytes:
    picture = jpeg(frame.image) if frame.fresh else b""
    return Packet(frame.index, frame.speech > 0, frame.ends, frame.samples, picture).pack()


async def close(socket: WebSocket, code: int, reason: str) -> None:
    """Close it, saying why in one line."""
    words = " ".join(reason.split()).encode(errors="replace")
    text = words[:_MOST_REASON].decode(errors="ignore")
    with contextlib.suppress(RuntimeError, WebSocketDisconnect):
        await socket.close(code, text)
