"""What a visitor and a face say to each other, whatever carries it (docs/protocol.md)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from secrets import token_urlsafe
from typing import Any

import numpy as np

from sfumato import protocol
from sfumato.controls import MotionOptions
from sfumato.errors import InputError, SfumatoError
from sfumato.live import LiveFrame, LiveSession
from sfumato.pace import Quality
from sfumato.protocol import Kind
from sfumato.render.badge import TEXT
from sfumato.server.recording import Finished, Recording
from sfumato.server.room import Room
from sfumato.timebase import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME

_LOG = logging.getLogger(__name__)
HELLO_SECONDS = 10.0  # that a visitor may take to say hello
MOST_SPEECH = 120.0  # seconds that may wait to be spoken
_MOST_TASKS = 8  # sentences and recordings that are on their way
_LATE = 1 / FPS  # seconds after its time, beyond which a frame is late
_FAULT = "a fault of the server: its log says more"

Send = Callable[[bytes], Coroutine[Any, Any, None]]


class VersionError(InputError):
    """The visitor speaks another version of the protocol."""


class LeftError(Exception):
    """The visitor has gone."""


async def first_of(*works: Coroutine[Any, Any, object]) -> None:
    """Do all of them at a time until one ends; what that one raised is raised."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in ended:
        task.result()


class Conversation:
    """One visitor's session. An async context manager, begun by the visitor's hello.

    Args:
        room: where it is held.
        send: sends a message to the visitor; raises LeftError where nobody is left.

    Attributes:
        id: names the session.
        session: the face, once :meth:`begin` was called.
    """

    def __init__(self, room: Room, send: Send) -> None:
        self.id = token_urlsafe(9)
        self.session: LiveSession | None = None
        self._room = room
        self._send = send
        self._stack = contextlib.AsyncExitStack()
        self._size = 0  # side of the pictures
        self._options = MotionOptions()
        self._recording: Recording | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._sentences: deque[tuple[str, str]] = deque()  # that wait: text and voice
        self._reading = False
        self._epoch = 0  # moves on with every interruption

    async def __aenter__(self) -> Conversation:
        return self

    async def __aexit__(self, *failure: object) -> None:
        for task in self._tasks:
            task.cancel()
        if self._recording is not None:
            await asyncio.to_thread(self._recording.abandon)
        await self._stack.aclose()

    async def begin(self, data: bytes) -> LiveSession:
        """Take up the visitor's hello.

        Raises:
            VersionError: No hello, or of another version.
            SfumatoError: No such portrait, or options out of range.
        """
        if not data or data[0] != Kind.HELLO:
            raise VersionError("the first message must be hello, see docs/protocol.md")
        hello = protocol.content(data[1:])
        if hello.get("version") != protocol.VERSION:
            raise VersionError(
                f"version {hello.get('version')} of the protocol: this server speaks "
                f"{protocol.VERSION}"
            )
        seed = hello.get("seed", 0)
        if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
            raise InputError(f"seed is {seed!r}: choose a number from 0")
        self._options = MotionOptions.from_json(hello.get("options", {}))
        portrait = _text(hello, "portrait", self._room.portraits.first)
        avatar = await self._room.portraits.get(portrait)
        self._size = avatar.portrait.canvas.size
        loop = asyncio.get_running_loop()

        def tell_quality(quality: Quality) -> None:
            loop.call_soon_threadsafe(self._later, self._state({"quality": str(quality)}))

        session = LiveSession(avatar, seed=seed, options=self._options, on_quality=tell_quality)
        self.session = await self._stack.enter_async_context(session)
        answer = {
            "version": protocol.VERSION,
            "session": self.id,
            "fps": FPS,
            "sample_rate": SAMPLE_RATE,
            "samples_per_frame": SAMPLES_PER_FRAME,
            "size": self._size,
            "latency_frames": session.latency_frames,
            "mark": TEXT,
            "portrait": portrait,
            "options": self._options.to_json(),
        }
        await self._send(protocol.message(Kind.HELLO, answer))
        return session

    async def receive(self, data: bytes) -> None:
        """A message of the visitor's; what is wrong with it is told to the visitor."""
        try:
            await self._take(data)
        except SfumatoError as error:
            await self._complain(str(error))
        await asyncio.sleep(0)  # a flood of messages lets others go on

    async def frames(self) -> AsyncIterator[LiveFrame]:
        """The face's frames as they are due, recorded and counted on the way."""
        assert self.session is not None
        tally = _Tally(self.session)
        async for frame in self.session:
            if self._recording is not None:
                self._recording.add(frame.image, frame.samples, frame.photo)
            self._room.metrics.frame(frame.delay)
            yield frame
            if (stats := tally.after(frame)) is not None:
                await self._state({"stats": stats})

    async def _take(self, data: bytes) -> None:
        session = self.session
        if session is None or not data:
            return
        kind, body = data[0], data[1:]
        if kind in {Kind.SOUND, Kind.SPEECH}:
            samples = protocol.from_pcm(body)
            if len(samples) > protocol.MOST_SAMPLES:
                raise InputError(
                    f"{len(samples)} samples in one message: send at most {protocol.MOST_SAMPLES}"
                )
            self._speak(samples, realtime=kind == Kind.SOUND)
        elif kind == Kind.END:
            session.end_segment()
        elif kind == Kind.CONTROL:
            await self._control(session, protocol.content(body))

    def _speak(self, samples: protocol.Samples, *, realtime: bool) -> None:
        assert self.session is not None
        if not realtime and self.session.waiting > MOST_SPEECH:
            raise InputError(
                f"more than {MOST_SPEECH:.0f} seconds of speech wait: send it as it is spoken"
            )
        self.session.push(samples, realtime=realtime)

    async def _control(self, session: LiveSession, wishes: dict[str, Any]) -> None:
        if wishes.get("interrupt"):
            self._epoch += 1
            self._sentences.clear()
            session.interrupt()
        if "options" in wishes:
            self._options = MotionOptions.from_json(wishes["options"], self._options)
            session.steer(self._options)
            await self._state({"options": self._options.to_json()})
        if "portrait" in wishes:
            portrait = _text(wishes, "portrait", "")
            session.show(await self._room.portraits.get(portrait))
            await self._state({"portrait": portrait})
        if "say" in wishes:
            self._check_tasks()
            self._say(_text(wishes, "say", ""), _text(wishes, "voice", ""))
        if "record" in wishes:
            self._check_tasks()
            await self._record(bool(wishes["record"]))
        if "ping" in wishes:
            await self._state({"pong": wishes["ping"]})

    def _check_tasks(self) -> None:
        if len(self._tasks) + len(self._sentences) >= _MOST_TASKS:
            raise InputError(
                f"{_MOST_TASKS} sentences and recordings are on their way: wait for them"
            )

    def _say(self, text: str, voice: str) -> None:
        """Speak a text after those that wait, on the side, so that the visitor can go on."""
        self._sentences.append((text, voice))
        if not self._reading:
            self._reading = True
            self._later(self._read())

    async def _read(self) -> None:
        """Speak the texts that wait, one after the other."""
        try:
            while self._sentences:
                await self._safely(self._spoken(*self._sentences.popleft()))
        finally:
            self._reading = False

    async def _spoken(self, text: str, voice: str) -> None:
        """Speak one text, or tell what is wrong with it, unless it is interrupted meanwhile."""
        assert self.session is not None
        epoch = self._epoch
        try:
            samples = await asyncio.to_thread(self._room.voices.synthesise, voice or None, text)
        except SfumatoError:
            if epoch == self._epoch:
                raise
            return
        if epoch == self._epoch:
            self._speak(samples, realtime=False)
            self.session.end_segment()

    async def _record(self, on: bool) -> None:
        recording, self._recording = self._recording, None
        if recording is not None:
            self._later(self._told(self._finish(recording)))
        if on:
            self._recording = self._room.recordings.start(self._size)
            await self._state({"recording": True})

    def _finish(self, recording: Recording) -> asyncio.Future[Finished]:
        """Begun at once and never given up: otherwise it would stay open where a visitor leaves."""
        loop = asyncio.get_running_loop()
        finishing = loop.run_in_executor(None, self._room.recordings.finish, recording)
        finishing.add_done_callback(lambda done: done.cancelled() or done.exception())
        return finishing

    async def _told(self, finishing: asyncio.Future[Finished]) -> None:
        done = await asyncio.shield(finishing)
        url = f"/api/recordings/{done.id}"
        await self._state({"recording": {"url": url, "seconds": round(done.seconds, 2)}})

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        """Do it on the side; what goes wrong is told to the visitor."""
        task = asyncio.get_running_loop().create_task(self._safely(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _safely(self, work: Coroutine[Any, Any, None]) -> None:
        """Do it; what goes wrong is told to the visitor."""
        with contextlib.suppress(LeftError):
            try:
                await work
            except SfumatoError as error:
                await self._complain(str(error))
            except LeftError:
                raise
            except Exception:
                _LOG.exception("live session %s: a fault", self.id)
                await self._complain(_FAULT)

    async def _state(self, changes: dict[str, Any]) -> None:
        await self._send(protocol.message(Kind.STATE, changes))

    async def _complain(self, error: str) -> None:
        await self._send(protocol.message(Kind.ERROR, {"error": " ".join(error.split())}))


class _Tally:
    """Figures of the last second and of the session.

    Args:
        session: whose frames are counted.
        clock: seconds.
    """

    def __init__(self, session: LiveSession, clock: Callable[[], float] = time.monotonic) -> None:
        self._session = session
        self._clock = clock
        self._began = self._last = clock()
        self._frames = self._late = self._fresh = 0
        self._delays: deque[float] = deque(maxlen=FPS)

    def after(self, frame: LiveFrame) -> dict[str, Any] | None:
        """Count a frame; figures once a second."""
        now = self._clock()
        self._late += self._frames > 0 and now - self._last > 1 / FPS + _LATE
        self._last = now
        self._frames += 1
        self._fresh += frame.fresh
        if frame.delay is not None:
            self._delays.append(1000 * frame.delay)
        if now - self._began < 1:
            return None
        stats = {
            "fps": round(self._fresh / (now - self._began), 1),
            "delay_ms": round(float(np.median(self._delays))) if self._delays else None,
            "late": self._late,
            "waiting_s": round(self._session.waiting, 2),
            "skipped_s": round(self._session.skipped, 2),
        }
        self._began, self._fresh = now, 0
        self._delays.clear()
        return stats


def _text(message: dict[str, Any], key: str, default: str) -> str:
    value = message.get(key, default)
    if not isinstance(value, str):
        raise InputError(f'"{key}" is {value!r}: say a text')
    return value
