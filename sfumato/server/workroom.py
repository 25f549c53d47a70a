"""What a worker does: live sessions over its server's connections, portraits fetched from there."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import pickle
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from secrets import compare_digest
from typing import Any, BinaryIO
from weakref import WeakValueDictionary

import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from sfumato import avatar
from sfumato.avatar import Avatar, Studio
from sfumato.server import rtc
from sfumato.server.errors import RequestError
from sfumato.server.memory import give_back
from sfumato.server.metrics import Metrics
from sfumato.server.orders import TOKEN, Answer, Forget, Measure, Order, Report, Rest, Setup
from sfumato.server.portraits import LADY, UnknownPortraitError
from sfumato.server.recording import Recordings
from sfumato.server.seats import drawn
from sfumato.server.settings import ServerSettings
from sfumato.server.socket import MOST_MESSAGE, close, talk
from sfumato.server.voices import Voices
from sfumato.timebase import SAMPLES_PER_FRAME

_WARM = 5  # frames
_GOODBYE_SECONDS = 2  # that sessions get to end
_BUFFER = 1 << 16  # bytes on their way to the server; frames that wait there would come late

Tell = Callable[[dict[str, Any]], None]


class FetchedPortraits:
    """Portraits of the server, as a worker has them. For one event loop.

    Args:
        studio: makes avatars of them.
        tell: asks the server, see :mod:`sfumato.server.orders`.
        lady: the portrait that speaks when none was chosen.
        most: others that are kept, those that sessions show not counted.
    """

    first = LADY

    def __init__(self, studio: Studio, tell: Tell, lady: Avatar, most: int) -> None:
        self._studio = studio
        self._tell = tell
        self._lady = lady
        self._most = most
        self._recent: OrderedDict[str, Avatar] = OrderedDict()
        self._alive = WeakValueDictionary({LADY: lady})  # also what sessions show
        self._asked: dict[int, asyncio.Future[Answer]] = {}
        self._numbers = itertools.count()
        self._forgotten = 0

    async def get(self, name: str) -> Avatar:
        """The avatar of an id. The server is asked every time: it knows what was removed.

        Raises:
            UnknownPortraitError: There is none.
        """
        number, known, forgotten = next(self._numbers), self._alive.get(name), self._forgotten
        self._asked[number] = asyncio.get_running_loop().create_future()
        try:
            self._tell({"wants": name, "has": known is not None, "number": number})
            answer = await self._asked[number]
        finally:
            del self._asked[number]
        if answer.prepared is not None:
            known = await asyncio.to_thread(Avatar, self._studio, answer.prepared)
        if not answer.known or known is None:
            raise UnknownPortraitError(name)
        if forgotten == self._forgotten:  # otherwise it may be this one
            self._keep(name, known)
        return known

    def answered(self, answer: Answer) -> None:
        """What the server says to a question."""
        if (asked := self._asked.get(answer.number)) is not None and not asked.done():
            asked.set_result(answer)

    def forget(self, name: str) -> None:
        """Keep a portrait no longer; sessions that show it go on."""
        self._forgotten += 1
        self._recent.pop(name, None)
        self._alive.pop(name, None)

    def _keep(self, name: str, known: Avatar) -> None:
        self._alive[name] = known
        if known is not self._lady:
            self._recent[name] = known
            self._recent.move_to_end(name)
            while len(self._recent) > self._most:
                self._recent.popitem(last=False)


@dataclass
class Workroom:
    """A :class:`~sfumato.server.room.Room` in a process of its own."""

    settings: ServerSettings
    portraits: FetchedPortraits
    recordings: Recordings
    voices: Voices
    metrics: Metrics


class Desk:
    """Takes orders and tells the server; from a thread of its own, once :meth:`begin` was called.

    Args:
        orders: pickled; answers: lines of JSON, see :mod:`sfumato.server.orders`.
    """

    def __init__(self, orders: BinaryIO, answers: BinaryIO) -> None:
        self.setup: Setup = pickle.load(orders)
        self._orders = orders
        self._answers = answers
        self._lock = threading.Lock()

    def tell(self, content: dict[str, Any]) -> None:
        """Tell the server; from any thread."""
        line = json.dumps(content).encode() + b"\n"
        with self._lock, contextlib.suppress(OSError):  # the server is gone, and so will this be
            self._answers.write(line)
            self._answers.flush()

    def begin(self, room: Workroom, lady: Avatar, over: Callable[[], None]) -> None:
        """Do what is ordered from now on.

        Args:
            room: what is told of orders, in the loop that runs.
            lady: draws what is measured.
            over: called in the loop when there are no more.
        """
        loop = asyncio.get_running_loop()

        def work() -> None:
            with contextlib.suppress(EOFError, pickle.UnpicklingError, OSError):
                while True:
                    order: Order = pickle.load(self._orders)
                    if isinstance(order, Measure):
                        self.tell({"rate": drawn(lady, order.cores)})
                    elif isinstance(order, Rest):
                        give_back()
                    else:
                        loop.call_soon_threadsafe(self._do, order, room)
            with contextlib.suppress(RuntimeError):  # the loop has ended already
                loop.call_soon_threadsafe(over)
            time.sleep(_GOODBYE_SECONDS + 1)
            os._exit(1)

        threading.Thread(target=work, name="sfumato-orders", daemon=True).start()

    def _do(self, order: Report | Answer | Forget, room: Workroom) -> None:
        if isinstance(order, Answer):
            room.portraits.answered(order)
        elif isinstance(order, Forget):
            room.portraits.forget(order.name)
        else:
            self.tell({"report": order.number, "figures": room.metrics.report()})


def work(orders: BinaryIO, answers: BinaryIO) -> None:
    """Run live sessions until there are no more orders."""
    try:
        desk = Desk(orders, answers)
    except (EOFError, pickle.UnpicklingError):  # the server ended before it began
        return
    setup, settings = desk.setup, desk.setup.settings
    studio = avatar.load(setup.threads, alone=True, helpers=True)
    lady = Avatar(studio, setup.lady)
    room = Workroom(
        settings=settings,
        portraits=FetchedPortraits(studio, desk.tell, lady, settings.uploaded),
        recordings=Recordings(setup.recordings, settings.kept, setup.folder),
        voices=Voices(settings.voices),
        metrics=Metrics(studio.crew.processes),
    )
    lady.stream().push(np.zeros(_WARM * SAMPLES_PER_FRAME, np.float32))
    # The protocol is named so that asyncio sees it and sends small messages at once.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
        listener.bind(("127.0.0.1", 0))
        _serve(desk, room, lady, listener)


def _serve(desk: Desk, room: Workroom, lady: Avatar, listener: socket.socket) -> None:
    class Server(uvicorn.Server):
        """Takes orders while it runs, and ends when there are no more."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            desk.begin(room, lady, self._over)
            desk.tell({"port": listener.getsockname()[1]})

        def _over(self) -> None:
            self.should_exit = True

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield  # they are for the server, which ends this

    config = uvicorn.Config(
        _app(room, desk.setup.token),
        log_level="warning",
        access_log=False,
        lifespan="off",
        ws_max_size=MOST_MESSAGE,
        ws_per_message_deflate=False,
        ws_ping_interval=None,  # the server is on this machine: its end is noticed without
        timeout_graceful_shutdown=_GOODBYE_SECONDS,
    )
    Server(config).run(sockets=[listener])


def _app(room: Workroom, token: str) -> Starlette:
    async def live(server: WebSocket) -> None:
        if await _admitted(server, token) and (end := await talk(server, room)) is not None:
            await close(server, *end)

    async def call(server: WebSocket) -> None:
        if await _admitted(server, token):
            await _call(server, room)

    return Starlette(routes=[WebSocketRoute("/live", live), WebSocketRoute("/call", call)])


async def _admitted(server: WebSocket, token: str) -> bool:
    """Whether it is the server: others on this machine could connect as well."""
    if compare_digest(server.headers.get(TOKEN, "").encode(), token.encode()):
        await server.accept()
        return True
    await server.close()
    return False


async def _call(server: WebSocket, room: Workroom) -> None:
    """A session by WebRTC; the server's connection stays open for as long as it lasts."""
    with contextlib.suppress(WebSocketDisconnect, RuntimeError):
        try:
            answer, talking = await rtc.begin(room, rtc.Description(**await server.receive_json()))
        except RequestError as error:
            await server.send_json({"error": str(error), "status": error.status})
            await server.close()
            return
        task = asyncio.create_task(talking)
        try:
            await asyncio.sleep(0)  # it has begun: however it ends, it hangs up
            await server.send_json(answer.model_dump())
            hanging_up = asyncio.create_task(server.receive())
            await asyncio.wait({task, hanging_up}, return_when=asyncio.FIRST_COMPLETED)
            hanging_up.cancel()
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await server.close()
