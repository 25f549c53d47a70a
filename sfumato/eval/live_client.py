"""A visitor that measures: sound at real time over a WebSocket, frames back, each with its delay.

The delay of a frame runs from the moment when the last of its 640 samples was sent to the moment
when its picture is there, decoded. Its first sample was sent 40 ms before that.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from sfumato import protocol
from sfumato.protocol import Kind, Packet
from sfumato.timebase import SAMPLE_RATE, SAMPLES_PER_FRAME, exact_div

BLOCK = exact_div(SAMPLES_PER_FRAME, 2)  # 20 ms, as microphones deliver
_AHEAD = 4 * SAMPLE_RATE  # samples beyond the expected place in which a frame's sound is looked for


@dataclass
class Arrival:
    """A frame that came.

    Attributes:
        when: seconds of the monotonic clock, after decoding.
        index, speech: as sent.
        fresh: it has a picture of its own.
        image: (keep, keep, 3) uint8 RGB, None where pictures are not kept.
        place: of its first sample in what was sent; None for silence.
        delay: seconds, see above.
    """

    when: float
    index: int
    speech: bool
    fresh: bool
    image: np.ndarray | None = None
    place: int | None = None
    delay: float | None = None


@dataclass
class Visit:
    """What a visit gave.

    Attributes:
        connected: when the connection was asked for.
        hello: of the server; closed: why it ended the session, None where it did not.
        arrivals: all frames.
        states: messages of state; errors: of the server.
    """

    connected: float
    arrivals: list[Arrival] = field(default_factory=list)
    states: list[dict[str, Any]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    hello: dict[str, Any] = field(default_factory=dict)
    closed: str | None = None


class Visitor:
    """An open session. An async context manager.

    Args:
        url: ws://HOST:PORT/live.
        hello: more for the first message, like the portrait.
        keep: side in pixels to which pictures are shrunk and kept; 0 keeps none.
    """

    def __init__(self, url: str, hello: dict[str, Any] | None = None, *, keep: int = 0):
        self._url, self._hello, self._keep = url, hello or {}, keep
        self._sent = bytearray()  # int16 samples
        self._times: list[float] = []  # when each block of them went out
        self._next = 0  # byte from which the next frame's sound is looked for
        self.visit = Visit(time.monotonic())
        self.changed = asyncio.Event()

    async def __aenter__(self) -> Visitor:
        self._socket: ClientConnection = await connect(self._url, max_size=2**24)
        first = {"version": protocol.VERSION} | self._hello
        with contextlib.suppress(ConnectionClosed):  # refused: the reason is read below
            await self._socket.send(protocol.message(Kind.HELLO, first))
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self._socket.close()
        await self._reading

    async def speak(self, samples: np.ndarray) -> None:
        """Send (n,) float32 at real time, in blocks of 20 ms."""
        begin = time.monotonic()
        for number in range(1, len(samples) // BLOCK + 1):
            # A block of a microphone is there when its last sample is.
            wait = begin + number * BLOCK / SAMPLE_RATE - time.monotonic()
            if wait > 0:
                await asyncio.sleep(wait)
            block = protocol.to_pcm(samples[(number - 1) * BLOCK : number * BLOCK])
            self._sent += block
            self._times.append(time.monotonic())
            await self._socket.send(bytes([Kind.SOUND]) + block)

    async def control(self, **wishes: Any) -> None:
        """Send a control message."""
        await self._socket.send(protocol.message(Kind.CONTROL, wishes))

    async def say(self, samples: np.ndarray) -> None:
        """Send (n,) float32 at once, as speech that was made beforehand."""
        for start in range(0, len(samples), protocol.MOST_SAMPLES):
            part = samples[start : start + protocol.MOST_SAMPLES]
            await self._socket.send(bytes([Kind.SPEECH]) + protocol.to_pcm(part))
        await self._socket.send(bytes([Kind.END]))

    async def until(self, true: Any, seconds: float) -> bool:
        """Wait until ``true(visit)``, at most so long."""
        end = time.monotonic() + seconds
        while not true(self.visit):
            left = end - time.monotonic()
            if left <= 0 or self.visit.closed is not None:
                return False
            self.changed.clear()
            try:
                await asyncio.wait_for(self.changed.wait(), left)
            except TimeoutError:
                return bool(true(self.visit))
        return True

    async def _read(self) -> None:
        try:
            await self._take_all()
        except ConnectionClosed as closed:
            self.visit.closed = closed.rcvd.reason if closed.rcvd is not None else "cut off"
        self.changed.set()

    async def _take_all(self) -> None:
        async for data in self._socket:
            assert isinstance(data, bytes)
            kind, body = data[0], data[1:]
            if kind == Kind.FRAME:
                self._arrive(Packet.unpack(body))
            elif kind == Kind.HELLO:
                self.visit.hello = protocol.content(body)
            elif kind == Kind.STATE:
                self.visit.states.append(protocol.content(body))
            elif kind == Kind.ERROR:
                self.visit.errors.append(protocol.content(body)["error"])
            self.changed.set()

    def _arrive(self, packet: Packet) -> None:
        picture = None
        if packet.picture:
            picture = cv2.imdecode(np.frombuffer(packet.picture, np.uint8), cv2.IMREAD_COLOR_RGB)
        arrival = Arrival(time.monotonic(), packet.index, packet.speech, picture is not None)
        if picture is not None and self._keep:
            side = (self._keep, self._keep)
            arrival.image = cv2.resize(picture, side, interpolation=cv2.INTER_AREA)
        if packet.speech:
            self._place(arrival, packet)
        self.visit.arrivals.append(arrival)

    def _place(self, arrival: Arrival, packet: Packet) -> None:
        """Find the frame's sound in what was sent: it comes back unchanged."""
        pcm = protocol.to_pcm(packet.samples)
        at = self._sent.find(pcm, self._next, self._next + len(pcm) + 2 * _AHEAD)
        if at < 0:
            return
        self._next = at + len(pcm)
        arrival.place = at // 2
        arrival.delay = arrival.when - self._times[(self._next // 2 - 1) // BLOCK]
