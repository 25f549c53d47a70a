"""Carries what a visitor and a worker say to each other; neither notices that it is not the other.

Messages go as they come. Where one side takes them slowly the other is slowed down as if it were
connected directly, but for a few frames that are on their way.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Coroutine
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from sfumato.server.errors import RequestError
from sfumato.server.process import LOST, LostError, Process

_LEFT, _FAULT = 1001, 1011
_NO_CODES = {1004, 1005, 1006, 1015}  # that no message of closing can have


async def carry(visitor: WebSocket, worker: Process) -> tuple[int, str] | None:
    """A session over a WebSocket, from the visitor's first message to the end.

    Returns:
        Code and reason with which the worker ended it; None: the visitor did.
    """
    try:
        connection = await worker.connect("/live")
    except LostError as error:
        return _FAULT, str(error)
    async with connection:
        leaving = asyncio.create_task(_to_worker(visitor, connection))
        ending = asyncio.create_task(_to_visitor(visitor, connection))
        try:
            await asyncio.wait({leaving, ending}, return_when=asyncio.FIRST_COMPLETED)
            return None if leaving.done() else ending.result()
        finally:
            for task in (leaving, ending):
                task.cancel()
            await asyncio.gather(leaving, ending, return_exceptions=True)


async def _to_worker(visitor: WebSocket, connection: ClientConnection) -> None:
    """Until the visitor leaves."""
    while True:
        message = await visitor.receive()
        if message["type"] == "websocket.disconnect":
            await connection.close(_sayable(message.get("code")), message.get("reason") or "")
            return
        data = message.get("bytes")
        with contextlib.suppress(ConnectionClosed):  # what it said before is still carried
            await connection.send(message["text"] if data is None else data)
        await asyncio.sleep(0)  # a flood of messages lets others go on


async def _to_visitor(visitor: WebSocket, connection: ClientConnection) -> tuple[int, str] | None:
    """Until the worker ends it; None: the visitor has gone."""
    try:
        async for data in connection:
            await visitor.send_bytes(data if isinstance(data, bytes) else data.encode())
    except ConnectionClosed:
        pass
    except (WebSocketDisconnect, RuntimeError):
        return None
    code = connection.close_code
    if code is None or code in _NO_CODES:
        return _FAULT, LOST
    return code, connection.close_reason or LOST


def _sayable(code: int | None) -> int:
    """The code, or that of somebody who is gone where there was none."""
    may = code is not None and (1000 <= code < 1015 or 3000 <= code < 5000)
    return code if code is not None and may and code not in _NO_CODES else _LEFT


async def call(
    worker: Process, offer: dict[str, Any]
) -> tuple[dict[str, Any], Coroutine[Any, Any, None]]:
    """A session by WebRTC: its sound and pictures do not come this way, only the agreement does.

    Args:
        worker: runs it.
        offer: of the visitor.

    Returns:
        The answer, and what to wait for: the end of the session.

    Raises:
        RequestError: The offer cannot be used, or the worker was lost.
    """
    try:
        connection = await worker.connect("/call")
        try:
            await connection.send(json.dumps(offer))
            answer: dict[str, Any] = json.loads(await connection.recv())
        except BaseException:
            await connection.close()
            raise
    except (ConnectionClosed, LostError):
        raise RequestError(503, LOST) from None
    if "error" in answer:
        await connection.close()
        raise RequestError(answer["status"], answer["error"])

    async def lasting() -> None:
        async with connection:
            await connection.wait_closed()

    return answer, lasting()
