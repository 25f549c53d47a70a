"""Live sessions over a WebSocket: the messages of docs/protocol.md, pictures as JPEG."""

from __future__ import annotations

import asyncio
import contextlib
import os
from concurrent.futures import ThreadPoolExecutor

from fastapi import APIRouter, WebSocket, WebSocketDisconnect

from sfumato.errors import SfumatoError
from sfumato.live import LiveFrame
from sfumato.media.image import jpeg
from sfumato.protocol import Packet
from sfumato.server.conversation import HELLO_SECONDS, Conversation, VersionError
from sfumato.server.guard import same_host
from sfumato.server.house import House
from sfumato.server.portraits import UnknownPortraitError
from sfumato.server.relay import carry
from sfumato.server.room import Room
from sfumato.server.seats import FullError

router = APIRouter()

MOST_MESSAGE = 1 << 20  # bytes
# Threads of their own: what others wait for in the common ones must not hold up pictures.
_PACKERS = ThreadPoolExecutor(os.cpu_count(), "sfumato-pack")
_PROTOCOL, _POLICY, _FULL, _NO_PORTRAIT, _BAD_HELLO = 1002, 1008, 1013, 4004, 4000
_MOST_REASON = 120  # bytes that a closing frame has for its reason


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
    try:
        return await _serve(socket, room)
    except TimeoutError:
        return _PROTOCOL, f"no hello within {HELLO_SECONDS:.0f} seconds"
    except VersionError as error:
        return _PROTOCOL, str(error)
    except UnknownPortraitError as error:
        return _NO_PORTRAIT, str(error)
    except SfumatoError as error:
        return _BAD_HELLO, str(error)
    except (WebSocketDisconnect, RuntimeError):
        return None  # perhaps while something was being sent


async def _serve(socket: WebSocket, room: Room) -> tuple[int, str]:
    async with Conversation(room, socket.send_bytes) as conversation:
        hello = await asyncio.wait_for(socket.receive_bytes(), HELLO_SECONDS)
        await conversation.begin(hello)
        showing = asyncio.create_task(_show(socket, conversation))
        try:
            while True:
                await conversation.receive(await socket.receive_bytes())
        except KeyError:
            return _PROTOCOL, "messages are binary, see docs/protocol.md"
        finally:
            showing.cancel()
            with contextlib.suppress(asyncio.CancelledError, WebSocketDisconnect, RuntimeError):
                await showing


async def _show(socket: WebSocket, conversation: Conversation) -> None:
    loop = asyncio.get_running_loop()
    async for frame in conversation.frames():
        await socket.send_bytes(await loop.run_in_executor(_PACKERS, _packed, frame))


def _packed(frame: LiveFrame) -> bytes:
    picture = jpeg(frame.image) if frame.fresh else b""
    return Packet(frame.index, frame.speech > 0, frame.ends, frame.samples, picture).pack()


async def close(socket: WebSocket, code: int, reason: str) -> None:
    """Close it, saying why in one line."""
    words = " ".join(reason.split()).encode(errors="replace")
    text = words[:_MOST_REASON].decode(errors="ignore")
    with contextlib.suppress(RuntimeError, WebSocketDisconnect):
        await socket.close(code, text)
